"""The voice knows what it has said: whole words, when they have sounded, however the text came."""

import copy
import time
from dataclasses import replace

import pytest
import torch

from antiphon.codecs.mini.model import MiniCodec
from antiphon.errors import UnsayableError
from antiphon.models.tts.phonemes import Phonemizer
from antiphon.models.tts.synthesizer import SpokenText, Synthesizer, SynthesizerState
from antiphon.models.tts.talker import Talker
from tests.codecs.mini.test_model import TINY as TINY_CODEC
from tests.models.tts.test_talker import TINY, in_a_situation, talker  # noqa: F401
from tests.nn.test_batching import on_threads

TEXT = "Bread is made from flour, water and yeast."
PIECES = ["Bread", " is", " made", " from", " fl", "our", ",", " water", " and", " ye", "ast", "."]
FRAME = 1 / TINY.frame_rate


class Silence:
    """A codec that makes no sound of anything."""

    sample_rate = 24000

    def init_state(self, batch: int) -> None: ...

    def decode_step(self, codes: torch.Tensor, state: None) -> torch.Tensor:
        return torch.zeros(1, 1, 1920)


@pytest.fixture
def voice(talker) -> Synthesizer:  # noqa: F811
    return Synthesizer(talker, Silence(), Phonemizer())


def speak(voice: Synthesizer, pieces: list[str], most: int | None = None) -> tuple[SynthesizerState, int]:
    """Says as soon as it can what comes in pieces; stops after `most` frames."""
    state, frames, pieces = voice.init_state(), 0, list(pieces)
    while frames != most:
        if voice.step(state) is not None:
            frames += 1
        elif state.talker.done:
            break
        elif pieces:
            voice.add(pieces.pop(0), state)
        else:
            voice.end(state)
    return state, frames


def two_voices() -> Synthesizer:
    """Of which the second says everything at another pace."""
    torch.manual_seed(0)
    two = Talker(replace(TINY, speakers=["anna", "bert"])).eval()
    torch.nn.init.normal_(two.encoder.speaker.weight, std=0.5)
    torch.nn.init.constant_(two.encoder.duration[-1].bias, 1.2)
    return Synthesizer(two, Silence(), Phonemizer())


def test_the_voice_that_is_named_speaks():
    voice = two_voices()
    anna, bert = (len(list(voice.say(TEXT, voice=name))) for name in voice.voices)
    assert anna != bert and len(list(voice.say(TEXT))) == anna
    for name, frames in (("anna", anna), ("bert", bert), (None, anna)):
        said = SpokenText(voice, voice=name).overlapped(iter([(None, TEXT, None)]))
        assert len([each for each in said if each is not None]) == frames


def test_a_name_is_passed_over_where_the_voice_has_none(voice):
    assert voice.voices == [] and len(list(voice.say(TEXT, voice="heart"))) == len(list(voice.say(TEXT)))


def test_a_talker_beside_another_thinker_reads_the_text_alone(talker):  # noqa: F811
    talker = copy.deepcopy(talker)
    torch.nn.init.normal_(talker.encoder.thinker.weight)  # nothing, before it is trained

    def features(reads: bool, hidden: torch.Tensor | None) -> torch.Tensor:
        voice = Synthesizer(talker, Silence(), Phonemizer(), reads)
        state = voice.init_state(temperature=0.0)
        voice.add("Bread is made from flour.", state, hidden)
        voice.end(state)
        return state.talker.text.features

    torch.manual_seed(0)
    states, others = torch.randn(talker.config.hidden), torch.randn(2 * talker.config.hidden)
    alone = features(True, None)
    assert not torch.equal(features(True, states), alone)
    assert torch.equal(features(False, states), alone) and torch.equal(features(False, others), alone)


def test_a_reply_is_said_by_the_state_that_it_begins_with_however_late_its_words_are_spelled():
    voice = Synthesizer(in_a_situation(), Silence(), Phonemizer())
    states = torch.randn(9, voice.talker.config.hidden)

    def features(pieces: list[str], states, earlier=None) -> torch.Tensor:
        state = voice.init_state(temperature=0.0, earlier=earlier)
        for piece, hidden in zip(pieces, states):
            voice.add(piece, state, hidden)
        voice.end(state)
        return state.talker.text.features

    for text, pieces in (("Bread is made.", ["", "Br", "ead", " is", " made", "."]), ("Yes", ["Yes"])):
        one = features(pieces, states)
        torch.testing.assert_close(one, features([text], states), rtol=1e-5, atol=1e-5)
        assert not torch.allclose(one, features([text], states[1:]), atol=1e-3)
        assert not torch.allclose(one, features([text], [None]), atol=1e-3)
        later = features(pieces, states, states[5:7])
        assert not torch.allclose(one, later, atol=1e-3)
        assert not torch.allclose(features(pieces, states, states[6:7]), later, atol=1e-3)


def beginnings(text: str) -> list[str]:
    words = text.split()
    return [" ".join(words[:n]) for n in range(len(words) + 1)]


def test_every_word_is_said_in_its_time(voice):
    state, frames = speak(voice, PIECES)
    said = [voice.timing(state).until(n * FRAME / 4) for n in range(4 * frames + 1)]
    assert said[0] == "" and said[-1] == TEXT
    assert [text for n, text in enumerate(said) if n == 0 or text != said[n - 1]] == beginnings(TEXT)


def test_text_that_runs_ahead_of_the_speech_is_not_said_yet(voice):
    whole, frames = speak(voice, PIECES)
    for most in range(1, frames - 5, 3):
        broken_off, _ = speak(voice, PIECES, most)
        assert len(broken_off.text) > len(voice.timing(broken_off).until(most * FRAME))
        for n in range(most + 1):
            assert voice.timing(broken_off).until(n * FRAME) == voice.timing(whole).until(n * FRAME)


def test_the_pause_behind_a_word_is_not_waited_for(voice):
    state, _ = speak(voice, PIECES)
    ends, flour = state.talker.text.ends[0], state.read[5]
    assert state.text[: flour[0]].endswith("flour,")
    assert voice.timing(state).until(float(ends[flour[1] - 1])).endswith("flour,")
    assert flour[1] < state.read[6][1] and voice.timing(state).until(float(ends[flour[1] - 1]) - 1e-3).endswith("from")


@pytest.mark.parametrize("pieces", [[TEXT], ["Bread is made", " from flour, water and yeast."]])
def test_words_that_came_at_once_are_told_apart(voice, pieces):
    state, frames = speak(voice, pieces)
    said = {voice.timing(state).until(n * FRAME / 8) for n in range(8 * frames + 1)}
    assert said == set(beginnings(TEXT))


@pytest.mark.parametrize("text", ["", "...", " — ", "Rome", "\n2,800 (two thousand)  \n", "ok 🙂 fine"])
def test_whatever_the_text_nothing_comes_before_its_sound_and_all_of_it_at_the_end(voice, text):
    state, frames = speak(voice, [text])
    assert voice.timing(state).until(0.0).strip() in ("", "...", "—")  # what has no sound may count as said or not
    assert voice.timing(state).until(frames * FRAME) == text
    assert voice.timing(voice.init_state()).until(1.0) == ""


def test_what_is_read_otherwise_than_written_has_the_times_of_the_written(voice):
    text = "It cost $5 trillion in 2024."
    state, frames = speak(voice, [text])
    said = {voice.timing(state).until(n * FRAME / 8) for n in range(8 * frames + 1)}
    assert said == {"", "It", "It cost", "It cost $5 trillion", "It cost $5 trillion in", text}


def test_a_text_of_which_nothing_can_be_said_is_refused(voice):
    for text in ("你好", "...", " "):
        with pytest.raises(UnsayableError, match="English"):
            voice.read(text, voice.init_state())
    state = voice.init_state()
    voice.read("你好 means hello.", state)
    assert state.speller.unsaid == ["你好"]


def test_replies_on_several_threads_sound_as_each_does_alone(talker):  # noqa: F811
    """Codes and sound, with joining and leaving: the texts are of unequal length, and come in pieces."""
    codec = MiniCodec(TINY_CODEC).eval()
    texts = [PIECES, PIECES[:6], ["Two", " words."], PIECES[3:]]

    def said(voice: Synthesizer, number: int) -> torch.Tensor:
        spoken, pieces = SpokenText(voice, seed=number, temperature=0.7), iter(texts[number])
        given = spoken.overlapped((None, piece, None) for piece in pieces)
        return torch.cat([sound for sound in given if sound is not None])

    wanted = [said(Synthesizer(talker, codec, Phonemizer()), number) for number in range(len(texts))]
    voice, sizes = Synthesizer(talker, codec, Phonemizer()), []
    monkeyed = voice.talker.step_rows

    def step_rows(rows, state):
        sizes.append(len(rows))
        time.sleep(0.005)  # as long as a step of a real one, so that there is somebody to be waited for
        return monkeyed(rows, state)

    talker.step_rows = step_rows
    try:
        found = on_threads(*(lambda number=number: said(voice, number) for number in range(len(texts))))
    finally:
        del talker.step_rows
    assert max(sizes) > 1, sizes
    for own, alone in zip(found, wanted, strict=True):
        torch.testing.assert_close(own, alone, atol=1e-5, rtol=1e-4)
