"""What a duplex model hears beside its codec's codes: the user's frames through a speech encoder, as they come.

ear = Ear(FrameEncoder.from_pretrained(folder), sample_rate=24000)
state = ear.init_state(batch=2)
heard = ear.step(sound, state)            # [2, 1920] samples -> [2, width], for `Moshi.step`
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from antiphon.audio.resample import FrameResampler
from antiphon.encoders.whisper.frames import FRAME, FrameEncoder, FrameState

RATE = 16000


@dataclass
class EarState:
    """Where users stand, rows of a batch; a value that `antiphon.nn.state` can fork, select and join.

    Attributes:
        waiting: what the resampler still needs, [batch, samples].
        frames: of the encoder.
    """

    waiting: Tensor
    frames: FrameState


class Ear:
    """See the module.

    Args:
        encoder: hears.
        sample_rate: of the sound, Hz.
    """

    def __init__(self, encoder: FrameEncoder, sample_rate: int) -> None:
        self.encoder, self.resampler = encoder, FrameResampler(sample_rate, RATE)
        self.frame_samples = FRAME * sample_rate // RATE

    def init_state(self, batch: int = 1) -> EarState:
        """The state before the first frame."""
        frames = self.encoder.init_state(batch)
        return EarState(self.resampler.init_state(batch, frames.early.device), frames)

    def step(self, sound: Tensor, state: EarState) -> Tensor:
        """A frame of each user.

        Args:
            sound: [batch, frame_samples].
            state: changed.

        Returns:
            [batch, width], of the frame `encoder.delay` steps before.
        """
        samples, state.waiting = self.resampler(sound, state.waiting)
        return self.encoder.step(samples, state.frames)
