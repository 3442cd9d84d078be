"""Recordings to codes, and codes to sound files: `antiphon tokenize` and `antiphon detokenize`.

    config = TokenizeConfig(Path("corpus"), Path("codes"), "mimi", codebooks=8, workers=4)
    tokenize(config)

Processes encode, each with a codec of its own, and one of them writes; so what a set holds doesn't depend on how many
there are. A recording that cannot be read or encoded is listed and passed over; one that kills its process (too long
for the memory) too, after a second try on its own. Stopped and started again, a run goes on where it was.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from antiphon.codecs.base import StreamingCodec
from antiphon.data.codes import CodecInfo, Coded, CodeSet, CodesWriter, device_of
from antiphon.data.recordings import Recording, fitted, recordings
from antiphon.data.store import kind_of
from antiphon.data.tokenize.workers import followed, in_processes
from antiphon.errors import AntiphonError, DataError
from antiphon.nn.placement import check_device

PIECE_SECONDS = 20.0  # that a streaming codec encodes at once of a long recording: memory stays flat
LONG_SECONDS = 60.0  # from which a recording counts as long


@dataclass(frozen=True)
class TokenizeConfig:
    """How recordings become codes.

    Attributes:
        source: what `antiphon.data.recordings.recordings` takes.
        out: the folder of the set of codes.
        codec: name or folder, as `antiphon.codecs.load` takes it.
        codebooks: keep only the first ones; None keeps all.
        workers: processes that encode; with `ray`, workers of the cluster.
        ray: on the Ray cluster that this machine belongs to (or, where there is none, on a small one of its own).
        device: that encodes, "cpu" or "cuda".
        retry: try again what was skipped before.
        lead: cut each recording so many seconds before its first phone, where it is known when that sounds.
    """

    source: Path
    out: Path
    codec: str
    codebooks: int | None = None
    workers: int = 1
    ray: bool = False
    device: str = "cpu"
    retry: bool = False
    lead: float | None = None

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise DataError(f"workers is {self.workers}: give 1 or more.")
        if self.codebooks is not None and self.codebooks < 1:
            raise DataError(f"codebooks is {self.codebooks}: give 1 or more.")


@dataclass(frozen=True)
class Job:
    """What a worker must know besides the recording.

    Attributes:
        codec: name or folder.
        codebooks: how many to keep, None for all.
        device: of the codec.
        threads: of one worker; 0 leaves PyTorch's own number.
    """

    codec: str
    codebooks: int | None = None
    device: str = "cpu"
    threads: int = 0


@dataclass(frozen=True)
class Encoded:
    """What a worker gives back.

    Attributes:
        at: number of the recording among those it was asked for.
        codes: [codebooks, frames]; None if it failed.
        samples: length at the codec's rate.
        reason: why it failed.
        scales: of its chunks, where the codec has such.
    """

    at: int
    codes: np.ndarray | None = None
    samples: int = 0
    reason: str = ""
    scales: Sequence[float] = ()


def open_codec(name: str, device: str = "cpu") -> Any:
    """The codec of that name or folder (`antiphon.codecs.load`), in evaluation mode.

    Raises:
        AntiphonError: no such codec, or no such device.
    """
    from antiphon.codecs import load

    check_device(device)
    codec = load(name)
    return codec.to(device).eval() if isinstance(codec, torch.nn.Module) else codec


@torch.inference_mode()
def encode(codec: Any, samples: torch.Tensor, codebooks: int | None = None) -> np.ndarray:
    """Codes of one recording; a long one is given to a streaming codec in pieces, which gives the same codes.

    Args:
        codec: a `Tokenizer`.
        samples: float32 [channels, N] at the codec's rate.
        codebooks: keep only the first ones.

    Returns:
        int64 [codebooks, frames].
    """
    audio = samples[None].to(device_of(codec))
    if audio.shape[-1] <= LONG_SECONDS * codec.sample_rate or not isinstance(codec, StreamingCodec):
        return codec.encode(audio)[0, :codebooks].cpu().numpy()
    state, size, found = codec.init_state(1), int(PIECE_SECONDS * codec.sample_rate), []
    for start in range(0, audio.shape[-1], size):
        piece = audio[..., start : start + size]
        codes = codec.encode_step(piece, state, last=start + size >= audio.shape[-1])
        found.append(codes[0, :codebooks].cpu().numpy())
    return np.concatenate(found, axis=1)


@torch.inference_mode()
def encode_scaled(codec: Any, samples: torch.Tensor, codebooks: int | None = None) -> tuple[np.ndarray, list[float]]:
    """As `encode`, and the scales of the chunks: without them a codec that has `encode_chunks` cannot tell how loud
    each was. No scales of other codecs, nor where all are one because the codec doesn't scale."""
    if not hasattr(codec, "encode_chunks"):
        return encode(codec, samples, codebooks), []
    codes, scales = codec.encode_chunks(samples[None].to(device_of(codec)))
    return codes[0, :codebooks].cpu().numpy(), scales[0].tolist() if bool((scales != 1).any()) else []


@functools.lru_cache(maxsize=1)
def _worker_codec(job: Job) -> Any:
    if job.threads:
        torch.set_num_threads(job.threads)
    return open_codec(job.codec, job.device)


def encode_recording(codec: Any, codebooks: int | None, at: int, recording: Recording) -> Encoded:
    """Reads and encodes one recording; whatever goes wrong with it becomes a reason."""
    try:
        audio = recording.load(mono=codec.channels == 1)
        samples = fitted(audio, codec.sample_rate, codec.channels)
        codes, scales = encode_scaled(codec, samples, codebooks)
        return Encoded(at, codes, samples.shape[-1], scales=scales)
    except Exception as error:  # whatever one file does must not stop the others
        return Encoded(at, reason=why(error))


def work(job: Job, at: int, recording: Recording) -> Encoded:
    """`encode_recording` in a process of its own, which loads the codec once."""
    return encode_recording(_worker_codec(job), job.codebooks, at, recording)


def why(error: BaseException) -> str:
    """An error in one line; ours speak for themselves."""
    return " ".join((str(error) if isinstance(error, AntiphonError) else f"{type(error).__name__}: {error}").split())


def tokenize(config: TokenizeConfig, bar: bool = True, codec: Any = None) -> int:
    """Encodes recordings into the config's set. Safe to stop and to rerun.

    Args:
        config: what and how.
        bar: show progress and the time left, on stderr.
        codec: one that is loaded already, for `workers` = 1; None loads the config's.

    Returns:
        How many of these recordings the set lists as skipped.

    Raises:
        DataError: the set is of another codec, or of other recordings of the same ids; or not one recording could be
            encoded.
        AntiphonError: no recordings, or no codec.
    """
    found = recordings(config.source)
    codec = codec if codec is not None else open_codec(config.codec, config.device)
    info = CodecInfo.of(codec, config.codec, config.codebooks).as_noted(codec, config.out)
    threads = 1 if config.ray else 0 if config.workers == 1 else max(1, (os.cpu_count() or 1) // config.workers)
    job = Job(config.codec, config.codebooks, config.device, threads)
    with CodesWriter(config.out, info, str(config.source), config.lead) as writer:
        stamps = _stamps(found, writer, config.source)
        if config.retry:
            writer.retry()
        wanted = [each for each in found if each.id not in writer.done]
        if config.lead is not None:
            wanted = [each.trimmed(config.lead) for each in wanted]
        if config.ray:
            results = on_ray(job, wanted, config.workers)
        elif config.workers > 1:
            results = in_processes(work, job, wanted, config.workers, _killed)
        else:
            results = (encode_recording(codec, job.codebooks, i, each) for i, each in enumerate(wanted))
        before = len(found) - len(wanted)
        with followed(results, len(found), before, config.out.name, bar) as progress:
            for result in results:
                recording = wanted[result.at]
                if result.codes is None:
                    writer.skip(recording.id, result.reason, path=recording.path)
                    progress.write(f"{recording.id}: skipped: {result.reason}", file=sys.stderr)
                else:
                    phones = [(phone, round(start, 4), round(end, 4)) for phone, start, end in recording.phones]
                    row = Coded(
                        recording.id, recording.text, recording.voice, result.samples, stamps[recording.id],
                        list(result.scales), phones, recording.about.get("context", []),
                    )  # fmt: skip
                    writer.add(row, result.codes)
                progress.update(1)
        skipped = sum(recording.id in writer.skipped for recording in found)
    if skipped == len(found):
        raise DataError(
            f"Not one of {len(found)} recordings could be encoded; {config.out / 'skipped.jsonl'} says why. Put that "
            "right, and run the same command with --retry."
        )
    return skipped


def _stamps(found: list[Recording], writer: CodesWriter, source: Path) -> dict[str, str]:
    """The stamps of the recordings by id, if none of those that the set holds codes of has become another one.

    Raises:
        DataError: one has.
    """
    before = {row["id"]: row.get("stamp") for row in writer.items}
    stamps = {recording.id: recording.stamp() for recording in found}
    for recording in found:
        then, now = before.get(recording.id), stamps[recording.id]
        if then and now and then != now:
            raise DataError(
                f"{writer.folder} holds codes of another {recording.id} than {recording.path} is now (they came from "
                f"{writer.header['source']}): encode into another folder, or delete this one to make it anew."
            )
    return stamps


def tokenized(
    place: str | Path, codec: Any, name: str, out: str | Path, lead: float | None = None, resumed: bool = False
) -> CodeSet:
    """The codes of recordings: those that are there if `place` is a set of codes, else made in `out` first.

    Args:
        place: a set of codes, or what `recordings` takes.
        codec: that they are of, or are made by.
        name: that it was loaded by.
        out: the folder of the set that is made; a run that was stopped goes on.
        lead: see `TokenizeConfig`.
        resumed: take the set in `out` as it is, if there is one: a training that goes on must not find more in it. The
            same where the recordings are gone.

    Raises:
        DataError: codes of another codec; or as `tokenize`.
    """
    if kind_of(place) == "codes":
        return CodeSet(place, codec)
    old = not (Path(out) / "set.json").exists() and kind_of(out) == "codes"  # it's whole, and can't be added to
    gone = not Path(place).exists()
    if not old and not ((resumed or gone) and kind_of(out) == "codes"):
        tokenize(TokenizeConfig(Path(place), Path(out), name, lead=lead), codec=codec)
    return CodeSet(out, codec)


def _killed(at: int) -> Encoded:
    return Encoded(at, reason="It killed its process twice, maybe for lack of memory: split it, or use fewer workers.")


class _OnRay:
    """`work` as Ray Data wants it: rows in, rows out."""

    def __init__(self, job: Job, items: list[Recording]) -> None:
        self.job, self.items = job, items

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        at = int(row["id"])
        done = work(self.job, at, self.items[at])
        codes = np.zeros((0, 0), np.int64) if done.codes is None else done.codes
        return {
            "at": at,
            "codes": codes.astype(np.int32).tobytes(),
            "codebooks": codes.shape[0],
            "samples": done.samples,
            "reason": done.reason,
            "scales": np.asarray(done.scales, np.float64).tobytes(),
        }


def on_ray(job: Job, items: list[Recording], workers: int) -> Iterator[Encoded]:
    """`work` on all items on a Ray cluster, in whatever order they get done.

    Every machine of the cluster must see the recordings and the codec under the same path or name.

    Raises:
        DataError: Ray is not installed.
    """
    try:
        import ray.data
    except ImportError as error:
        raise DataError(f"--ray needs Ray Data ({error}). Install it: pip install 'antiphon[ray]'") from None
    if not items:
        return
    ray.init(ignore_reinit_error=True, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    light = [replace(item, phones=(), text="") for item in items]
    rows = ray.data.range(len(items), override_num_blocks=min(len(items), max(4 * workers, len(items) // 64)))
    encoded = rows.map(
        _OnRay,
        fn_constructor_args=(job, light),
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=max(1, job.threads),
        num_gpus=1 if job.device.startswith("cuda") else None,
    )
    for row in encoded.iter_rows():
        codes = np.frombuffer(row["codes"], np.int32)
        whole = codes.reshape(row["codebooks"], -1).astype(np.int64) if row["codebooks"] else None
        scales = np.frombuffer(row["scales"]).tolist()
        yield Encoded(int(row["at"]), whole, int(row["samples"]), row["reason"], scales)
