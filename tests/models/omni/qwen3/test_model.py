"""The whole model: what `transformers` writes and says; and it goes on, is left and is cut as a conversation is."""

from __future__ import annotations

import pytest
import torch

from antiphon.models.llm.sampling import TokenSampling
from antiphon.models.omni import weights
from antiphon.models.omni.model import ReplySettings, Written
from antiphon.models.omni.thinker import batched
from tests.models.omni.qwen3.tiny import END, conversation, inputs, theirs

GREEDY = ReplySettings(max_tokens=12, max_codes=20, ends=(END,), speaking=TokenSampling(repetition=1.05))


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    model = theirs()
    folder = tmp_path_factory.mktemp("omni")
    model.save_pretrained(folder)
    return weights.load(folder), model


def check_logits(pair, seed: int) -> None:
    ours, model = pair
    parts, own_sound = conversation(seed)
    read = ours.thinker.read(parts)
    hidden = ours.thinker(*batched([read]))
    wanted = model.thinker(**inputs(model, parts, own_sound)).logits
    assert wanted.abs().max() > 0.5
    assert (ours.thinker.logits(hidden) - wanted).abs().max() < 1e-4, seed


def check_reply(pair, seed: int) -> None:
    """Text and codes; the codes that `transformers` said are caught on their way to the sound."""
    ours, model = pair
    parts, own_sound = conversation(seed)
    caught = []
    given = inputs(model, parts, own_sound)
    given = {f"thinker_{key}" if key.startswith("pixel") else key: value for key, value in given.items()}
    said = model.code2wav.chunked_decode
    model.code2wav.chunked_decode = lambda codes, **settings: caught.append(codes) or torch.zeros(1)
    sequences, _ = model.generate(
        **given, talker_use_audio_in_video=own_sound, speaker="anna", thinker_max_new_tokens=12, thinker_do_sample=False,
        thinker_eos_token_id=END, talker_do_sample=False, talker_max_new_tokens=21,
    )  # fmt: skip
    model.code2wav.chunked_decode = said
    state = ours.init_state()
    ours.read(state, parts)
    written = sequences[0, int(state.thinker.length) :].tolist()
    events = list(ours.reply(state, "anna", GREEDY))
    assert [event.token for event in events if isinstance(event, Written)] == written, seed
    assert [list(frame) for frame in state.codes] == caught[0][0].T.tolist(), seed


@torch.no_grad()
def test_thinker_reads_mixes_as_transformers_does(pair):
    for seed in range(12):
        check_logits(pair, seed)


@pytest.mark.filterwarnings("ignore")
def test_text_and_codes_are_those_of_transformers(pair):
    for seed in range(30):
        check_reply(pair, seed)
