"""Public question sets: read as they are published, read aloud, graded spoken beside typed."""

import json
from types import SimpleNamespace

import pytest
import torch

from antiphon.audio.io import Audio
from antiphon.errors import DataError
from antiphon.evals.assistant import benchmarks, material
from antiphon.evals.assistant.answers import conversation
from antiphon.evals.assistant.benchmarks import Choice, choices, problems, read_aloud
from antiphon.evals.assistant.evaluation import AssistantConfig, AssistantEvaluation
from antiphon.evals.assistant.material import Clip


class Chat:
    """Answers each message by a rule, and remembers what it was given."""

    def __init__(self, rule):
        self.rule, self.asked = rule, []

    def answer(self, past, sampling=None, spoken=True):
        self.asked.append([message.text for message in past])
        text = self.rule(past)
        return SimpleNamespace(text=text, message=SimpleNamespace(text=text), events=lambda: iter(()))


def test_sets_are_read_as_published(tmp_path):
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "gsm8k/test.jsonl").write_text(
        json.dumps({"question": "How many?", "answer": "3 + 4 = <<3+4=7>>7 ... so\n#### 1,007"}) + "\n"
    )
    (tmp_path / "openbookqa").mkdir()
    labelled = {"text": ["a star", "a planet"], "label": ["A", "B"]}
    (tmp_path / "openbookqa/test.jsonl").write_text(
        json.dumps({"question_stem": "The sun is", "choices": labelled, "answerKey": "A"}) + "\n"
    )
    assert problems(tmp_path, 5) == [("How many?", 1007.0)]
    assert choices(tmp_path, "openbookqa", 5) == [Choice("The sun is", ("a star", "a planet"), 0)]
    with pytest.raises(DataError, match="--benchmarks"):
        problems(None, 5)
    with pytest.raises(DataError, match="piqa"):
        choices(tmp_path, "piqa", 5)


def test_options_are_read_aloud():
    asked = read_aloud(Choice("Which is hot?", ("fire.", "ice", "snow", "rain"), 0))
    assert asked == (
        "Which is hot? Option A: fire. Option B: ice. Option C: snow. Option D: rain. "
        "Which option is right, A, B, C or D?"
    )


def test_spoken_stands_beside_typed(tmp_path, monkeypatch):
    """The model mishears every second question, so half of what it knows typed is lost."""
    (tmp_path / "openbookqa").mkdir()
    rows = [
        {"question_stem": f"Number {i} is", "choices": {"text": ["one", "two"], "label": ["A", "B"]}, "answerKey": "B"}
        for i in range(4)
    ]
    (tmp_path / "openbookqa/test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def speak(texts, folder):
        return [Clip(str(i), text, Audio(torch.full((9,), i / 9), 24000), "joe") for i, text in enumerate(texts)]

    def hear(audio):
        return SimpleNamespace(text="garble" if round(float(audio.samples[0]) * 9) % 2 else "Number 0", embeddings=None)

    def answer(past):
        return "It is A." if past[-1].text == "garble" else "The answer is B: two."

    monkeypatch.setattr(material, "spoken", speak)
    evaluation = AssistantEvaluation(AssistantConfig(model="base", benchmarks=tmp_path))
    evaluation.model = SimpleNamespace(hear=hear, backend=SimpleNamespace(chat=lambda: Chat(answer)))
    spoken, lost = benchmarks.openbookqa(evaluation, 4)
    assert (spoken.value, spoken.reference, spoken.n) == (0.5, 1.0, 4)
    assert (lost.name, lost.value, lost.met) == ("openbookqa-spoken-lost", 0.5, False)


def test_a_conversation_goes_on_from_its_answers():
    chat = Chat(lambda past: f"{len(past)} said")
    model = SimpleNamespace(backend=SimpleNamespace(chat=lambda: chat))
    assert conversation(model, ["I'm Ann.", "Who am I?"]) == ["1 said", "3 said"]
    assert chat.asked == [["I'm Ann."], ["I'm Ann.", "1 said", "Who am I?"]]
