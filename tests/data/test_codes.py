"""A speech set as codes: times move with what is cut off, and lengths agree."""

import numpy as np
import pytest
import torch

from antiphon.codecs.mini.model import MiniCodec
from antiphon.data.codes import CodeSet, encode_set, timeline
from antiphon.data.shards import ShardWriter, SpeechSet, Utterance
from antiphon.models.tts.phonemes import alphabet
from tests.codecs.mini.test_model import TINY


def test_timeline_by_hand():
    known = alphabet()
    symbols, ends = timeline("nO.", 0.3, np.array([0.4, 0.6, 0.9]), first=0.2, length=0.8)
    assert symbols.tolist() == [0, known["n"], known["O"], known["."], 0]
    np.testing.assert_allclose(ends, [0.1, 0.2, 0.4, 0.7, 0.8])


@pytest.fixture
def speech(tmp_path) -> SpeechSet:
    rng = np.random.default_rng(0)
    with ShardWriter(tmp_path / "speech", TINY.sample_rate) as writer:
        for number, seconds in enumerate((0.5, 1.0, 0.8)):
            ends = [seconds * share for share in (0.4, 0.6, 0.95)]
            said = Utterance(
                id=str(number), text=f"text {number}", voice="v", phonemes="nO.", phoneme_ends=ends, phonemes_start=0.2
            )
            writer.add(said, 0.1 * rng.standard_normal(int(seconds * TINY.sample_rate)))
    return SpeechSet(tmp_path / "speech")


def test_a_set_is_encoded_from_its_lead_on(speech, tmp_path):
    torch.manual_seed(0)
    codec = MiniCodec(TINY).eval()
    made = encode_set(speech, codec, tmp_path / "codes", lead=0.1, batch=2)
    assert len(made) == 3 and len(CodeSet(tmp_path / "codes")) == 3
    for number in range(3):
        coded = made[number]
        samples = torch.from_numpy(speech.samples(number, int(0.1 * TINY.sample_rate)))
        assert coded.text == f"text {number}"
        assert np.array_equal(coded.codes, codec.encode(samples[None, None])[0].numpy())
        assert coded.ends[0] == pytest.approx(0.1) and coded.ends[-1] == pytest.approx(coded.codes.shape[1] * 0.08)
        assert len(coded.symbols) == len(coded.ends) == 5
