"""Whether an answer follows a manner: what counts as moving, and that the teacher's own speech is found to follow."""

import gzip
import json

import numpy as np
import pytest
import torch

from antiphon.audio.io import Audio
from antiphon.data.speech.manners import MannersConfig, manners, spoken_in
from antiphon.data.text.corpora import Sentence
from antiphon.errors import DataError
from antiphon.evals.assistant.manner import Prosody, follows, moves, pairs, timed


def test_what_moves_has_to_go_half_of_the_way_and_the_rest_to_stay():
    assert moves(0.88, 0.8) and not moves(0.95, 0.8) and not moves(1.2, 0.8)
    assert moves(1.2, 1.28) and not moves(0.0, 1.28)
    assert moves(1.05, 1.0) and moves(0.95, 1.0) and not moves(1.1, 1.0) and not moves(0.9, 1.0)
    gentle = manners()[0]
    assert follows(Prosody(1.0, 200.0), Prosody(1.15, 186.0), gentle) == (True, True)
    assert follows(Prosody(1.0, 200.0), Prosody(1.0, 200.0), gentle) == (False, False)
    assert follows(Prosody(1.0, 200.0), Prosody(0.0, 0.0), gentle) == (False, False)


def test_a_tone_has_its_pitch_and_its_length():
    times = np.arange(24000) / 24000
    wave = sum(np.sin(2 * np.pi * 200 * k * times) / k for k in range(1, 8))
    sound = np.concatenate([np.zeros(12000), 0.1 * wave, np.zeros(12000)]).astype(np.float32)
    found = Prosody.of(Audio(torch.from_numpy(sound), 24000))
    assert found.pitch == pytest.approx(200, rel=0.02) and found.seconds == pytest.approx(1.0, abs=0.1)
    assert Prosody.of(Audio(torch.zeros(24000), 24000)) == Prosody(0.0, 0.0)


def test_pairs_have_the_same_words_in_two_contexts(tmp_path):
    texts = [f"This is sentence number {i} of them." for i in range(3000)]
    with gzip.open(tmp_path / "answers.jsonl.gz", "wt") as file:
        rows = ({"text": f"What is number {i}?", "reply": text} for i, text in enumerate(texts))
        file.writelines(json.dumps(row) + "\n" for row in rows)
    with gzip.open(tmp_path / "requests.jsonl.gz", "wt") as file:
        file.writelines(json.dumps({"text": f"Please tell me about number {i}."}) + "\n" for i in range(3000))
    found = pairs(tmp_path, 6)
    assert len(found) == 6 and found == pairs(tmp_path, 6)
    for told, plain, sentence in found:
        assert told.manner is not None and plain.manner is None and plain.turns and sentence.text
    with pytest.raises(DataError, match="--texts FOLDER"):
        pairs(None, 6)


def test_the_teacher_follows_and_is_put_on_the_codecs_clock():
    pytest.importorskip("onnx")
    pytest.importorskip("hibari")
    from antiphon.codecs.mini.model import MiniCodec
    from antiphon.data.speech.speak import Speaker
    from tests.codecs.mini.test_model import TINY

    voice, config = Speaker("hibari"), MannersConfig(None)
    said = Sentence("a", "The train to the city leaves at nine in the morning.", "assistant", "t", "dev")

    def prosody(manner):
        return Prosody.of(Audio(torch.from_numpy(spoken_in(manner, said, voice, config)[1]), 24000))

    plain = prosody(None)
    for each in manners():
        assert follows(plain, prosody(each), each) == (True, True), each.name
    codec = MiniCodec(TINY).eval()
    utterance, samples = spoken_in(None, said, voice, config)
    example = timed(utterance, samples, codec, 0.08)
    assert example.ends[0] == pytest.approx(0.08, abs=1e-3) and len(example.symbols) == len(example.ends)
    assert example.ends[-1] == pytest.approx(example.codes.shape[1] / codec.frame_rate)
