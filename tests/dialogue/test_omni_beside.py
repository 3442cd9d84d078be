"""An Omni beside which a talker of ours speaks and a recognizer hears: words are read as words, sounds as sounds, and
of an interrupted answer what was heard is known to the word.
"""

from __future__ import annotations

import time

import pytest
import torch

import antiphon
from antiphon.audio.io import Audio
from antiphon.codecs.mini.model import MiniCodec
from antiphon.dialogue.chat import Chat
from antiphon.dialogue.events import AudioEvent, EndEvent, HeardEvent, Sampling, TextEvent
from antiphon.dialogue.session import TurnSession
from antiphon.dialogue.tool_calls import Message
from antiphon.errors import UnsayableError
from antiphon.models.asr.heard import Heard, HearingOptions, Passage
from tests.codecs.mini.test_model import TINY as CODEC
from tests.models.omni.tiny import ours, small_talker, spoken_beside, talking

SHORT, LONG = Sampling(max_tokens=6), Sampling(max_tokens=60)


class WordForSound:
    """Hears "the cat" in whatever is louder than a whisper."""

    languages = ("en", "de")

    def init_state(self, options: HearingOptions | None = None) -> list[torch.Tensor]:
        return []

    def step(self, samples: torch.Tensor, state: list[torch.Tensor], ahead: bool = True) -> None:
        state.append(samples)

    def draft(self, state: list[torch.Tensor]) -> str:
        return ""

    def finish(self, state: list[torch.Tensor]) -> Heard:
        return self.hear(Audio(torch.cat([torch.zeros(1), *state]), 16000))

    def hear(self, sound: Audio, options: HearingOptions | None = None) -> Heard:
        loud = float(sound.samples.abs().max()) > 0.15
        return Heard.of([Passage("the cat", end=sound.duration, language="en", voiced=1.0)] if loud else [])


@pytest.fixture(scope="module")
def backend():
    return spoken_beside(WordForSound())


def sound(seconds: float, level: float, rate: int = 24000) -> Audio:
    noise = torch.rand(int(seconds * rate), generator=torch.Generator().manual_seed(0))
    return Audio(level * noise, rate)


def text_of(reply) -> str:
    for _ in reply.events():
        pass
    return reply.text


def test_a_spoken_turn_is_written_down_and_read_as_words(backend):
    assert backend.writes_down and backend.languages == ("en", "de") and backend.voices == ("heart",)
    reply = Chat(backend, SHORT).say_spoken(sound(1.0, 0.5))
    assert reply.heard == "the cat" and reply.audio.duration > 0
    assert reply.text == Chat(backend, SHORT).say_typed("the cat").text
    assert backend.hear(sound(1.0, 0.5)).text == "the cat" and not backend.hear(sound(1.0, 0.1)).text


def test_a_sound_without_words_is_the_towers_when_it_is_asked_about(backend):
    chat = Chat(backend, SHORT, text_only=True)
    wordless = sound(1.0, 0.1)
    assert not chat.say_spoken(wordless).text  # nothing was asked yet
    answer = chat.say_spoken(sound(1.0, 0.5))
    contents = [{"type": "audio", "audio": wordless}]
    past = [Message("user", "", contents=tuple(contents)), Message("user", "the cat")]
    assert answer.text == text_of(backend.chat().answer(past, SHORT, spoken=False)).strip()
    heard = backend.chat().answer([past[1]], SHORT, spoken=False)
    asked = backend.chat().answer(past, SHORT, spoken=False)
    text_of(heard), text_of(asked)
    assert asked.usage.input > heard.usage.input + 20  # 25 tokens a second
    silent = Chat(backend, SHORT)
    silent.say_spoken(sound(1.0, 0.0))
    assert silent._past == []


def ended(session) -> list:
    events, until = [], time.monotonic() + 120
    while not any(isinstance(event, EndEvent) for event in events):
        assert time.monotonic() < until, f"no end among {len(events)} events"
        events += session.poll()
        time.sleep(0.005)
    return events


def ask(session) -> None:
    for frame in sound(1.0, 0.5, session.sample_rate).samples.split(session.frame_samples):
        session.step(frame)
    session.end_of_turn()


def test_a_live_session_tells_what_it_heard_and_speaks_while_it_thinks(backend):
    with TurnSession(backend, sampling=LONG) as session:
        ask(session)
        events = ended(session)
    assert isinstance(events[0], HeardEvent) and events[0].heard == "the cat"
    texts, sounds = ([at for at, one in enumerate(events) if isinstance(one, kind)] for kind in (TextEvent, AudioEvent))
    assert 0 < texts[0] < sounds[0] < texts[-1]


def test_an_interrupted_answer_is_remembered_to_the_word(backend):
    whole = backend.chat().answer([Message("user", "the cat")], LONG)
    text_of(whole)
    with TurnSession(backend, sampling=LONG) as session:
        ask(session)
        while not any(isinstance(event, AudioEvent) for event in session.poll()):
            time.sleep(0.005)
        ended(session)
        session.interrupt(heard=0.8)
        ask(session)
        ended(session)
        _, answer, *_ = session._past
    assert answer.text == whole.until(0.8) != whole.text and answer.text.strip()


def test_a_text_is_read_aloud_by_the_voice_or_refused(backend):
    assert sum(audio.duration for audio in backend.say("the cat sat", SHORT)) > 0.2
    for text in (" ", "\u4f60\u597d"):
        with pytest.raises(UnsayableError):
            list(backend.say(text))


def test_a_folder_that_names_its_voice_is_loaded_and_saved_with_it(tmp_path):
    small_talker().save_pretrained(tmp_path / "talker")
    MiniCodec(CODEC).save_pretrained(tmp_path / "codec")
    model = ours(given=talking().model.published)
    model.talker = model.token2wav = None
    parts = {"talker": str(tmp_path / "talker"), "codec": str(tmp_path / "codec")}
    mute = type(talking())(model, talking().processor)
    given = {**model.published, "enable_audio_output": False, "parts": parts}
    model.published = given
    mute.save(tmp_path / "omni")
    loaded = antiphon.load(tmp_path / "omni")
    assert loaded.backend.sample_rate == CODEC.sample_rate
    said = loaded.chat(SHORT).say_typed("the cat")
    assert said.audio.duration > 0
    own = tmp_path / "omni" / "talker"  # one that was brought back to this thinker
    other = small_talker()
    torch.nn.init.normal_(other.out[0].weight)
    other.save_pretrained(own)
    again = antiphon.load(antiphon.load(tmp_path / "omni").save(tmp_path / "again"))
    assert (tmp_path / "again" / "talker" / "model.safetensors").is_file()
    weight = again.backend.speaker.synthesizer.talker.out[0].weight
    assert torch.allclose(weight, other.out[0].weight, atol=1e-3)
    quiet = antiphon.load(tmp_path / "omni", talker=None, codec=None)
    assert quiet.backend.voices == ()
