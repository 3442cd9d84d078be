"""`antiphon data`: sets made and described from the command line; results on stdout and nothing else."""

import gzip
import json

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from antiphon.cli.data import app, shares
from antiphon.data.dialogue.format import read_dialogues
from antiphon.data.speech.utterances import SpeechSet
from antiphon.errors import ConfigError

pytest.importorskip("onnx")
pytest.importorskip("hibari")

run = CliRunner()


@pytest.fixture
def texts(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    turns = [
        {"speaker": who, "text": f"{said} {n} {end}"}
        for n in range(30)
        for who, said, end in (("user", "Can I have", "apples?"), ("system", "Here are", "apples for you."))
    ]
    with gzip.open(folder / "dialogues.jsonl.gz", "wt") as file:
        file.write(json.dumps({"turns": turns}) + "\n")
    return folder


def test_speak_then_info(texts, tmp_path):
    out = tmp_path / "set"
    asked = ["speak", "--texts", str(texts), "-o", str(out), "--role", "assistant=0.5", "--role", "user=0.5", "--count"]
    result = run.invoke(app, [*asked, "4"])
    assert result.exit_code == 0 and result.stdout == f"{out}\n"
    speech = SpeechSet(out)
    assert sorted(each.role for each in speech.utterances) == ["assistant"] * 2 + ["user"] * 2
    assert speech.sample_rate == 24000 and all(each.phonemes and each.words for each in speech.utterances)
    assert run.invoke(app, [*asked, "6"]).exit_code == 0  # goes on where it was
    assert [each.id for each in SpeechSet(out).utterances][:4] == [each.id for each in speech.utterances]
    result = run.invoke(app, ["info", str(out), "--json", str(tmp_path / "info.json")])
    assert result.exit_code == 0 and "utterances" in result.stdout
    assert json.loads((tmp_path / "info.json").read_text())["utterances"] == "6"


def test_questions(texts, tmp_path):
    out = tmp_path / "set"
    result = run.invoke(app, ["questions", "--texts", str(texts), "-o", str(out), "--count", "3", "--augment"])
    assert result.exit_code == 0 and result.stdout == f"{out}\n"
    speech = SpeechSet(out)
    assert len(speech) == 3 and speech.sample_rate == 16000
    assert all(each.text.endswith("apples?") and each.changes["augmented"] for each in speech.utterances)
    assert len({each.changes["pitch"] for each in speech.utterances}) == 3


def test_converse(tmp_path):
    intents = ("timer", "weather", "fun_fact", "weather of Mars")  # no reply fits the last
    rows = [
        {"text": f"please tell me about {intent} number {n}", "intent": intent} for intent in intents for n in "abc"
    ]
    with gzip.open(tmp_path / "requests.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    out = tmp_path / "set"
    asked = ["converse", "--texts", str(tmp_path), "-o", str(out), "--hours", "0.02", "--seed", "5"]
    result = run.invoke(app, asked)
    assert result.exit_code == 0 and result.stdout == f"{out}\n"
    talks = dict(read_dialogues(out))
    assert len(talks) == 2 and all(talk.sample_rate == 24000 for talk in talks.values())
    turns = [each for talk in talks.values() for each in talk.events if each.kind == "turn" and each.speaker == "user"]
    assert turns and {turn.note for turn in turns} <= set(intents[:3])
    index = (out / "index.jsonl").read_text()
    assert run.invoke(app, asked).exit_code == 0 and (out / "index.jsonl").read_text() == index


def test_conversations_to_learn_turn_taking_from(run_turns, tmp_path):
    result, out = run_turns("train")
    assert result.exit_code == 0 and result.stdout == f"{out}\n"
    (talk,) = dict(read_dialogues(out)).values()
    assert {"turn", "noise"} <= {event.kind for event in talk.events} and talk.user.any()


@pytest.fixture
def run_turns(tmp_path):
    def made(split):
        rows = [{"text": f"please tell me about the timer number {n}", "intent": "timer"} for n in "abc"]
        with gzip.open(tmp_path / "requests.jsonl.gz", "wt") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        (tmp_path / "sounds").mkdir()
        for number in range(10):
            soundfile.write(tmp_path / "sounds" / f"{number}.wav", 0.1 * np.ones(8000) * (-1) ** np.arange(8000), 16000)
        out = tmp_path / "set"
        places = [each for option in ("--sound", "--speech") for each in (option, str(tmp_path / "sounds"))]
        asked = ["turns", "--texts", str(tmp_path), "-o", str(out), "--hours", "0.01", "--split", split, *places]
        return run.invoke(app, [*asked, "--voice", "hibari=1"]), out

    return made


def test_converse_without_requests(texts, tmp_path):
    result = run.invoke(app, ["converse", "--texts", str(texts), "-o", str(tmp_path / "set")])
    assert result.exit_code != 0 and "requests" in str(result.exception)


def test_shares():
    assert shares(["assistant=0.85", "user=0.15"]) == {"assistant": 0.85, "user": 0.15}
    assert shares(["assistant"]) == {"assistant": 1.0}
    for wrong in ("assistant=much", "user=-1"):
        with pytest.raises(ConfigError):
            shares([wrong])
