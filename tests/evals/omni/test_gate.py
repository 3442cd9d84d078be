"""The re-sync gate: what codes cost with states and without, as training counts it, whatever is measured together."""

from functools import partial

import numpy as np
import pytest
import torch

from antiphon.codecs.mini.model import MiniCodec
from antiphon.data.codes import CodecInfo, Coded, CodeSet, CodesWriter
from antiphon.data.speech.timed_codes import TimedSet
from antiphon.errors import DataError, EvalError
from antiphon.evals.omni import gate
from antiphon.evals.omni.questions import OmniEvalConfig, OmniEvaluation
from antiphon.models.tts.phonemes import Phonemizer
from antiphon.train.tts.talker import code_losses, collate
from tests.codecs.mini.test_model import TINY
from tests.models.omni.tiny import small_talker, spoken_beside, talking

TEXTS = ("Yes.", "No cat.", "The cat sat on the mat.")


@pytest.fixture
def spoken(tmp_path) -> TimedSet:
    torch.manual_seed(0)
    codec, rng, known = MiniCodec(TINY), np.random.default_rng(0), Phonemizer()
    with CodesWriter(tmp_path, CodecInfo.of(codec)) as writer:
        for number, text in enumerate(TEXTS):
            phonemes = known(text)
            phones = [(phone, 0.08 + 0.1 * at, 0.18 + 0.1 * at) for at, phone in enumerate(phonemes)]
            frames = int(12.5 * (0.3 + 0.1 * len(phonemes)))
            codes = rng.integers(0, codec.codebook_size, (codec.codebooks, frames))
            writer.add(Coded(str(number), text, phones=phones), codes)
    return TimedSet(CodeSet(tmp_path, codec))


def thought(texts, context, scale: float):
    """Each text as one piece, with a state of its own."""
    return [([text], scale * torch.full((1, 32), float(len(text)))) for text in texts]


def test_nats_are_those_of_training_over_all_frames(spoken, monkeypatch):
    talker = small_talker()
    semantic, acoustic = gate.nats(talker, spoken)
    totals, count = np.zeros(2), 0
    for number in range(len(spoken)):  # the slow way, an utterance at a time
        batch = collate([spoken[number]], talker.config)
        batch["keep"] = (batch["grid"] >= 0).any(1)
        with torch.no_grad():
            each = code_losses(talker(**batch)[0], batch)
        totals += spoken.frames[number] * np.array([float(each[0]), float(sum(each[1:]) / 2)])
        count += spoken.frames[number]
    assert (semantic, acoustic) == pytest.approx(tuple(totals / count), abs=1e-4)
    monkeypatch.setattr(gate, "BATCH", 2)
    assert gate.nats(talker, spoken) == pytest.approx((semantic, acoustic), abs=1e-4)


def test_states_are_read_where_there_are_some(spoken):
    talker, none = small_talker(), gate.nats(small_talker(), spoken)
    assert gate.nats(talker, spoken, partial(thought, scale=0.0)) == pytest.approx(none, abs=1e-5)
    assert gate.nats(talker, spoken, partial(thought, scale=1.0)) != pytest.approx(none, abs=1e-3)


def test_what_it_cannot_measure_is_told():
    def evaluation(backend) -> OmniEvaluation:
        made = OmniEvaluation(OmniEvalConfig())
        made.__dict__["backend"] = backend
        return made

    with pytest.raises(EvalError, match="stands beside the model"):
        gate.gate(evaluation(talking()), 3)
    with pytest.raises(DataError, match="--texts"):
        gate.gate(evaluation(spoken_beside()), 3)
