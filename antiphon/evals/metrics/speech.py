"""Metrics of sound: STOI (is it intelligible), DNSMOS (does it sound clean and natural), log-mel distance.

DNSMOS P.835 (Reddy et al. 2022) runs the network that ships in the `speechmos` package, in the way that package does
(windows of 9.01 s every second, short clips repeated), without its second network (P.808) and its dependency on
librosa.
"""

from __future__ import annotations

import functools
import importlib.util
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from antiphon.audio.io import Audio
from antiphon.audio.mel import mel_filters
from antiphon.errors import EvalError

MIN_SECONDS = 0.4  # less of a sound is not compared
DNSMOS_RATE = 16000
DNSMOS_WINDOW = int(9.01 * DNSMOS_RATE)
# From the raw outputs to opinion scores, fitted by DNSMOS's authors: highest power first.
OVERALL = np.poly1d([-0.06766283, 1.11546468, 0.04602535])


def pair(clean: Audio, heard: Audio, sample_rate: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Two sounds that start at the same moment, mono, the longer one cut at the other's end: two float32 [N].

    Args:
        clean, heard: of one sample rate.
        sample_rate: to resample to; None leaves it.

    Raises:
        EvalError: different rates, or less than 0.4 s.
    """
    if clean.sample_rate != heard.sample_rate:
        raise EvalError(f"Sounds of {clean.sample_rate} and {heard.sample_rate} Hz cannot be compared.")
    rate = sample_rate or clean.sample_rate
    a, b = (audio.mono().resample(rate).samples.float() for audio in (clean, heard))
    n = min(len(a), len(b))
    if n < MIN_SECONDS * rate:
        raise EvalError(f"{n / rate:.2f} s of sound are too little to compare: {MIN_SECONDS} s is the least.")
    return a[:n], b[:n]


def stoi(clean: Audio, heard: Audio) -> float:
    """Short-time objective intelligibility (Taal et al. 2011) of `heard` against `clean`: 1 is untouched.

    Raises:
        EvalError: as `pair`; or less than 0.4 s (STOI's own window) that is not silent in the clean sound.
    """
    from pystoi import stoi as measure

    a, b = (samples.double().numpy() for samples in pair(clean, heard))
    with warnings.catch_warnings():
        # Where too few frames of the clean sound aren't silent, pystoi warns and gives 1e-5, which says nothing of the
        # other sound.
        warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
        try:
            return float(measure(a, b, clean.sample_rate))
        except RuntimeWarning:
            raise EvalError("STOI needs at least 0.4 s of sound that is not silent.") from None


@functools.cache
def _dnsmos_session():
    import onnxruntime

    spec = importlib.util.find_spec("speechmos")
    if spec is None:
        raise EvalError("DNSMOS needs the package speechmos. Install it: pip install speechmos==0.0.1.1")
    # Only the network's file is wanted: importing speechmos.dnsmos would ask for librosa.
    path = Path(next(iter(spec.submodule_search_locations))) / "dnsmos_models" / "sig_bak_ovr.onnx"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # clips run beside each other instead
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def dnsmos_windows(samples: np.ndarray) -> list[np.ndarray]:
    """The windows that DNSMOS scores: a clip under 9.01 s is doubled until it is long enough, then one window a second.

    Args:
        samples: float32 [N] at 16 kHz, N > 0.

    Returns:
        At least one array of 144,160 samples.
    """
    while len(samples) < DNSMOS_WINDOW:
        samples = np.concatenate([samples, samples])
    hops = int(np.floor(len(samples) / DNSMOS_RATE) - 9.01) + 1
    windows = [samples[i * DNSMOS_RATE : i * DNSMOS_RATE + DNSMOS_WINDOW] for i in range(hops)]
    return [w for w in windows if len(w) == DNSMOS_WINDOW]


def dnsmos(clip: Audio) -> float:
    """DNSMOS OVRL of a clip: 1 (bad) to 5 (excellent).

    Raises:
        EvalError: an empty clip, or speechmos is not installed.
    """
    samples = clip.mono().resample(DNSMOS_RATE).samples.float().clamp(-1, 1).numpy()
    if not len(samples):
        raise EvalError("DNSMOS of an empty clip is not defined.")
    session = _dnsmos_session()
    raw = [session.run(None, {"input_1": w[None]})[0][0, 2] for w in dnsmos_windows(samples)]
    return float(np.mean(OVERALL(np.asarray(raw, np.float64))))


def dnsmos_all(clips: Sequence[Audio], threads: int = 1, progress=None) -> list[float]:
    """`dnsmos` of many clips, `threads` at a time; `progress` is called with 1 after each."""
    _dnsmos_session()  # made once, before the threads

    def score(clip: Audio) -> float:
        value = dnsmos(clip)
        if progress:
            progress(1)
        return value

    with ThreadPoolExecutor(max(1, threads)) as pool:
        return list(pool.map(score, clips))


def mean_delta(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Mean of the differences of pairs, ours - theirs.

    Raises:
        EvalError: different lengths, or nothing to compare.
    """
    if len(ours) != len(theirs) or not ours:
        raise EvalError(f"{len(ours)} and {len(theirs)} scores do not make pairs.")
    return float(np.mean(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)))


def log_mel_distance(a: Audio, b: Audio, bands: int = 80, floor: float = 1e-5) -> float:
    """Mean absolute difference of natural-log mel amplitudes (window 1,024, hop 256), as vocoders are compared.

    Raises:
        EvalError: as `pair`.
    """
    waves = torch.stack(pair(a, b))
    spectrum = torch.stft(waves, 1024, 256, window=torch.hann_window(1024), return_complex=True).abs()
    mel = (mel_filters(bands, 1024, a.sample_rate) @ spectrum).clamp_min(floor).log()
    return float((mel[0] - mel[1]).abs().mean())
