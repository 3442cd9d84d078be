"""The public corpora that recipes name `texts`, downloaded and brought into the form that `corpora` reads.

    antiphon data texts -o texts

Each is a GitHub repository; `SOURCES` says which, under which licence, and what becomes of it. Where there is no
network, download the archives elsewhere (the address is in the message) and name their folder.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from antiphon.errors import DataError

Rows = Iterator[dict[str, Any]]


@dataclass(frozen=True)
class Source:
    """A published corpus.

    Attributes:
        repository: owner/name on GitHub.
        licence: of its data.
        becomes: "questions", "requests", "answers", "conversations" or "dialogues".
        files: globs over paths inside the repository.
        rows: what a file holds, given its path and text.
    """

    repository: str
    licence: str
    becomes: str
    files: tuple[str, ...]
    rows: Callable[[str, str], Rows]

    @property
    def archive(self) -> str:
        """Name of its archive in a folder."""
        return f"{self.repository.split('/')[1]}.zip"

    @property
    def url(self) -> str:
        return f"https://github.com/{self.repository}/archive/HEAD.zip"


def trivia(path: str, text: str) -> Rows:
    """OpenTriviaQA: `#Q` a question, `^` the right answer, then the choices."""
    for block in re.split(r"^#Q ", text, flags=re.M)[1:]:
        question, found, rest = block.partition("\n^ ")
        if found:
            yield {
                "text": " ".join(question.split()),
                "answer": rest.splitlines()[0].strip(),
                "category": path.rsplit("/", 1)[-1],
            }


def intents(path: str, text: str) -> Rows:
    """CLINC150: split -> [[text, intent], ...]."""
    for pairs in json.loads(text).values():
        for said, intent in pairs:
            yield {"text": said, "intent": intent}


def dolly(path: str, text: str) -> Rows:
    """The open questions of databricks-dolly-15k, as one text with two marks."""
    for line in text.splitlines():
        asked, found, reply = json.loads(line)["text"].partition(" ### Assistant: ")
        if found:
            asked = asked.removeprefix("### Human: ").strip()
            yield {"text": asked, "reply": reply.strip(), "source": "databricks-dolly-15k open_qa"}


def verbalized(path: str, text: str) -> Rows:
    """VQuAnDa: the answer inside a sentence stands in square brackets."""
    for row in json.loads(text):
        reply = re.sub(r"\s+", " ", re.sub(r"[\[\]]", "", row["verbalized_answer"])).strip()
        yield {"text": row["question"].strip(), "reply": reply, "source": "VQuAnDa"}


def follow_ups(path: str, text: str) -> Rows:
    """Verbal-ConvQuestions: questions in a row about one thing, each with paraphrases and spoken answers."""
    for conversation in json.loads(text):
        turns = [
            {
                "user": [turn["question"], *turn["paraphrased_question"]],
                "assistant": [turn["verbalized_answer"], *turn["paraphrased_answer"]],
                "answer": turn["answer_text"],
            }
            for turn in conversation["questions"]
        ]
        domain = conversation["domain"]
        yield {"id": f"{domain}-{conversation['conv_id']}", "domain": domain, "turns": turns}


def guided(path: str, text: str) -> Rows:
    """Schema-Guided Dialogue."""
    for dialogue in json.loads(text):
        turns = [{"speaker": turn["speaker"].lower(), "text": turn["utterance"]} for turn in dialogue["turns"]]
        yield {"id": dialogue["dialogue_id"], "services": dialogue["services"], "turns": turns}


SOURCES = (
    Source("uberspot/OpenTriviaQA", "CC BY-SA 4.0", "questions", ("categories/*",), trivia),
    Source("clinc/oos-eval", "CC BY 3.0", "requests", ("data/data_full.json",), intents),
    Source("prp-e/chinkara-openqa-dataset", "CC BY-SA 3.0", "answers", ("chinkara-open_qa.jsonl",), dolly),
    Source("AskNowQA/VQUANDA", "CC BY 4.0", "answers", ("dataset/train.json", "dataset/test.json"), verbalized),
    Source(
        "endrikacupaj/Verbal-ConvQuestions", "CC BY 4.0", "conversations",
        ("dataset/val/*.json", "dataset/test/*.json"), follow_ups,
    ),
    Source(
        "google-research-datasets/dstc8-schema-guided-dialogue", "CC BY-SA 4.0", "dialogues",
        ("train/dialogues_*.json", "dev/dialogues_*.json"), guided,
    ),
)  # fmt: skip


def build_texts(
    out: Path, archives: Path | None = None, tell: Callable[[str], None] = lambda line: None
) -> dict[str, int]:
    """Writes `<name>.jsonl.gz` for each kind of text, and README.md with sources and licences.

    Args:
        out: the folder; kinds that are there already are left as they are.
        archives: a folder of the repositories' archives, named as `Source.archive`; those that aren't there are
            downloaded into it. None keeps them in out/archives.
        tell: is told what is done.

    Returns:
        Kind -> rows, of what was written.

    Raises:
        DataError: an archive cannot be had, or isn't what it should be.
    """
    archives, written = archives or out / "archives", {}
    out.mkdir(parents=True, exist_ok=True)
    for kind in dict.fromkeys(source.becomes for source in SOURCES):
        target = out / f"{kind}.jsonl.gz"
        if target.is_file():
            tell(f"{target} is there already")
            continue
        part, count = target.with_suffix(".part"), 0
        with gzip.open(part, "wt", encoding="utf-8") as file:
            for source in (each for each in SOURCES if each.becomes == kind):
                for row in _distinct(_read(source, _fetch(source, archives, tell))):
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                    count += 1
        part.replace(target)
        tell(f"{target}: {count} rows")
        written[kind] = count
    lines = [f"- {s.becomes}: https://github.com/{s.repository}, {s.licence}" for s in SOURCES]
    (out / "README.md").write_text("\n".join(["# Where these texts come from", "", *lines, ""]), encoding="utf-8")
    return written


def _fetch(source: Source, folder: Path, tell: Callable[[str], None]) -> Path:
    """The repository's archive, downloaded if need be."""
    path = folder / source.archive
    if path.is_file():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    tell(f"Downloading {source.url} ...")
    part = path.with_suffix(".part")
    try:
        with urllib.request.urlopen(source.url, timeout=60) as answer, part.open("wb") as file:
            shutil.copyfileobj(answer, file)
    except OSError as error:
        raise DataError(
            f"{source.url} cannot be downloaded ({error}); get it elsewhere and put it at {path}, or --archives FOLDER"
        ) from error
    part.replace(path)
    return path


def _read(source: Source, path: Path) -> Rows:
    """The rows of a repository's files, in the order of their names."""
    found = False
    try:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                inside = name.partition("/")[2]  # the archive's one folder is the repository
                if inside.endswith("/") or not any(fnmatch(inside, glob) for glob in source.files):
                    continue
                found = True
                yield from source.rows(inside, _text(archive.read(name)))
    except (zipfile.BadZipFile, OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is not the archive of {source.repository}: {error!r}; remove it to load it anew"
        ) from error
    if not found:
        raise DataError(f"{path} is not the archive of {source.repository}: it has no {', '.join(source.files)}")


def _text(data: bytes) -> str:
    """A file's text; some of the older ones are in Windows' Western European encoding."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def _distinct(rows: Rows) -> Rows:
    """Rows whose text, or id, comes for the first time."""
    seen = set()
    for row in rows:
        identity = row.get("id") or row["text"].casefold()
        if identity and identity not in seen:
            seen.add(identity)
            yield row
