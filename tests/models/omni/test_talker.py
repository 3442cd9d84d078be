"""The talker: a reply at once is what it is step by step, and learning reaches what it should."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from antiphon.models.omni import weights
from antiphon.models.omni.config import OmniConfig
from antiphon.models.omni.talker import Talker
from tests.models.omni.tiny import ours, theirs, values


def reply(seed: int = 0):
    source = torch.Generator().manual_seed(seed)
    read, speaker, first = (torch.randn(*shape, 32, generator=source) for shape in ((9,), (), ()))
    following = torch.randn(5, 32, generator=source)
    return read, speaker, first, following, torch.randint(70, (12,), generator=source)


@torch.no_grad()
def test_a_reply_at_once_is_what_it_is_step_by_step():
    talker = ours().talker
    read, speaker, first, following, codes = reply()
    begun = talker.begin(read, speaker, first)
    x, target = talker.teacher_forced(begun, following, codes)
    places = torch.arange(3, 3 + len(x)).expand(3, 1, -1)
    at_once = talker.logits(talker(x[None], places))[0]
    cache, found = talker.lm.init_cache(), []
    found.append(talker.logits(talker(begun[None], places[..., : len(begun)], cache))[0, -1])
    for number, code in enumerate(codes):
        step = talker.next(code[None], following[min(number, 4)][None])
        place = len(begun) + number
        found.append(talker.logits(talker(step[None], places[..., place : place + 1], cache))[0, 0])
    assert torch.allclose(at_once[target >= 0], torch.stack(found), atol=1e-5)
    assert target[target >= 0].tolist() == [*codes.tolist(), 74]
    assert int((target >= 0).nonzero()[0]) == len(begun) - 1


def test_learning_reaches_all_of_it_and_what_the_thinker_gave():
    talker = ours().talker.requires_grad_(True)
    read, speaker, first, following, codes = (each.requires_grad_(each.is_floating_point()) for each in reply())
    x, target = talker.teacher_forced(talker.begin(read, speaker, first), following, codes)
    logits = talker.logits(talker(x[None], torch.arange(len(x)).expand(3, 1, -1)))[0]
    F.cross_entropy(logits, target, ignore_index=-100).backward()
    for name, parameter in talker.named_parameters():
        assert bool(parameter.grad.abs().sum() > 0), name
    for given in (read, speaker, first, following):
        assert bool(given.grad.abs().sum() > 0) and bool(given.grad.isfinite().all())


@torch.no_grad()
def test_logits_are_those_of_transformers():
    model = theirs()
    talker = Talker(OmniConfig.from_dict(values()).talker).eval()
    talker.load_state_dict({
        weights.ours(f"talker.{key}").removeprefix("talker."): value for key, value in model.talker.state_dict().items()
    })  # fmt: skip
    read, speaker, first, following, codes = reply()
    given = torch.cat([read, speaker[None], first[None]])[None]
    ids = torch.zeros(1, 11, dtype=torch.long)
    begun = talker.begin(read, speaker, first)
    x, _ = talker.teacher_forced(begun, following, codes)
    found = talker.logits(talker(x[None], torch.arange(len(x)).expand(3, 1, -1)))[0]
    out = model.talker(
        inputs_embeds=given.clone(), attention_mask=torch.ones(1, 11), input_text_ids=ids, use_cache=True
    )
    wanted, cache = [out.logits[0]], out.past_key_values
    for number, code in enumerate(codes):
        out = model.talker(
            input_ids=code[None, None], attention_mask=torch.ones(1, 12 + number), past_key_values=cache,
            thinker_reply_part=following[None, min(number, 4) :], use_cache=True,
        )  # fmt: skip
        wanted.append(out.logits[0])
    wanted = torch.cat(wanted)
    assert wanted.abs().max() > 0.3
    assert (found - wanted).abs().max() < 1e-4
