"""The fixed replies, requests by intent, and lines with their words' times."""

import gzip
import json

import numpy as np
import pytest

from antiphon.data.dialogue.phrases import (
    RATE,
    TtsCache,
    Voice,
    faded,
    pair_words,
    phoneme_words,
    quiet_place,
    read_requests,
    sounding,
    sounding_clock,
)
from antiphon.data.dialogue.replies import read_phrases
from antiphon.data.speech.voices.base import Spoken
from antiphon.data.text.corpora import split_of
from antiphon.errors import DataError


def tone(seconds, level=0.3):
    return (level * np.sin(2 * np.pi * 300 * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def silence(seconds):
    return np.zeros(round(seconds * RATE), np.float32)


def test_the_replies_are_simple_sentences():
    replies = read_phrases()
    assert len(replies.by_intent) == 151 and "oos" in replies.by_intent
    texts = [text for each in replies.by_intent.values() for text in each]
    assert len(set(texts)) == len(texts) and all(text[-1] in ".?" and text[0].isupper() for text in texts)
    assert not any(char.isdigit() for text in texts for char in text)
    lengths = np.array([len(text.split()) for text in texts])
    assert lengths.max() <= 30 and 25 <= (lengths >= 18).sum() <= 60 and np.median(lengths) <= 10
    kinds = {"model backchannel", "user backchannel", "greeting", "hesitation", "cut-in", "preamble"}
    assert set(replies.extras) == kinds
    assert all(len(text.split()) <= 2 for text in replies.extras["model backchannel"])


def test_a_broken_file_of_replies_says_so(tmp_path):
    (tmp_path / "replies.jsonl").write_text('{"kind": "reply", "text": "Yes."}\n')
    with pytest.raises(DataError, match="replies.jsonl.*intent"):
        read_phrases(tmp_path / "replies.jsonl")


def test_requests_come_by_intent_and_split(tmp_path):
    rows = [{"text": f"set a timer for {number} minutes", "intent": "timer"} for number in range(300)]
    rows += [{"text": "whats the time", "intent": "time"}, {"text": "look at www.example.com", "intent": "oos"}]
    with gzip.open(tmp_path / "requests.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    train, dev = (read_requests(tmp_path, split) for split in ("train", "dev"))
    assert set(train) | set(dev) == {"timer", "time"}
    ids = [{request.id for each in split.values() for request in each} for split in (train, dev)]
    assert not ids[0] & ids[1] and sum(map(len, ids)) == 301
    assert all(split_of(identity) == "dev" for identity in ids[1]) and len(ids[1]) > 0
    said = {request.text for each in (*train.values(), *dev.values()) for request in each}
    assert "What's the time?" in said and "Set a timer for 7 minutes." in said


def test_where_the_sound_is():
    samples = np.concatenate([silence(0.3), tone(0.5), silence(0.2)])
    first, last = sounding(samples)
    assert (first / RATE, last / RATE) == (pytest.approx(0.3, abs=0.011), pytest.approx(0.8, abs=0.011))
    assert sounding(silence(0.5)) == (0, 0) and sounding(silence(0.0)) == (0, 0)


def test_the_clock_stands_still_in_silence():
    seconds, heard = sounding_clock(np.concatenate([silence(0.2), tone(0.3), silence(0.5), tone(0.3)]))
    at = np.interp([0.0, 0.2, 0.35, 0.5, 1.0, 1.3], seconds, heard)
    assert at == pytest.approx([0.0, 0.0, 0.25, 0.5, 0.5, 1.0], abs=0.02) and (np.diff(heard) > 0).all()
    assert len(sounding_clock(silence(0.0))[0]) == 1


def test_the_quietest_place():
    samples = np.concatenate([tone(0.3), tone(0.02, 0.01), tone(0.3)])
    assert quiet_place(samples, 0.2, 0.45) == pytest.approx(0.31, abs=0.01)
    assert quiet_place(samples, 0.1, 0.1) == pytest.approx(0.1)


def test_fades_touch_only_the_ends():
    ones = np.ones(RATE, np.float32)
    soft = faded(ones, 0.01, 0.02)
    assert soft[0] == 0.0 and soft[-1] < 0.01 and (soft[240 : RATE - 480] == 1.0).all()
    assert (np.diff(soft[:240]) > 0).all() and (np.diff(soft[-480:]) < 0).all() and ones.min() == 1.0
    assert len(faded(ones[:10], 0.5, 0.5)) == 10


def test_words_end_where_their_last_sound_does():
    # "hi, you." with a comma that lasts 0.3 s: it is no part of the word.
    spoken = Spoken(silence(2.0), RATE, "hI, ju.", np.array([0.2, 0.5, 0.8, 0.9, 1.0, 1.2, 1.5]), 0.1)
    assert phoneme_words(spoken) == [(0.1, 0.5), (0.9, 1.2)]


def test_written_and_spoken_words_are_paired():
    times = [(0.0, 0.1), (0.1, 0.3), (0.3, 0.4), (0.5, 0.6)]
    assert pair_words("a b c d", times, [1] * 4) == [("a", 0.0, 0.1), ("b", 0.1, 0.3), ("c", 0.3, 0.4), ("d", 0.5, 0.6)]
    # "235" is spoken in two words.
    assert pair_words("at 235 pm", times, [1, 2, 1]) == [("at", 0.0, 0.1), ("235", 0.1, 0.4), ("pm", 0.5, 0.6)]
    # Nothing adds up: by letters, in order, over the whole.
    words = pair_words("abc d", times, [1, 1])
    assert words == [("abc", 0.0, pytest.approx(0.4)), ("d", pytest.approx(0.4), pytest.approx(0.6))]
    assert pair_words("abc", [], [1]) == []


class Untimed:
    """A voice that tells no times: two loud halves with a dip between them."""

    name = "untimed"

    def speak(self, text, seed, changes):
        return Spoken(np.concatenate([silence(0.2), tone(0.36), silence(0.04), tone(0.4), silence(0.3)]), RATE)


class Timed:
    """hibari's place: two words that would be equally long."""

    class voice:
        @staticmethod
        def speak(text):
            samples = np.concatenate([tone(0.4), silence(0.1), tone(0.4), silence(0.1)])
            return Spoken(samples, RATE, "a b", np.array([0.4, 0.5, 0.9]), 0.0)


def test_words_of_a_voice_without_times_are_cut_where_it_is_quiet():
    tts = TtsCache(_speakers={"untimed": Untimed(), "hibari": Timed()})
    line = tts.utterance(Voice("untimed"), "one two")
    assert line.seconds == pytest.approx(0.84, abs=0.03)  # 0.8 s of sound and a margin at both ends
    (first, start, cut), (second, again, end) = line.words
    assert (first, second) == ("one", "two") and again == cut
    assert cut == pytest.approx(0.02 + 0.38, abs=0.03) and end == pytest.approx(0.82, abs=0.03) and start <= 0.03


def test_what_the_model_says_is_kept():
    tts = TtsCache(_speakers={"untimed": Untimed(), "hibari": Timed()})
    voice = Voice("untimed")
    kept = tts.utterance(voice, "one two", keep=True)
    assert tts.utterance(voice, "one two") is kept and tts.utterance(voice, "one two", take=1) is not kept


@pytest.mark.slow
def test_a_real_line():
    pytest.importorskip("hibari")
    tts = TtsCache()
    for pitch in (1.0, 0.6):
        line = tts.utterance(Voice("hibari", 1.1, pitch), "Set a timer for 235 seconds, please.")
        assert [word for word, _, _ in line.words] == ["Set", "a", "timer", "for", "235", "seconds,", "please."]
        starts = [start for _, start, _ in line.words]
        assert starts == sorted(starts) and starts[0] < 0.12 and line.words[-1][2] <= line.seconds
        assert line.words[4][2] - line.words[4][1] > 0.6  # two hundred thirty five
        assert line.samples[0] == 0.0 and abs(line.samples[-1]) < 1e-3
