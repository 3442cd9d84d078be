"""The public corpora as their repositories have them, and what becomes of each."""

import json
import zipfile
from pathlib import Path

import pytest

from antiphon.data.text.corpora import read_sentences
from antiphon.data.text.sources import SOURCES, build_texts
from antiphon.errors import DataError

TRIVIA = (
    "\n#Q Which of these\nis a bird?\n^ The wren\nA The wren\nB The eel\n\n#Q Which of these\nis a bird?\n^ The wren\n"
)
TURN = {
    "question": "Who wrote it?", "answer_text": "Ann", "verbalized_answer": "it was written by Ann.",
    "paraphrased_question": ["Who is its author?"], "paraphrased_answer": ["Ann wrote it."],
}  # fmt: skip
FILES = {
    "OpenTriviaQA": {"categories/animals": TRIVIA.encode() + "\n#Q Who wrote caf\xe9?\n^ Nobody\n".encode("cp1252")},
    "oos-eval": {
        "data/data_full.json": {"train": [["call my bank please", "call"]], "oos_test": [["sing a song", "oos"]]}
    },
    "chinkara-openqa-dataset": {
        "chinkara-open_qa.jsonl": b'{"text": "### Human: What is a kite? ### Assistant: A kite is a toy."}\n'
    },
    "VQUANDA": {
        "dataset/train.json": [{"question": "Who made it?", "verbalized_answer": "[Ann,  Bob] made it.", "uid": "1"}],
        "dataset/test.json": [],
    },
    "Verbal-ConvQuestions": {
        "dataset/val/val_books.json": [{"conv_id": 7, "domain": "books", "questions": [TURN]}],
        "dataset/test/test_books.json": [],
    },
    "dstc8-schema-guided-dialogue": {
        "train/dialogues_001.json": [
            {
                "dialogue_id": "1_00000", "services": ["Restaurants_2"],
                "turns": [
                    {"speaker": "USER", "utterance": "Find me a place to eat.", "frames": []},
                    {"speaker": "SYSTEM", "utterance": "What city do you want?", "frames": []},
                ],
            }
        ],
        "train/schema.json": [],
    },
}  # fmt: skip


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    folder = tmp_path / "archives"
    folder.mkdir()
    for name, files in FILES.items():
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            for path, content in ({"README.md": b"#"} | files).items():
                data = content if isinstance(content, bytes) else json.dumps(content).encode()
                archive.writestr(f"{name}-master/{path}", data)
    return folder


def test_every_source_becomes_what_the_corpora_read(archives: Path, tmp_path: Path) -> None:
    out = tmp_path / "texts"
    counts = build_texts(out, archives)
    assert counts == {"questions": 2, "requests": 2, "answers": 2, "conversations": 1, "dialogues": 1}
    users = {sentence.text for split in ("train", "dev") for sentence in read_sentences(out, "user", split)}
    spoken = {sentence.text for split in ("train", "dev") for sentence in read_sentences(out, "assistant", split)}
    assert users >= {
        "Which of these is a bird?", "Who wrote caf\xe9?", "Call my bank please.", "What is a kite?",
        "Who is its author?", "Find me a place to eat.",
    }  # fmt: skip
    assert spoken >= {"A kite is a toy.", "Ann, Bob made it.", "Ann wrote it.", "What city do you want?"}
    readme = (out / "README.md").read_text()
    assert all(source.repository in readme and source.licence in readme for source in SOURCES)


def test_what_is_there_is_left_and_what_is_broken_is_told(archives: Path, tmp_path: Path) -> None:
    out = tmp_path / "texts"
    (archives / "oos-eval.zip").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"oos-eval.zip is not the archive of clinc/oos-eval"):
        build_texts(out, archives)
    (archives / "oos-eval.zip").unlink()
    with zipfile.ZipFile(archives / "oos-eval.zip", "w") as archive:
        archive.writestr("x/other.json", "{}")
    with pytest.raises(DataError, match="it has no data/data_full.json"):
        build_texts(out, archives)
    assert (out / "questions.jsonl.gz").is_file() and not (out / "requests.jsonl.gz").exists()


def test_no_network_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    with pytest.raises(DataError, match=r"no route.*put it at .*OpenTriviaQA.zip"):
        build_texts(tmp_path / "texts")
