"""What can be measured of a codec: measures of a sound against the untouched one, and of the codes themselves.

Sounds are compared at the material's own sample rate, whatever the codec's is, so that codecs of different rates can
stand in one table; each measure resamples to what it was made for. A measure whose package is not installed is left
out of a run, which says so.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from antiphon.audio.io import Audio
from antiphon.errors import EvalError
from antiphon.evals.metrics.speaker import speaker_similarity
from antiphon.evals.metrics.speech import dnsmos, log_mel_distance, pair, stoi

WIDEBAND_RATE = 16000  # Hz, for PESQ and ViSQOL


def si_snr(clean: Audio, heard: Audio) -> float:
    """Scale-invariant signal-to-noise ratio in dB (Le Roux et al. 2019, equation 3; means taken off), -100 to 100.

    It compares waveforms: a codec that makes a new waveform of the same sound has a low one, however good it sounds.

    Raises:
        EvalError: different sample rates, or silence.
    """
    a, b = (x.double() - x.double().mean() for x in pair(clean, heard))
    power = a.square().sum()
    if power == 0 or b.square().sum() == 0:
        raise EvalError("SI-SNR of silence is not defined.")
    target = (a @ b) / power * a
    rest = (b - target).square().sum()
    return float((10 * torch.log10(target.square().sum() / rest.clamp_min(1e-30))).clamp(-100.0, 100.0))


def pesq(clean: Audio, heard: Audio) -> float:
    """Wideband PESQ (ITU-T P.862.2): 1.04 (bad) to 4.64 (the same sound).

    Raises:
        EvalError: no speech in it that PESQ finds, or the package pesq is not installed.
    """
    try:
        from pesq import PesqError
        from pesq import pesq as measure
    except ImportError as error:
        raise EvalError(f"PESQ needs the package pesq and a C compiler ({error}): pip install pesq==0.0.4") from None
    a, b = (x.numpy() for x in pair(clean, heard, WIDEBAND_RATE))
    try:
        return float(measure(WIDEBAND_RATE, a, b, "wb"))
    except (PesqError, ValueError, ZeroDivisionError) as error:
        raise EvalError(f"PESQ could not compare the sounds: {error}.") from error


@functools.cache
def _visqol():
    try:
        from visqol import VisqolApi
    except ImportError as error:
        raise EvalError(f"ViSQOL needs the package visqol-python ({error}): pip install visqol-python==3.8.0") from None
    api = VisqolApi()
    # The polynomial, not the lattice: that one needs one more package, and two tables must have one scale.
    api.create(mode="speech", use_lattice_model=False)
    return api


def visqol(clean: Audio, heard: Audio) -> float:
    """ViSQOL v3 in speech mode (Chinen et al. 2020; polynomial mapping, scaled): 1 (bad) to 5 (the same sound).

    Raises:
        EvalError: nothing in it that ViSQOL can compare, or the package visqol-python is not installed.
    """
    api = _visqol()
    a, b = (x.double().numpy() for x in pair(clean, heard, WIDEBAND_RATE))
    try:
        score = float(api.measure_from_arrays(a, b, WIDEBAND_RATE).moslqo)
    except (ValueError, RuntimeError, IndexError, ZeroDivisionError) as error:
        raise EvalError(f"ViSQOL could not compare the sounds: {error}.") from error
    if not math.isfinite(score):
        raise EvalError("ViSQOL could not compare the sounds.")
    return score


@dataclass(frozen=True)
class Measure:
    """A measure of resynthesized sounds.

    Attributes:
        title: head of its column.
        unit: of its figure.
        better: "high" or "low".
        score: takes the untouched sound and the codec's, gives a number or raises EvalError; None for word error
            rates, which need the ASR judge and whole sets.
        worst: what a codec gets that makes silence of a sound, where the measure itself has no answer then.
        alone: the untouched sound has a score of its own, by which to judge the codec's.
        perfect: score of a codec that changes nothing; None where that is the untouched sound's own, or has no end.
        needs: modules that it takes from optional packages.
    """

    title: str
    unit: str
    better: str
    score: Callable[[Audio, Audio], float] | None
    worst: float | None = None
    alone: bool = False
    perfect: float | None = None
    needs: tuple[str, ...] = ()


def _dnsmos(clean: Audio, heard: Audio) -> float:
    return dnsmos(heard)


MEASURES: dict[str, Measure] = {
    "stoi": Measure("STOI", "STOI", "high", stoi, perfect=1.0, needs=("pystoi",)),
    "pesq": Measure("PESQ", "MOS-LQO, wideband", "high", pesq, worst=1.04, needs=("pesq",)),
    "visqol": Measure("ViSQOL", "MOS-LQO, speech", "high", visqol, worst=1.0, perfect=5.0, needs=("visqol",)),
    "si-snr": Measure("SI-SNR", "dB", "high", si_snr, worst=-100.0),
    "mel-distance": Measure("mel", "nats", "low", log_mel_distance, perfect=0.0),
    "dnsmos": Measure("DNSMOS", "OVRL", "high", _dnsmos, alone=True, needs=("speechmos", "onnxruntime")),
    "speaker-similarity": Measure("voice", "cosine", "high", speaker_similarity, perfect=1.0, needs=("resemblyzer",)),
    "wer": Measure("WER", "WER", "low", None, alone=True, needs=("jiwer", "whisper_normalizer")),
}


def one_thread() -> None:
    """For processes that measure beside each other, each on a core of its own."""
    torch.set_num_threads(1)


def missing_package(measure: Measure) -> str | None:
    """The first module that the measure needs and that is not there."""
    return next((name for name in measure.needs if importlib.util.find_spec(name) is None), None)


def score(name: str, clean: Audio, heard: Audio) -> float | None:
    """A measure of one pair of sounds; None where it has no answer for them (too short, silent, ...)."""
    measure = MEASURES[name]
    if clean.silent:
        return None
    if heard.silent and measure.worst is not None:
        return measure.worst
    try:
        value = measure.score(clean, heard)
    except EvalError:
        return None
    return value if math.isfinite(value) else None


def scores(names: Sequence[str], clean: Audio, heard: Audio) -> dict[str, float | None]:
    """Several measures of one pair: the piece of work that is given to another process."""
    return {name: score(name, clean, heard) for name in names}


@dataclass(frozen=True)
class CodebookUse:
    """How one codebook is used.

    Attributes:
        used: share of its codes that occur.
        entropy: bits a code, the order of codes left aside. A short sample shows fewer codes than there are; the
            missing part is estimated (Miller 1955), never above the nominal bits.
        perplexity: 2 to the power of the entropy: as many codes, evenly used, would carry as much.
    """

    used: float
    entropy: float

    @property
    def perplexity(self) -> float:
        return 2.0**self.entropy


def codebook_use(codes: Sequence[np.ndarray], size: int) -> list[CodebookUse]:
    """How each codebook is used over a set.

    Args:
        codes: of each clip [codebooks, frames], as many codebooks each.
        size: codes in each codebook.

    Raises:
        ValueError: no frames, or codes outside the codebook.
    """
    together = np.concatenate(codes, axis=1)
    if not together.size:
        raise ValueError("There are no codes to count.")
    if together.min() < 0 or together.max() >= size:
        raise ValueError(f"Codes from {together.min()} to {together.max()} do not fit into codebooks of {size}.")
    found = []
    for row in together:
        counts = np.bincount(row, minlength=size)
        counts = counts[counts > 0].astype(np.float64)
        share = counts / counts.sum()
        bits = -(share * np.log2(share)).sum() + (len(counts) - 1) / (2 * math.log(2) * counts.sum())
        found.append(CodebookUse(len(counts) / size, float(np.clip(bits, 0.0, math.log2(size)))))
    return found


def bitrates(codec, use: Sequence[CodebookUse], scales: float = 0.0) -> tuple[float, float]:
    """Bits a second of the codebooks in `use`: as they are written plainly, and entropy-coded one by one.

    Args:
        codec: has `frame_rate` and `codebook_size`.
        use: of the codebooks that are sent.
        scales: that are sent for each frame, in 32 bits, as EnCodec's own files have them.
    """
    frame = len(use) * math.log2(codec.codebook_size), sum(each.entropy for each in use)
    plain, coded = ((bits + 32 * scales) * codec.frame_rate for bits in frame)
    return plain, coded
