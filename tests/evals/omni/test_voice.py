"""Spoken questions beside the same typed, and what is said aloud beside what it should have been."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from antiphon.audio.io import Audio
from antiphon.data.omni.states import omni_states
from antiphon.dialogue.backend import Hearing
from antiphon.dialogue.chat import Reply
from antiphon.evals.omni import voice
from antiphon.evals.omni.figures import GROUPS
from antiphon.evals.omni.questions import OmniEvalConfig, OmniEvaluation, asked
from tests.models.omni.tiny import spoken_beside


class Teacher:
    """Says a text as one sample a letter."""

    sample_rate = 24000

    def speak(self, text: str) -> SimpleNamespace:
        return SimpleNamespace(samples=np.array([ord(letter) / 1000 for letter in text], np.float32))


def spelled(audio: Audio) -> str:
    return "".join(chr(round(1000 * value)) for value in audio.samples.tolist())


@dataclass
class Pretended(OmniEvaluation):
    """Answers every question rightly that it gets word for word."""

    config: OmniEvalConfig = field(default_factory=OmniEvalConfig)
    deaf: bool = False

    @property
    def backend(self) -> SimpleNamespace:
        return SimpleNamespace(heard=lambda audio: Hearing(spelled(audio)[: 5 if self.deaf else None]))

    def answer(self, messages) -> str:
        *_, question = messages[0]["content"]
        right = {text: ask.reply for _, ask, text in asked(self, "picture", 12)}
        return right.get(question["text"], "nothing")


@pytest.fixture(autouse=True)
def teacher(monkeypatch):
    monkeypatch.setattr(voice, "HibariVoice", Teacher)
    monkeypatch.setattr(voice, "MAKERS", {"picture": None})


def test_a_spoken_question_is_right_if_what_was_heard_of_it_is_answered_rightly():
    (heard,) = voice.spoken_questions(Pretended(), 12)
    assert (heard.name, heard.n) == ("spoken-questions-right", 12)
    assert heard.value == heard.reference > 0.8  # two pictures may be asked about in the same words
    (unheard,) = voice.spoken_questions(Pretended(deaf=True), 12)
    assert unheard.value == 0.0 and unheard.reference == heard.reference


def test_what_is_said_is_judged_in_sentences_and_replies(monkeypatch):
    """Its voice leaves out the last word of everything, mini's doesn't."""
    evaluation = Pretended()
    said = Teacher()

    def sound(text: str) -> Audio:
        return Audio(torch.from_numpy(said.speak(text.rpartition(" ")[0]).samples), 24000)

    class Talking:
        def chat(self, sampling) -> SimpleNamespace:
            return SimpleNamespace(say_contents=lambda contents: Reply("", "it is red", sound("it is red")))

    class Mini:
        sample_rate = 24000

        def __init__(self, *_): ...

        def say(self, text: str, seed: int):
            yield torch.from_numpy(said.speak(text).samples)

    evaluation.__dict__["model"] = Talking()
    monkeypatch.setattr(voice, "Synthesizer", Mini)
    monkeypatch.setattr(voice, "thought_aloud", lambda backend, text, seed: sound(text))
    for part in ("Talker", "MiniCodec"):
        monkeypatch.setattr(voice, part, SimpleNamespace(from_pretrained=lambda folder: None))
    monkeypatch.setattr(voice, "assistant_texts", lambda texts, n: ["the cat sat on a mat"] * n)
    evaluation.transcribed = lambda title, clips, reference=False: [spelled(clip) for clip in clips]
    both, sentences, replies = voice.say(evaluation, 4)
    assert (sentences.value, replies.value, both.value) == pytest.approx((1 / 6, 1 / 3, 2 / 9))
    assert (both.reference, both.bar, both.n, sentences.n) == (0.0, "<= 0.15", 8, 4)
    assert [each.name for each in (both, sentences, replies)] == list(GROUPS["say"].figures)


def test_a_sentence_is_said_as_it_is_thought():
    backend, given = spoken_beside(), []
    synthesizer = backend.speaker.synthesizer
    add = synthesizer.add
    synthesizer.add = lambda text, state, hidden=None: (given.append((text, hidden)), add(text, state, hidden))
    audio = voice.thought_aloud(backend, "the cat sat on the mat")
    (pieces, states), *_ = omni_states(backend.model, backend.processor, ["the cat sat on the mat"])
    assert audio.duration > 0.2 and "".join(text for text, _ in given) == "".join(pieces)
    torch.testing.assert_close(torch.stack([hidden for _, hidden in given]), states, atol=1e-4, rtol=1e-4)
