"""Pairs of which one side is right: a folder of ours, and the layouts of sWUGGY, sBLIMP, StoryCloze and SALMon.

    pairs = read_pairs(folder)
    pairs[0].right.sound, pairs[0].wrong.sound      # files

Ours is `pairs.jsonl` beside the sounds, a line a pair: `{"id", "kind", "prompt": {"text", "sound"} or null, "right":
{...}, "wrong": {...}}`, paths from the folder: people can look at it and listen.
"""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from antiphon.errors import DataError

INDEX = "pairs.jsonl"


@dataclass(frozen=True)
class Said:
    """Something said.

    Attributes:
        text: its words; "" where nobody wrote them down.
        sound: its file; "" where there is none.
    """

    text: str = ""
    sound: str = ""


@dataclass(frozen=True)
class Pair:
    """Two sides, of which a model should find one likelier.

    Attributes:
        id: unique in its kind.
        kind: what it is about: "words", "grammar", "endings", or the benchmark's own name.
        right, wrong: the sides.
        prompt: what both follow, if anything.
    """

    id: str
    kind: str
    right: Said
    wrong: Said
    prompt: Said | None = None


def write_pairs(folder: Path, pairs: Sequence[Pair]) -> None:
    """Writes the index of a folder of ours; sounds lie in it already, named by their paths from it."""
    lines = [json.dumps(asdict(pair), ensure_ascii=False) + "\n" for pair in pairs]
    part = folder / f"{INDEX}.part"
    part.write_text("".join(lines), encoding="utf-8")
    part.replace(folder / INDEX)


def read_pairs(place: str | Path) -> list[Pair]:
    """The pairs of a folder, by what lies in it.

    Args:
        place: a folder with pairs.jsonl; or `lexical/dev`, `syntactic/dev` of ZeroSpeech 2021 (gold.csv beside the
            sounds: sWUGGY, sBLIMP); or StoryCloze as spoken by Hassid et al. 2023 (`N_correct.wav`, `N_incorrect.wav`,
            `N_mutual.wav` and .txt); or SALMon (a folder a task, `sample_N_...wav`, the right one first by name).

    Raises:
        DataError: none of these, or a pair whose sides are equal or not there.
    """
    place = Path(place)
    if (place / INDEX).is_file():
        pairs = _ours(place)
    elif (place / "gold.csv").is_file():
        pairs = _gold(place)
    elif any(place.rglob("*_correct.wav")):
        pairs = _stories(place)
    elif any(place.rglob("sample_*.wav")):
        pairs = _salmon(place)
    else:
        raise DataError(f"{place} holds no pairs that are known (pairs.jsonl, gold.csv, N_correct.wav or sample_N.wav)")
    if not pairs:
        raise DataError(f"{place} holds not one pair")
    for pair in pairs:
        if pair.right == pair.wrong:
            raise DataError(f"{place}: the sides of pair {pair.id!r} are equal, so neither is right")
        for side in (pair.right, pair.wrong, *([pair.prompt] if pair.prompt else ())):
            if side.sound and not Path(side.sound).is_file():
                raise DataError(f"{place}: {side.sound}, of pair {pair.id!r}, is not there")
    return pairs


def _ours(folder: Path) -> list[Pair]:
    def said(value: dict[str, Any]) -> Said:
        return Said(value["text"], str(folder / value["sound"]) if value["sound"] else "")

    pairs = []
    for number, line in enumerate((folder / INDEX).read_text(encoding="utf-8").split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
                prompt = said(row["prompt"]) if row["prompt"] else None
                pairs.append(Pair(row["id"], row["kind"], said(row["right"]), said(row["wrong"]), prompt))
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(f"{folder / INDEX}, line {number}, is no pair ({error!r})") from error
    return pairs


def _gold(folder: Path) -> list[Pair]:
    """ZeroSpeech 2021: rows of one id and voice belong together; `correct` is 1 or 0."""
    with (folder / "gold.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        kind = "swuggy" if "word" in rows[0] else "sblimp"
        text = "word" if kind == "swuggy" else "transcription"
        found: dict[tuple[str, str], dict[bool, Said]] = defaultdict(dict)
        for row in rows:
            sound = folder / (row["filename"] if row["filename"].endswith(".wav") else f"{row['filename']}.wav")
            found[row["id"], row["voice"]][row["correct"] == "1"] = Said(row[text], str(sound))
    except (KeyError, IndexError) as error:
        raise DataError(f"{folder / 'gold.csv'} lacks {error}: it isn't ZeroSpeech 2021's") from error
    return [
        Pair(f"{identity}-{voice}", kind, sides[True], sides[False])
        for (identity, voice), sides in found.items()
        if len(sides) == 2
    ]


def _stories(folder: Path) -> list[Pair]:
    pairs = []
    for right in sorted(folder.rglob("*_correct.wav")):
        base = str(right).removesuffix("_correct.wav")

        def said(end: str, base: str = base) -> Said:
            text = Path(f"{base}_{end}.txt")
            return Said(text.read_text(encoding="utf-8").strip() if text.is_file() else "", f"{base}_{end}.wav")

        prompt = said("mutual") if Path(f"{base}_mutual.wav").is_file() else None
        pairs.append(Pair(Path(base).name, "storycloze", said("correct"), said("incorrect"), prompt))
    return pairs


def _salmon(folder: Path) -> list[Pair]:
    found: dict[tuple[str, int], list[Path]] = defaultdict(list)
    for path in folder.rglob("sample_*.wav"):
        number = re.match(r"sample_(\d+)", path.stem)
        if number:
            found[path.parent.name, int(number[1])].append(path)
    pairs = []
    for (task, number), paths in sorted(found.items()):
        if len(paths) == 2:
            right, wrong = (Said(sound=str(path)) for path in sorted(paths))
            pairs.append(Pair(str(number), f"salmon-{task.replace('_', '-')}", right, wrong))
    return pairs
