"""The whole model: what `transformers` writes and says; and it goes on, is left and is cut as a conversation is."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from antiphon.errors import ModelError
from antiphon.models.llm.sampling import TokenSampling
from antiphon.models.omni import weights
from antiphon.models.omni.model import ReplySettings, Spoken, Written
from antiphon.models.omni.thinker import Heard, Words, batched
from antiphon.nn.state import fork
from tests.models.omni.tiny import DIT, END, inputs, random_parts, save, theirs, values
from tests.models.omni.tiny import ours as ours_alone

GREEDY = ReplySettings(max_tokens=12, max_codes=30, ends=(END,), speaking=TokenSampling(repetition=1.05))


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    model = theirs()
    return weights.load(save(model, tmp_path_factory.mktemp("omni"))), model


@pytest.fixture(scope="module")
def endless():
    """A model that never ends by itself: the ends are less likely than what is likeliest."""
    model = ours_alone()
    model.talker.lm.lm_head.weight.data[list(model.talker.ends)] = 0
    return model


def mix(seed: int):
    own_sound = bool(seed % 2)
    return random_parts(random.Random(seed), own_sound), own_sound


def check_logits(pair, seed: int) -> None:
    ours, model = pair
    parts, own_sound = mix(seed)
    read = ours.thinker.read(parts)
    hidden = ours.thinker(*batched([read]))
    wanted = model.thinker(**inputs(model, parts, own_sound)).logits
    assert wanted.abs().max() > 0.5
    assert (ours.thinker.logits(hidden) - wanted).abs().max() < 1e-4, seed


def check_reply(pair, seed: int) -> None:
    """Text and codes; the codes that `transformers` said are caught on their way to the sound."""
    ours, model = pair
    parts, own_sound = mix(seed)
    caught = []
    given = inputs(model, parts, own_sound)
    given = {f"thinker_{key}" if key.startswith("pixel") else key: value for key, value in given.items()}
    said = model.token2wav.forward
    model.token2wav.forward = lambda code, **settings: caught.append(code) or torch.zeros(1)
    sequences, _ = model.generate(
        **given, speaker="anna", thinker_max_new_tokens=12, thinker_do_sample=False,
        thinker_eos_token_id=END, talker_do_sample=False, talker_max_new_tokens=30, talker_eos_token_id=[72, 74],
    )  # fmt: skip
    model.token2wav.forward = said
    state = ours.init_state()
    ours.read(state, parts)
    written = sequences[0, int(state.thinker.length) :].tolist()
    events = list(ours.reply(state, "anna", GREEDY))
    assert [event.token for event in events if isinstance(event, Written)] == written, seed
    assert state.codes == caught[0][0].tolist(), seed


@torch.no_grad()
def test_thinker_reads_mixes_as_transformers_does(pair):
    for seed in range(8):
        check_logits(pair, seed)


@pytest.mark.filterwarnings("ignore")
def test_text_and_codes_are_those_of_transformers(pair):
    for seed in range(5):
        check_reply(pair, seed)


@pytest.mark.filterwarnings("ignore")
def test_rows_that_transformers_pads_are_said_as_each_alone(pair):
    """Of rows of unequal lengths `generate` keeps the mask, and nothing has to be given back to the talker."""
    ours, model = pair
    source = torch.Generator().manual_seed(7)
    rows = [torch.randint(270, (length,), generator=source) for length in (14, 23)]
    ids = torch.stack([F.pad(row, (23 - len(row), 0), value=270) for row in rows])
    mask = torch.stack([F.pad(torch.ones_like(row), (23 - len(row), 0)) for row in rows])
    caught, said = [], model.token2wav.forward
    model.token2wav.forward = lambda code, **settings: caught.append(code) or torch.zeros(1)
    sequences, _ = model.generate(
        input_ids=ids, attention_mask=mask, speaker="bert", thinker_max_new_tokens=12, thinker_do_sample=False,
        thinker_eos_token_id=END, thinker_pad_token_id=270, talker_do_sample=False, talker_max_new_tokens=30,
        talker_eos_token_id=[72, 74],
    )  # fmt: skip
    model.token2wav.forward = said
    for row, tokens in enumerate(rows):
        state = ours.init_state()
        ours.read(state, [Words(tokens)])
        list(ours.reply(state, "bert", GREEDY))
        assert state.reply == sequences[row, 23 : 23 + len(state.reply)].tolist()
        assert state.codes == caught[row][0].tolist()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_text_and_codes_of_fifty_mixes_are_those_of_transformers(pair):
    for seed in range(50, 100):
        check_reply(pair, seed)


@torch.no_grad()
def test_rows_of_a_batch_are_read_as_alone(pair):
    ours, _ = pair
    reads = [ours.thinker.read(mix(seed)[0]) for seed in range(4)]
    hidden = ours.thinker(*batched(reads))
    for row, read in enumerate(reads):
        alone = ours.thinker(*batched([read]))[0]
        assert torch.allclose(hidden[row, : len(alone)], alone, atol=1e-5)
    with pytest.raises(ModelError, match="nothing"):
        batched([])


@torch.no_grad()
def test_sound_comes_before_the_text_is_done_and_is_that_of_all_codes(endless):
    ours = endless
    settings = replace(GREEDY, max_tokens=60, max_codes=90, ends=())
    state = ours.init_state()
    ours.read(state, mix(1)[0])
    events = list(ours.reply(state, "anna", settings))
    sounds = [number for number, event in enumerate(events) if isinstance(event, Spoken)]
    assert sounds[0] < max(number for number, event in enumerate(events) if isinstance(event, Written))
    assert events[sounds[0]].codes < len(state.codes)
    sound = torch.cat([event.samples for event in events if isinstance(event, Spoken)])
    whole = ours.token2wav(torch.tensor([state.codes]), ours.voices["anna"])[0]
    assert sound.shape == whole.shape and len(whole) == len(state.codes) * 2 * 30
    assert (sound - whole).abs().max() < 1e-4


def test_a_conversation_goes_on_as_if_it_was_read_at_once(pair):
    ours, _ = pair
    first, second = mix(2)[0], mix(4)[0]
    state = ours.init_state()
    ours.read(state, first)
    list(ours.reply(state, "anna", GREEDY))
    said = state.reply
    ours.read(state, [Words(torch.tensor(said[-1:])), *second])
    fresh = ours.init_state()
    ours.read(fresh, [*first, Words(torch.tensor(said)), *second])
    assert torch.allclose(state.hidden, fresh.hidden, atol=1e-4)
    assert state.last == fresh.last
    for each in (state, fresh):
        list(ours.reply(each, "anna", GREEDY))
    assert state.reply == fresh.reply and state.codes == fresh.codes


@pytest.mark.parametrize("size", [37, 200, 999])
def test_a_sound_that_is_heard_live_is_what_it_is_whole(pair, size):
    ours, _ = pair
    mel = torch.randn(128, 523)
    words = Words(torch.arange(5))
    live, whole = ours.init_state(), ours.init_state()
    ours.read(live, [words])
    for first in range(0, 523, size):
        ours.listen(live, mel[:, first : first + size], last=first + size >= 523)
    ours.read(live, [words])
    ours.read(whole, [words, Heard(mel), words])
    assert torch.allclose(live.hidden, whole.hidden, atol=1e-4)
    assert torch.allclose(live.unread[0], whole.unread[0], atol=1e-4)
    assert torch.equal(live.unread[1], whole.unread[1]) and live.last == whole.last


def test_a_model_in_bfloat16_is_nearly_the_same(pair, tmp_path):
    ours, _ = pair
    weights.save(ours, tmp_path)
    halved = weights.load(tmp_path, torch.bfloat16)
    assert halved.thinker.audio_tower.conv1.weight.dtype == torch.bfloat16
    assert halved.token2wav.dit.proj_out.weight.dtype == torch.float32
    read, wanted = (each.thinker.read(mix(2)[0]) for each in (halved, ours))
    assert (read.x - wanted.x).abs().mean() < 0.05 * wanted.x.abs().mean()
    state = halved.init_state()
    halved.read(state, mix(2)[0])
    assert list(halved.reply(state, "anna", GREEDY)) and state.codes


def test_a_reply_that_is_left_is_remembered_as_far_as_it_was_heard(endless):
    ours = endless
    first, second = mix(2)[0], mix(4)[0]
    state = ours.init_state()
    ours.read(state, first)
    stream = ours.reply(state, "anna", replace(GREEDY, ends=()))
    for _ in range(9):
        next(stream)
    stream.close()
    ours.cut(state, 3)
    said = list(state.reply)
    assert len(said) == 3 and len(state.unread[0]) == 1 + 3  # the last of the question, and what was heard
    ours.read(state, second)
    fresh = ours.init_state()
    ours.read(fresh, [*first, Words(torch.tensor(said)), *second])
    assert torch.allclose(state.hidden, fresh.hidden, atol=1e-4)
    for each in (state, fresh):
        list(ours.reply(each, "anna", GREEDY))
    assert state.codes == fresh.codes


def test_a_copy_of_a_conversation_goes_its_own_way(pair):
    ours, _ = pair
    state = ours.init_state()
    ours.read(state, mix(2)[0])
    copy = fork(state)
    list(ours.reply(state, "anna", GREEDY))
    list(ours.reply(copy, "anna", GREEDY))
    assert copy.codes == state.codes and copy.reply == state.reply


def test_what_cannot_be_said_is_refused(pair):
    ours, _ = pair
    state = ours.init_state()
    with pytest.raises(ModelError, match="no reply is due"):
        next(ours.reply(state, "anna", GREEDY))
    with pytest.raises(ModelError, match="nothing to read"):
        ours.read(state, [Words(torch.zeros(0, dtype=torch.long))])
    ours.read(state, mix(2)[0])
    with pytest.raises(ModelError, match="no voice 'carl'; there are: anna, bert"):
        next(ours.reply(state, "carl", GREEDY))


def test_marks_of_the_talker_are_never_spoken():
    given = values()
    given["token2wav_config"]["dit_config"] = DIT | {"num_embeds": 60}
    model = ours_alone(given=given)
    head = model.talker.lm.lm_head.weight.data
    head[70] = 50 * torch.randn(16)
    head[71] = -head[70]  # one of them is the likeliest
    head[list(model.talker.ends)] = 0
    state = model.init_state()
    model.read(state, [Words(torch.arange(9))])
    settings = ReplySettings(max_tokens=4, max_codes=20, ends=())
    sound = [event.samples for event in model.reply(state, "anna", settings) if isinstance(event, Spoken)]
    assert len(state.codes) == 20 and max(state.codes) < 60 and torch.cat(sound).isfinite().all()
