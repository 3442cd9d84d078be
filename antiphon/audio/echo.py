"""Takes out of a microphone's sound what a loudspeaker plays beside it, with the played sound as reference.

    canceller = EchoCanceller(24000)
    heard = canceller.step(microphone, played)           # as many samples as came: the user, without the echo

It is AEC3 of WebRTC, which finds by itself how late the echo comes, up to half a second, and learns the room in the
first seconds of speech. Both sounds go in as they come, of one clock: `played` is what is sent to the loudspeaker
while `microphone` is recorded. A user who speaks meanwhile comes through, some 4 dB softer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from antiphon.audio.pcm import pcm16
from antiphon.errors import AudioError

RATES = (8000, 16000, 24000, 32000, 48000)  # Hz, of which 10 ms are whole samples
FRAMES_PER_SECOND = 100  # WebRTC takes 10 ms at a time


class EchoCanceller:
    """One microphone beside one loudspeaker; it learns, so each conversation needs one of its own.

    Args:
        sample_rate: of both sounds, Hz, one of `RATES`.

    Raises:
        AudioError: another rate, or the package that has AEC3 isn't installed.
    """

    def __init__(self, sample_rate: int = 24000) -> None:
        if sample_rate not in RATES:
            raise AudioError(f"echo is taken out at {', '.join(map(str, RATES))} Hz, not at {sample_rate}; resample")
        try:
            from livekit import rtc
            from livekit.rtc.apm import AudioProcessingModule
        except ImportError as error:
            raise AudioError("echo cancellation needs livekit: pip install 'antiphon[echo]'") from error
        self._frame: Any = rtc.AudioFrame
        self._module = AudioProcessingModule(echo_cancellation=True, high_pass_filter=True)
        self.sample_rate, self.size = sample_rate, sample_rate // FRAMES_PER_SECOND
        # A frame of silence goes ahead, so that as many samples come out as go in, whatever their number.
        self._out = torch.zeros(self.size)
        self._microphone = self._played = torch.zeros(0)

    def step(self, microphone: Tensor, played: Tensor) -> Tensor:
        """Takes what was recorded and what was played meanwhile.

        Args:
            microphone, played: float32 [n] in [-1, 1], any n, as many in both.

        Returns:
            [n]: the microphone's sound without the echo, 10 ms later.

        Raises:
            AudioError: not as many in both, or not [n].
        """
        if microphone.ndim != 1 or microphone.shape != played.shape:
            raise AudioError(
                f"the microphone's {list(microphone.shape)} and the played {list(played.shape)} must be [n] of one "
                "length: fill up what wasn't played with zeros"
            )
        self._microphone = torch.cat([self._microphone, microphone])
        self._played = torch.cat([self._played, played])
        done = [self._out]
        while len(self._microphone) >= self.size:
            done.append(self._ten_ms(self._microphone[: self.size], self._played[: self.size]))
            self._microphone, self._played = self._microphone[self.size :], self._played[self.size :]
        out = torch.cat(done)
        self._out = out[len(microphone) :]
        return out[: len(microphone)]

    def _ten_ms(self, microphone: Tensor, played: Tensor) -> Tensor:
        far, near = self._made(played), self._made(microphone)
        self._module.process_reverse_stream(far)
        self._module.process_stream(near)  # in place
        return torch.from_numpy(np.frombuffer(bytes(near.data), np.int16).astype(np.float32) / 32768)

    def _made(self, samples: Tensor) -> Any:
        return self._frame(bytearray(pcm16(samples.numpy())), self.sample_rate, 1, len(samples))
