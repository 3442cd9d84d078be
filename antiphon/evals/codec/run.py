"""`antiphon eval codec`: codecs against each other, at every rate, on the same recordings.

    report = run(CodecConfig(("mimi", "encodec_24khz"), Path("recordings")), Path("figures.json"))

Each recording goes through each codec once; its codes are decoded with 1, 2, 4, ... codebooks, and each of these
sounds is measured against the untouched one. Every single result is kept beside the JSON as soon as it is there (by
codec, weights, codebooks, measure and recording), so a run that was interrupted, or that gets more codecs, measures
or recordings, does only what is new.
"""

from __future__ import annotations

import logging
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from antiphon.audio.io import Audio
from antiphon.codecs.base import fingerprint
from antiphon.data.recordings import Recording, fitted, recordings
from antiphon.data.tokenize.decode import decode, file_names
from antiphon.data.tokenize.encode import encode_scaled, open_codec, why
from antiphon.data.tokenize.workers import unreached
from antiphon.errors import AntiphonError, ConfigError, DataError
from antiphon.evals.asr_judge import MAX_SECONDS, MAX_TOKENS, AsrJudge
from antiphon.evals.cache import ResultCache, key_of, pack_codes, unpack_codes
from antiphon.evals.codec.measures import MEASURES, missing_package, one_thread, scores
from antiphon.evals.codec.phones import PHONE_MEASURES, phone_measures
from antiphon.evals.codec.report import CodecReport, Point, labels
from antiphon.evals.harness import tell
from antiphon.evals.machine import environment, version
from antiphon.evals.rows import spread
from antiphon.nn.placement import check_device

log = logging.getLogger(__name__)
CHUNK_RECORDINGS = 16  # that are held, and heard by the ASR judge, at once
HEARD = f"heard-{MAX_TOKENS}"  # what the ASR judge heard: with another limit it may have heard less


@dataclass(frozen=True)
class CodecConfig:
    """How to measure.

    Attributes:
        codecs: names or folders for `antiphon.codecs.load`; "name=folder" says what to call one in the table.
        data: a folder of sound files, a manifest, or a speech set.
        codebooks: how many to decode with, one row of the table each; empty is 1, 2, 4, ... and all.
        only: names of measures; empty takes all whose packages are there.
        n: most recordings; they are then taken at even distances.
        keep: folder for every sound; None keeps none.
        device: of the codecs.
    """

    codecs: tuple[str, ...]
    data: Path
    codebooks: tuple[int, ...] = ()
    only: tuple[str, ...] = ()
    n: int | None = None
    keep: Path | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not self.codecs:
            raise ConfigError("There is no codec to measure: name some with --codecs a,b,c.")
        known = [*MEASURES, *PHONE_MEASURES]
        wrong = [name for name in self.only if name not in known]
        if wrong:
            raise ConfigError(f"There is no measure {wrong[0]!r}. Measures: {', '.join(known)}.")
        if min(self.codebooks, default=1) < 1:
            raise ConfigError(f"codebooks is {min(self.codebooks)}: give 1 or more.")


@dataclass
class Clip:
    """A recording that is being measured.

    Attributes:
        recording: what it is.
        audio: its sound, untouched.
        key: of what was measured of it.
        scales: of its chunks, which the codec at hand gave besides the codes.
    """

    recording: Recording
    audio: Audio
    key: str
    scales: Sequence[float] = ()


@dataclass
class CodecEvaluation:
    """What one run of the evaluation shares.

    Attributes:
        measures: names of those that are taken.
        cache: single results, old and new.
        pool: processes that measure beside each other; None measures here.
    """

    measures: tuple[str, ...]
    cache: ResultCache
    pool: ProcessPoolExecutor | None = None
    unreadable: dict[str, str] = field(default_factory=dict)

    @cached_property
    def asr_judge(self) -> AsrJudge:
        """Whisper."""
        return AsrJudge.from_pretrained()

    def measure(
        self,
        clips: Sequence[Clip],
        kind: str,
        names: Sequence[str],
        sound: Callable[[int], Audio],
        progress: Callable[[int], Any] = lambda n: None,
    ) -> None:
        """Takes those measures of the clips' sounds `sound(i)` that are missing, also what the ASR judge hears if it is
        asked; `kind` begins their keys, and `progress` is told of every clip that is done."""
        wanted = {i: [m for m in names if f"{kind}/{m}/{c.key}" not in self.cache.values] for i, c in enumerate(clips)}
        wanted = {i: missing for i, missing in wanted.items() if missing}
        progress(len(clips) - len(wanted))
        if wanted:
            jobs = zip(*[(missing, clips[i].audio, sound(i)) for i, missing in wanted.items()])
            with unreached():
                results = map(scores, *jobs) if self.pool is None else self.pool.map(scores, *jobs)
            for i, found in zip(wanted, results, strict=True):
                for name, value in found.items():
                    self.cache.get([f"{kind}/{name}/{clips[i].key}"], lambda rows, value=value: [value])
                progress(1)

        def hear(rows: list[int]) -> list[str | None]:
            short = [i for i in rows if clips[i].audio.duration <= MAX_SECONDS - 0.1]  # longer ones stay None
            texts = dict(zip(short, self.asr_judge.transcribe([sound(i) for i in short])))
            return [texts.get(i) for i in rows]

        if "wer" in self.measures:
            self.cache.get([f"{kind}/{HEARD}/{clip.key}" for clip in clips], hear)

    def read(self, wanted: Sequence[Recording]) -> list[Clip]:
        """The recordings that can be read."""
        clips = []
        for recording in wanted:
            if recording.id in self.unreadable:
                continue
            try:
                audio = recording.load(max_seconds=600.0)
                clips.append(Clip(recording, audio, f"{recording.id}@{key_of(audio)[:12]}"))
            except AntiphonError as error:
                self._leave_out(recording.id, recording.id, error)
        return clips

    def coded(self, codec: Any, who: str, clips: Sequence[Clip]) -> tuple[list[Clip], list[np.ndarray]]:
        """The clips that the codec takes, with the scales that it gives them, and their codes."""
        taken, codes = [], []
        for clip in clips:

            def make(_: list[int], clip: Clip = clip) -> list[dict]:
                codes, scales = encode_scaled(codec, fitted(clip.audio, codec.sample_rate, codec.channels))
                return [pack_codes(codes) | ({"scales": scales} if scales else {})]

            try:
                value = self.cache.get([f"{who}/codes/{clip.key}"], make)[0]
                codes.append(unpack_codes(value))
            except DataError:  # results cannot be kept
                raise
            except Exception as error:  # too short for it, or too long: the others are worth having
                self._leave_out(f"{clip.recording.id} ({who.partition('@')[0]})", clip.recording.id, error)
                continue
            clip.scales = value.get("scales", ())
            taken.append(clip)
        return taken, codes

    def _leave_out(self, key: str, recording: str, error: Exception) -> None:
        self.unreadable[key] = why(error)
        tell(f"{recording}: left out: {why(error)}")


def run(config: CodecConfig, json: Path | None = None, jobs: int = 1, items: Path | None = None) -> CodecReport:
    """Measures, telling stderr what is going on.

    What cannot be measured (a codec that doesn't load, a recording that cannot be read, a measure without its package)
    doesn't stop the rest; it is said at once, and in the JSON.

    Args:
        config: how and what.
        json: where the report is written after each codec.
        jobs: processes that take measures.
        items: file of the single results; beside `json` where not given, or nowhere.

    Raises:
        ConfigError: two codecs of one name.
        DataError: no recordings, or results cannot be written.
        EvalError: the report cannot be written.
        AntiphonError: no such device, or not one codec could be measured.
    """
    named = labels(config.codecs)
    check_device(config.device)
    wanted = spread(recordings(config.data), config.n or sys.maxsize)
    if items is None and json is not None:
        items = json.with_name(f"{json.stem}.items.jsonl")
    chosen = [name for name in MEASURES if not config.only or name in config.only]
    missing = {name: f"needs the package {package}" for name in chosen if (package := missing_package(MEASURES[name]))}
    machine = environment()
    machine["versions"] |= {name: version(name) for name in ("pesq", "visqol-python", "resemblyzer")}
    report = CodecReport(environment={**machine, "data": str(config.data), "codecs": {}, "seconds": {}})
    failed: dict[str, str] = {}
    phones = [name for name in PHONE_MEASURES if not config.only or name in config.only]
    if not any(recording.phones for recording in wanted):
        missing |= {name: "no phone times" for name in phones if config.only}
    evaluation = CodecEvaluation(tuple(name for name in chosen if name not in missing), ResultCache(items), _pool(jobs))
    try:
        if "wer" in evaluation.measures:
            try:
                _ = evaluation.asr_judge
            except AntiphonError as error:
                missing["wer"] = f"needs the ASR judge: {error}"
                evaluation.measures = tuple(name for name in evaluation.measures if name != "wer")
        for name, reason in missing.items():
            tell(f"{name}: not measured: {reason}")
        for label, name in named:
            start = time.perf_counter()
            try:
                codec = open_codec(name, config.device)
                weights = fingerprint(codec)
                # What was measured before scales were kept was measured without them.
                who = f"{label}@{weights}{'/scaled' if hasattr(codec, 'encode_chunks') else ''}"
                points, clips = measure(codec, label, who, wanted, config, evaluation)
                report.points += points
                report.environment["codecs"][label] = {"name": name, "weights": weights}
                report.phones[label] = phone_measures(codec, who, clips, evaluation.cache, phones)
            except DataError:  # results cannot be kept
                raise
            except Exception as error:  # whatever one codec dies of, the others are worth having
                log.debug("codec %s", name, exc_info=True)
                failed[label] = why(error)
                if isinstance(error, BrokenProcessPool):
                    failed[label] = "A process was killed, maybe for lack of memory: let fewer share the work (--jobs)."
                    evaluation.pool.shutdown()
                    evaluation.pool = _pool(jobs)
                tell(f"{label}: not measured: {failed[label]}")
                continue
            report.environment["seconds"][label] = round(time.perf_counter() - start, 1)
            _note(report, missing | failed, evaluation.unreadable)
            if json is not None:
                report.save(json)
    finally:
        if evaluation.pool is not None:
            evaluation.pool.shutdown(cancel_futures=True)
    if not report.points:
        raise AntiphonError("Nothing could be measured. " + " ".join(failed.values()))
    _note(report, missing | failed, evaluation.unreadable)
    if json is not None:
        report.save(json)
    return report


def measure(
    codec: Any, label: str, who: str, wanted: Sequence[Recording], config: CodecConfig, evaluation: CodecEvaluation
) -> tuple[list[Point], list[tuple[Recording, str]]]:
    """One codec on all recordings.

    Args:
        codec: a `Tokenizer` or `Codec`.
        label: what to call it.
        who: it and its weights, for the keys of results.
        wanted: the recordings.
        config: how.
        evaluation: what is shared.

    Returns:
        A point for each number of codebooks (one with the codes alone, if the codec makes no sound), and the recordings
        that were measured, with their keys.

    Raises:
        AntiphonError: none of the recordings could be read and encoded.
    """
    speaks = callable(getattr(codec, "decode", None))
    measures = evaluation.measures if speaks else ()
    pairwise = [name for name in measures if MEASURES[name].score is not None]
    alone = [name for name in pairwise if MEASURES[name].alone]
    rates = rate_points(codec.codebooks, config.codebooks)
    rates = rates if speaks else rates[-1:]
    ids = [recording.id for recording in wanted]
    files = dict(zip(ids, file_names(ids, "wav")))
    clips: list[tuple[Recording, str]] = []
    with tqdm(total=len(wanted) * len(rates), desc=label, unit="sound", file=sys.stderr, mininterval=1.0) as progress:
        for start in range(0, len(wanted), CHUNK_RECORDINGS):
            asked = wanted[start : start + CHUNK_RECORDINGS]
            chunk, codes = evaluation.coded(codec, who, evaluation.read(asked))
            clips += [(clip.recording, clip.key) for clip in chunk]
            if not speaks:
                progress.update(len(asked))
                continue
            evaluation.measure(chunk, "untouched", alone, lambda i, chunk=chunk: chunk[i].audio)
            for k in rates:
                places = [config.keep and config.keep / f"{label}-{k}" / files[clip.recording.id] for clip in chunk]
                sounds = Sounds(codec, chunk, [row[:k] for row in codes], places)
                evaluation.measure(chunk, f"{who}/{k}", pairwise, sounds, progress.update)
                if config.keep is not None:
                    for i in range(len(chunk)):
                        sounds(i)
                progress.update(len(asked) - len(chunk))
    if not clips:
        raise AntiphonError(f"Not one of the recordings in {config.data} could be encoded.")

    def column(kind: str, name: str) -> list[Any]:
        return [evaluation.cache.values[f"{kind}/{name}/{key}"] for _, key in clips]

    kept = column(who, "codes")
    codes, scales = [unpack_codes(value) for value in kept], sum(len(value.get("scales", ())) for value in kept)
    before = {name: column("untouched", name) for name in alone}
    points = []
    for k in rates:
        found = {name: column(f"{who}/{k}", name) for name in pairwise}
        said = {}
        if "wer" in measures:
            said = {"after": column(f"{who}/{k}", HEARD), "before": column("untouched", HEARD)}
            said["text"] = [recording.text for recording, _ in clips]
        points.append(Point.of(label, codec, [row[:k] for row in codes], found, before, said, scales))
    return points, clips


class Sounds:
    """What a codec makes of clips, each decoded (and kept in its place, if it has one) when first asked for; at the
    clips' own sample rate."""

    def __init__(self, codec: Any, clips: Sequence[Clip], codes: Sequence[np.ndarray], places: Sequence) -> None:
        self.codec, self.clips, self.codes, self.places, self.made = codec, clips, codes, places, {}

    def __call__(self, i: int) -> Audio:
        if i not in self.made:
            clean = self.clips[i].audio
            sound = decode(self.codec, self.codes[i], 0, self.clips[i].scales).mono().resample(clean.sample_rate)
            self.made[i] = Audio(sound.samples[: clean.samples.shape[-1]], clean.sample_rate)
            if self.places[i] is not None:
                self.made[i].save(self.places[i])
        return self.made[i]


def rate_points(codebooks: int, wanted: Sequence[int] = ()) -> list[int]:
    """How many codebooks to decode with: those that were asked for and there are, else 1, 2, 4, ... and all.

    Raises:
        ConfigError: the codec has fewer than any that were asked for.
    """
    if not wanted:
        return sorted({2**i for i in range(codebooks.bit_length())} | {codebooks})
    found = sorted({k for k in wanted if 1 <= k <= codebooks})
    if not found:
        raise ConfigError(f"It has {codebooks} codebooks: ask for as many or fewer.")
    return found


def _pool(jobs: int) -> ProcessPoolExecutor | None:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, context, initializer=one_thread) if jobs > 1 else None


def _note(report: CodecReport, not_measured: dict[str, str], unreadable: dict[str, str]) -> None:
    for name, found in (("not-measured", not_measured), ("left-out", unreadable)):
        if found:
            report.environment[name] = dict(found)
