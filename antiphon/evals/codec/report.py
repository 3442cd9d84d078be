"""What came out of `antiphon eval codec`: a table for people, figures for programs."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from antiphon.errors import ConfigError
from antiphon.evals.codec.measures import MEASURES, CodebookUse, bitrates, codebook_use
from antiphon.evals.codec.phones import PHONE_MEASURES, PhoneValues
from antiphon.evals.metrics.text import normalize, word_error_rate
from antiphon.evals.report import Figure, Report, number, print_tables


@dataclass(frozen=True)
class Value:
    """A measure over a set.

    Attributes:
        mean: over the recordings that have one; for word error rates over all words.
        reference: the same of the untouched sounds; where they need no measuring what a perfect codec gets; or None.
        n: how many recordings have one.
    """

    mean: float
    reference: float | None
    n: int


@dataclass(frozen=True)
class Point:
    """A codec at one rate.

    Attributes:
        codec: its label.
        codebooks: how many are sent.
        bitrate: bits a second, plain.
        coded_bitrate: the same if each codebook were entropy-coded on its own.
        bits: that one code takes, plain.
        use: of each codebook.
        values: by measure.
        frames: of codes, over all recordings.
        n: recordings.
    """

    codec: str
    codebooks: int
    bitrate: float
    coded_bitrate: float
    bits: float
    use: list[CodebookUse]
    values: dict[str, Value]
    frames: int
    n: int

    @property
    def sparse(self) -> bool:
        """Whether the frames are too few to tell how the codebooks are used: under ten for each code."""
        return self.frames < 10 * 2**self.bits

    @classmethod
    def of(
        cls,
        label: str,
        codec: Any,
        codes: Sequence[np.ndarray],
        values: dict[str, list[float | None]],
        before: dict[str, list[float | None]],
        said: dict[str, list[str | None]],
        scales: int = 0,
    ) -> Point:
        """From the single results.

        Args:
            label: of the codec.
            codec: has `frame_rate` and `codebook_size`.
            codes: of each recording, [codebooks, frames].
            values: by measure, of each recording.
            before: the same of the untouched sounds, for measures that need no second sound.
            said: "text" (what was said, empty where not known), "before" and "after" (what the ASR judge heard), of
                each recording; or nothing.
            scales: of chunks, that are sent besides all of the codes.
        """
        use = codebook_use(codes, codec.codebook_size)
        found = {}
        for name, scores in values.items():
            pairs = [(s, b) for s, b in zip(scores, before.get(name, scores), strict=True) if None not in (s, b)]
            if pairs:
                own = statistics.fmean(b for _, b in pairs) if name in before else MEASURES[name].perfect
                found[name] = Value(statistics.fmean(s for s, _ in pairs), own, len(pairs))
        if said and (rate := _word_error_rates(said)):
            found["wer"] = rate
        bits, frames = math.log2(codec.codebook_size), sum(row.shape[1] for row in codes)
        plain, coded = bitrates(codec, use, scales / frames)
        return cls(label, len(use), plain, coded, bits, use, found, frames, len(codes))


def _word_error_rates(said: dict[str, list[str | None]]) -> Value | None:
    """After the codec, and before. Where no one wrote down what is said, what was heard before stands for it."""
    rows = [
        (text or before, before, after)
        for text, before, after in zip(said["text"], said["before"], said["after"], strict=True)
        if before is not None and after is not None
    ]
    if not any(normalize(text) for text, _, _ in rows):
        return None
    texts, before, after = (list(column) for column in zip(*rows))
    return Value(word_error_rate(texts, after), word_error_rate(texts, before), len(rows))


@dataclass
class CodecReport:
    """Codecs at their rates, and the machine.

    Attributes:
        points: in the order of measuring.
        phones: what the first codebook of each codec tells about phones.
        environment: of the run.
    """

    points: list[Point] = field(default_factory=list)
    phones: dict[str, PhoneValues] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)

    def figures(self) -> Report:
        """Every number as a figure: CODEC-CODEBOOKS-MEASURE, and CODEC-codebook-I-... of each codebook."""
        report = Report(environment=self.environment)
        for p in self.points:
            name = f"{p.codec}-{p.codebooks}"
            report.add(Figure(f"{name}-bitrate", p.bitrate, "bit/s", None, None, p.n))
            report.add(Figure(f"{name}-coded-bitrate", p.coded_bitrate, "bit/s", None, p.bitrate, p.n))
            for measure, value in p.values.items():
                figure = Figure(f"{name}-{measure}", value.mean, MEASURES[measure].unit, None, value.reference, value.n)
                report.add(figure)
        for p in self._largest():
            for i, use in enumerate(p.use, 1):
                name = f"{p.codec}-codebook-{i}"
                report.add(Figure(f"{name}-used", use.used, "share", None, 1.0, p.frames))
                report.add(Figure(f"{name}-entropy", use.entropy, "bit", None, p.bits, p.frames))
                report.add(Figure(f"{name}-perplexity", use.perplexity, "codes", None, None, p.frames))
            for name, value in self._phones(p.codec).items():
                unit, n = PHONE_MEASURES[name][1], self.phones[p.codec].n
                report.add(Figure(f"{p.codec}-codebook-1-{name}", value, unit, None, None, n))
        return report

    def _phones(self, codec: str) -> dict[str, float]:
        return self.phones[codec].values if codec in self.phones else {}

    def _largest(self) -> list[Point]:
        """Each codec with all of the codebooks that were measured: its uses hold those of the smaller points."""
        of = {p.codec: [other for other in self.points if other.codec == p.codec] for p in self.points}
        return [max(points, key=lambda p: p.codebooks) for points in of.values()]

    def save(self, path: str | Path) -> Path:
        """Writes the figures as JSON, whole or not at all."""
        return self.figures().save(path)

    def print(self, file: TextIO | None = None) -> None:
        """Prints a row for each codec and rate, below the untouched sounds; then the use of the codebooks."""
        shown = [name for name in MEASURES if any(name in p.values for p in self.points)]
        rows = []
        if shown:
            of = {name: next(p.values[name] for p in self.points if name in p.values) for name in shown}
            rows.append(("untouched", "", "", "", *(number(of[name].reference) for name in shown)))
        for p in self.points:
            values = [number(p.values[name].mean) if name in p.values else "-" for name in shown]
            rows.append((p.codec, str(p.codebooks), f"{p.bitrate:.0f}", f"{p.coded_bitrate:.0f}", *values))
        titles = ("codec", "books", "bit/s", "coded", *(MEASURES[name].title for name in shown))
        told = [name for name in PHONE_MEASURES if any(name in self._phones(p.codec) for p in self.points)]
        books = []
        for p in self._largest():
            for i, use in enumerate(p.use, 1):
                phones = self._phones(p.codec) if i == 1 else {}
                row = (p.codec, str(i), f"{use.used:.1%}", f"{use.entropy:.2f}", f"{use.perplexity:.0f}")
                books.append((*row, *(number(phones[name]) if name in phones else "" for name in told)))
        heads = ("codec", "codebook", "used", "entropy, bit", "perplexity", *(PHONE_MEASURES[name][0] for name in told))
        print_tables([(titles, rows), (heads, books)], file, {"codec"})

    def doubts(self) -> list[str]:
        """What a reader should know about the numbers."""
        return [
            f"{p.codec}: {p.frames} frames are few for codebooks of {2**p.bits:.0f}: use, entropy and coded "
            "bitrate are estimates from below, and what the codes tell about phones from above."
            for p in self._largest()
            if p.sparse
        ]


def labels(names: Sequence[str]) -> list[tuple[str, str]]:
    """(label, name) of each codec: "label=name" says it; else a hub id's or file's last part, with as many of the
    folders before it as make it different from the others.

    Raises:
        ConfigError: two codecs of one label.
    """
    found = []
    for name in names:
        label, mark, rest = name.partition("=")
        if not mark:
            parts, depth = _parts(name), 1
            others = [other for other in names if other != name]
            general = {"codec", "export", "model", "checkpoint", "last", "best"}
            while depth < len(parts) and (
                parts[-depth].lower() in general or any(slug(parts[-depth:]) == slug(_tail(o, depth)) for o in others)
            ):
                depth += 1
            label, rest = "-".join(parts[-depth:]), name
        found.append((slug([label]), rest))
    twice = {label for label, _ in found if sum(label == other for other, _ in found) > 1}
    if twice:
        raise ConfigError(f"Two codecs would be called {min(twice)!r}: name them, --codecs a={names[0]},b=...")
    return found


def _tail(name: str, depth: int) -> list[str]:
    return _parts(name.partition("=")[2] or name)[-depth:]


def _parts(name: str) -> list[str]:
    return [part for part in re.split(r"[/\\]+", name) if part not in ("", ".", "..")]


def slug(parts: Sequence[str]) -> str:
    """Words in kebab-case, as figures are named."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-") or "codec"
