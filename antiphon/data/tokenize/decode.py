"""Codes back to sound files: `antiphon detokenize`."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from antiphon.audio.io import SUBTYPES, Audio
from antiphon.codecs.base import fingerprint
from antiphon.data.codes import Coded, CodeSet, device_of
from antiphon.data.store import writing
from antiphon.data.tokenize.encode import open_codec, why
from antiphon.data.tokenize.workers import followed, in_processes
from antiphon.errors import DataError


@dataclass(frozen=True)
class DetokenizeConfig:
    """How codes become sound files.

    Attributes:
        source: the folder of the set of codes.
        out: folder of the sound files.
        codec: name or folder; None is the one that the set names.
        codebooks: decode only the first ones; None decodes all.
        ending: of the files, "wav" or "flac".
        workers: processes that decode.
        device: that decodes, "cpu" or "cuda".
    """

    source: Path
    out: Path
    codec: str | None = None
    codebooks: int | None = None
    ending: str = "wav"
    workers: int = 1
    device: str = "cpu"

    def __post_init__(self) -> None:
        if f".{self.ending}" not in SUBTYPES:
            raise DataError(f"Sound files end in {' or '.join(e[1:] for e in SUBTYPES)}, not {self.ending!r}.")
        if self.codebooks is not None and self.codebooks < 1:
            raise DataError(f"codebooks is {self.codebooks}: give 1 or more.")
        if self.workers < 1:
            raise DataError(f"workers is {self.workers}: give 1 or more.")


@dataclass(frozen=True)
class Job:
    """What a worker must know besides the codes: name of the codec, its device, threads (0: PyTorch's number)."""

    codec: str
    device: str
    threads: int


def file_names(ids: Sequence[str], ending: str) -> list[str]:
    """A file for each id: its path with another ending, inside one folder whatever the id is, all different.

    Where two ids differ in nothing but their ending ("a.wav" and "a.mp3"), it stays in the name ("a.wav.flac").
    """
    clean = []
    for identity in ids:
        parts = [re.sub(r'[\x00-\x1f<>:"|?*\\\ud800-\udfff]', "_", part) for part in PurePosixPath(identity).parts]
        parts = [part for part in parts if part not in ("/", ".", "..")] or ["_"]
        clean.append(PurePosixPath(*parts))
    short = Counter(str(path.with_suffix("")).lower() for path in clean)
    names = [
        f"{path.with_suffix('') if short[str(path.with_suffix('')).lower()] == 1 else path}.{ending}" for path in clean
    ]
    twice = Counter(name.lower() for name in names)
    return [
        name if twice[name.lower()] == 1 else f"{name.removesuffix(f'.{ending}')}-{i}.{ending}"
        for i, name in enumerate(names)
    ]


@torch.inference_mode()
def decode(codec: Any, codes: np.ndarray, samples: int, scales: Sequence[float] = ()) -> Audio:
    """The sound of codes [codebooks, frames], with the scales of their chunks if there are any, cut to the recording's
    own length in samples."""
    device = device_of(codec)
    more = (torch.tensor([scales], device=device),) if scales else ()
    audio = codec.decode(torch.from_numpy(codes)[None].to(device), *more)[0].cpu()
    return Audio(audio[..., :samples] if samples else audio, codec.sample_rate)


def write(codec: Any, codes: np.ndarray, samples: int, scales: Sequence[float], path: Path) -> str:
    """Decodes into a file, which appears whole or not at all; gives the reason if that failed."""
    try:
        part = path.with_name(f".{path.stem}.part{path.suffix}")
        decode(codec, codes, samples, scales).save(part)
        os.replace(part, path)
    except Exception as error:  # one recording must not stop the others
        return why(error)
    return ""


@functools.lru_cache(maxsize=1)
def _worker_codec(job: Job) -> Any:
    if job.threads:
        torch.set_num_threads(job.threads)
    return open_codec(job.codec, job.device)


def work(job: Job, at: int, item: tuple[np.ndarray, int, list[float], Path]) -> tuple[int, str]:
    """`write` in a process of its own, which loads the codec once."""
    return at, write(_worker_codec(job), *item)


def _killed(at: int) -> tuple[int, str]:
    return at, "It killed its process twice, maybe for lack of memory."


class _Items:
    """Codes, length, scales and file of each recording that is wanted, read when asked for."""

    def __init__(self, codes: CodeSet, wanted: list[tuple[int, Path]], codebooks: int | None) -> None:
        self.codes, self.wanted, self.codebooks = codes, wanted, codebooks

    def __len__(self) -> int:
        return len(self.wanted)

    def __getitem__(self, at: int) -> tuple[np.ndarray, int, list[float], Path]:
        index, path = self.wanted[at]
        row = self.codes.rows[index]
        return self.codes[index][: self.codebooks], row.samples, row.scales, path


def _claim(out: Path, codes: CodeSet, codebooks: int, paths: list[Path], decoder: str) -> None:
    """Makes sure that the sounds in a folder are of these codes, and notes in sounds.json what they are of: weights,
    number of codebooks, and recordings (a set may have got more of them since).

    Raises:
        DataError: they are of other codes, or not known to be of these; or the folder cannot be written.
    """

    def made_of(number: int) -> dict[str, Any]:
        rows = [(row.id, row.samples, row.frames, row.stamp) for row in codes.rows[:number]]
        digest = hashlib.sha256(repr(rows).encode()).hexdigest()[:16]  # repr, so that any id can be encoded
        return {
            "fingerprint": codes.info.fingerprint, "decoder": decoder, "codebooks": codebooks, "recordings": number,
            "digest": digest,
        }  # fmt: skip

    note = out / "sounds.json"
    if note.exists():
        try:
            there = json.loads(note.read_text(encoding="utf-8"))
            same = {"decoder": decoder} | there == made_of(there["recordings"])  # older notes say nothing of it
        except (OSError, ValueError, KeyError, TypeError):
            same = False
        if not same:
            raise DataError(
                f"{out} holds sounds made of other codes, by another decoder or with other codebooks than {codebooks}: "
                "choose another folder, or delete this one."
            )
    elif found := [path for path in (*paths, out / "manifest.jsonl") if path.exists()]:
        raise DataError(f"{found[0]} is there and {note} doesn't say of which codes it is: choose another folder.")
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        part = out / "sounds.json.part"
        part.write_text(json.dumps(made_of(len(codes))) + "\n", encoding="utf-8")
        part.replace(note)


def detokenize(config: DetokenizeConfig, bar: bool = True, codec: Any = None) -> list[tuple[Coded, str]]:
    """Decodes a set of codes into sound files, and writes a manifest.jsonl beside them. Safe to stop and to rerun.

    Args:
        config: what and how.
        bar: show progress and the time left, on stderr.
        codec: one that is loaded already, for `workers` = 1; None loads the config's.

    Returns:
        What could not be decoded or written, with the reason.

    Raises:
        DataError: no codes, or those of another codec, or one that cannot decode; or a folder that cannot be written,
            or holds sounds of something else.
    """
    codes = CodeSet(config.source)
    if not len(codes):
        raise DataError(f"{config.source} holds no codes (yet).")
    name = config.codec or codes.info.codec
    codec = codec if codec is not None else open_codec(name, config.device)
    if not callable(getattr(codec, "decode", None)):
        raise DataError(f"{name} makes codes but no sound of them.")
    codes.info.check(codec, config.source)
    if config.codebooks is not None and config.codebooks > codes.info.codebooks:
        raise DataError(f"{config.source} has {codes.info.codebooks} codebooks, not {config.codebooks}: ask for fewer.")
    codebooks = config.codebooks or codes.info.codebooks
    names = file_names([row.id for row in codes.rows], config.ending)
    paths = [config.out / each for each in names]
    _claim(config.out, codes, codebooks, paths, fingerprint(codec))
    items = _Items(codes, [(i, path) for i, path in enumerate(paths) if not path.is_file()], codebooks)
    if config.workers > 1:
        threads = max(1, (os.cpu_count() or 1) // config.workers)
        results = in_processes(work, Job(name, config.device, threads), items, config.workers, _killed)
    else:
        results = ((at, write(codec, *items[at])) for at in range(len(items)))
    failed: dict[int, str] = {}
    before = len(codes) - len(items)
    with followed(results, len(codes), before, config.out.name, bar) as progress:
        for at, reason in results:
            index = items.wanted[at][0]
            if reason:
                failed[index] = reason
                progress.write(f"{codes.rows[index].id}: skipped: {reason}", file=sys.stderr)
            progress.update(1)
    if len(failed) == len(codes):
        raise DataError(f"Nothing could be decoded into {config.out}: {failed[0]}")
    lines = [
        json.dumps({"path": names[i], "id": row.id, "text": row.text, "voice": row.voice}, ensure_ascii=False) + "\n"
        for i, row in enumerate(codes.rows)
        if i not in failed
    ]
    part = config.out / "manifest.jsonl.part"
    with writing(config.out):
        part.write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
        part.replace(config.out / "manifest.jsonl")
    return [(codes.rows[i], reason) for i, reason in failed.items()]
