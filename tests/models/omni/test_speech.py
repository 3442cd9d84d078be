"""What says a reply: the states that a synthesizer gets are those that chose the words, sound comes before the text is
over, and what was heard of it is known.
"""

import json

import pytest
import torch

from antiphon.codecs.mini.model import MiniCodec
from antiphon.errors import ModelError
from antiphon.models.omni import weights
from antiphon.models.omni.model import ReplySettings, Written
from antiphon.models.omni.parts import beside
from antiphon.models.omni.speech import (
    Manner,
    OwnSpeech,
    OwnVoices,
    Piece,
    SynthesizerVoice,
    Writing,
    pieces,
    speaker_of,
)
from tests.codecs.mini.test_model import TINY as CODEC
from tests.models.omni.tiny import ours, small_talker, spoken_beside, talking
from tests.models.tts.test_synthesizer import two_voices

ASKED = [{"role": "user", "content": "the cat"}]


@pytest.fixture(scope="module")
def backend():
    return spoken_beside()


def asked(backend):
    state = backend.model.init_state()
    backend.model.read(state, backend.processor(ASKED))
    return state


def settings(backend, tokens: int = 40) -> ReplySettings:
    return ReplySettings(tokens, ends=backend.ends)


@torch.inference_mode()
def test_each_token_comes_with_the_state_that_chose_it(backend):
    model, state, slow = backend.model, asked(backend), asked(backend)
    first = slow.hidden
    wanted = [first, *(slow.hidden for _ in model.write(slow, settings(backend, 8)))][:8]
    events = list(model.reply(state, None, settings(backend, 8)))
    assert all(isinstance(event, Written) for event in events) and len(events) == 8
    for event, hidden in zip(events, wanted):
        torch.testing.assert_close(event.hidden, hidden)
        assert int(model.thinker.logits(event.hidden[None]).argmax()) == event.token


def test_a_synthesizer_reads_those_states_and_speaks_before_the_text_is_over(backend):
    given = []
    synthesizer = backend.speaker.synthesizer
    add = synthesizer.add
    synthesizer.add = lambda text, state, hidden=None: (given.append((text, hidden)), add(text, state, hidden))
    try:
        speech = backend.speaker.speak(asked(backend), settings(backend), Manner())
        made = list(speech.events())
    finally:
        del synthesizer.add
    written = [each for each in made if isinstance(each, Piece)]
    assert speech.text == "".join(each.text for each in written) == "".join(text for text, _ in given)
    assert all(torch.equal(hidden, each.hidden) for (_, hidden), each in zip(given, written))
    kinds = [isinstance(each, Piece) for each in made]
    assert False in kinds[: len(kinds) - kinds[::-1].index(True)]  # some sound before the last of the text
    assert all(each.shape == (1920,) for each in made if not isinstance(each, Piece))


def test_the_voice_that_is_named_speaks(backend):
    voice = SynthesizerVoice(backend.model, backend.processor, two_voices())
    assert list(voice.voices) == ["anna", "bert"]
    said = [len(list(voice.say("The cat sat.", Manner(voice=name)))) for name in (None, "anna", "bert")]
    assert said[0] == said[1] != said[2]
    speech = voice.speak(asked(backend), settings(backend), Manner(voice="bert"))
    assert speech.spoken.state.talker.text.speaker == 1


def test_what_was_heard_is_whole_words_and_the_same_when_it_is_broken_off(backend):
    whole = backend.speaker.speak(asked(backend), settings(backend), Manner())
    frames = sum(not isinstance(each, Piece) for each in whole.events())
    assert whole.until(0.0).strip() == "" and whole.until(1000.0) == whole.text
    for most in range(2, frames, 5):
        broken = backend.speaker.speak(asked(backend), settings(backend), Manner())
        made, heard = broken.events(), 0
        while heard < most:
            heard += not isinstance(next(made), Piece)
        told = broken.until(most * 0.08)
        made.close()
        assert told == broken.until(most * 0.08) == whole.until(most * 0.08)
        assert whole.text.startswith(told) and broken.spoken.state is None
        assert told == whole.text or not whole.text[len(told)].isalpha()


def test_a_broken_off_reply_stops_the_thinker(backend):
    state = asked(backend)
    made = backend.speaker.speak(state, settings(backend), Manner()).events()
    while isinstance(next(made), Piece):
        pass
    made.close()
    assert len(state.reply) < 40


def test_an_own_talkers_words_are_told_at_an_even_pace():
    speech = OwnSpeech(iter(()), 24000, "one two three four", 2.0, ended=True)
    assert speech.until(0.0) == "" and speech.until(0.9) == "one two" and speech.until(2.0) == "one two three four"
    speech = OwnSpeech(iter(()), 24000, "one two three four", 5.0)
    assert speech.until(0.5) == "one two"


def test_a_written_reply_was_read_whole(backend):
    writing = Writing(pieces(backend.model, backend.processor, asked(backend), settings(backend, 5)))
    assert "".join(each.text for each in writing.events()) == writing.text == writing.until(0.0)


def test_who_speaks_is_the_models_own_talker_or_the_one_beside_it(tmp_path):
    talker, codec = tmp_path / "talker", tmp_path / "codec"
    small_talker().save_pretrained(talker)
    MiniCodec(CODEC).save_pretrained(codec)
    others = {"talker": talker, "codec": codec}
    own, model = talking(), ours()
    assert isinstance(speaker_of(own.model, own.processor, others), OwnVoices)
    model.talker = model.token2wav = None
    assert speaker_of(model, own.processor, {}) is None
    voice = speaker_of(model, own.processor, others)
    assert isinstance(voice, SynthesizerVoice) and voice.synthesizer.reads_thinker
    assert voice.sample_rate == CODEC.sample_rate and voice.voices == ("heart",)
    for place in others:
        with pytest.raises(ModelError, match=f"a {place} and not the other"):
            speaker_of(model, own.processor, {place: others[place]})
    small_talker(hidden=6).save_pretrained(talker)
    assert not speaker_of(model, own.processor, others).synthesizer.reads_thinker  # trained beside another one


def test_parts_beside_a_model_are_the_folders_own_the_named_ones_or_those_that_replace_them(tmp_path):
    folder, elsewhere = tmp_path / "omni", tmp_path / "elsewhere"
    for place in (folder, folder / "talker", elsewhere):
        place.mkdir()
        (place / "config.json").write_text("{}")
    named = {"talker": str(elsewhere), "codec": str(elsewhere), "thinker.model": "anything"}
    (folder / "config.json").write_text(json.dumps({"parts": named}))
    assert beside(folder) == {"talker": folder / "talker", "codec": elsewhere}
    assert beside(folder, {"talker": elsewhere, "codec": None}) == {"talker": elsewhere}


def test_a_folder_that_names_parts_that_speak_is_loaded_and_written(tmp_path):
    model = ours()
    model.published = {**model.published, "parts": {"talker": "talker", "codec": "codec"}}
    weights.save(model, tmp_path)
    assert weights.load(tmp_path).published["parts"] == {"talker": "talker", "codec": "codec"}
