"""Whether a speaker has finished, told from how it sounds: intonation, tempo, hesitation.

    detector = SmartTurn(folder)                   # of the part "smart-turn"
    detector.probability(samples)                  # 16 kHz, the turn so far, a moment of silence at its end

Smart Turn v3.2 (BSD-2, Daily, https://github.com/pipecat-ai/smart-turn): the encoder of Whisper tiny and a head over
it, in 8 bits, which saw real and made turns in 23 languages. It hears the last 8 s and answers in 25 ms on one core.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from antiphon.audio.mel import HOP, SAMPLE_RATE, WINDOW, mel_filters
from antiphon.errors import ModelError

SECONDS = 8  # that the network hears
SAMPLES = SECONDS * SAMPLE_RATE
BANDS = 80
MODEL = "smart-turn.onnx"


class TurnDetector(Protocol):
    """Says how likely a turn is over."""

    def probability(self, samples: Tensor) -> float:
        """How likely whoever speaks has finished, 0 to 1.

        Args:
            samples: float32 [N] at 16 kHz, the turn so far; it ends in the pause that is asked about.
        """
        ...


def features(samples: Tensor) -> Tensor:
    """What the network sees of a turn: Whisper's log-mel of its last 8 s, [80, 800].

    A shorter turn has silence before it. The sound is brought to mean 0 and variance 1 first, so its level is nothing.

    Args:
        samples: float32 [N] at 16 kHz, any N.
    """
    samples = F.pad(samples[-SAMPLES:], (SAMPLES - min(SAMPLES, len(samples)), 0))
    samples = (samples - samples.mean()) / (samples.var(correction=0) + 1e-7).sqrt()
    padded = F.pad(samples[None], (WINDOW // 2, WINDOW // 2), mode="reflect")[0]
    windows = padded.unfold(0, WINDOW, HOP)[: SAMPLES // HOP]
    power = torch.fft.rfft(windows * torch.hann_window(WINDOW)).abs().square()
    log = torch.log10((power @ mel_filters(BANDS).T).clamp_min(1e-10))
    return ((log.maximum(log.max() - 8.0) + 4.0) / 4.0).T


class SmartTurn:
    """The network. One serves all speakers: it keeps nothing of them, and may be asked from several threads.

    Args:
        folder: that holds `smart-turn.onnx`.

    Raises:
        ModelError: it doesn't, or the file can't be read.
    """

    def __init__(self, folder: Path | str):
        path = Path(folder) / MODEL
        if not path.is_file():
            raise ModelError(f"{path} is missing: it is the turn detector's network; antiphon fetch gets it")
        self._session = _session(path)

    def __deepcopy__(self, _: object) -> SmartTurn:
        """There is nothing in it that changes."""
        return self

    def probability(self, samples: Tensor) -> float:
        """See `TurnDetector`."""
        (found,) = self._session.run(None, {"input_features": features(samples)[None].numpy()})
        chance = float(found.reshape(-1)[0])
        return chance if math.isfinite(chance) else 0.0


@lru_cache(maxsize=2)
def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes
        raise ModelError(f"{path} can't be read ({error}): delete its folder and fetch it anew") from error
