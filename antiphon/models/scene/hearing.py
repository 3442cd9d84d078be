"""From samples as they come to a `Scene`: an encoder in blocks, and the listener behind it.

    scenes = SceneHearing.from_pretrained(folder, recognizer.whole)
    state = scenes.init_state()
    scenes.step(samples, state)           # 16 kHz, as often and as many as one likes
    scene = scenes.finish(state)          # at the end of a turn, or at any time

The encoder is the recognizer's, with its weights, but a pass of its own: a recognizer cuts windows where they end best
for words and hears them anew, and what is heard besides the words goes on through all of that. So what is heard live is
what is heard of the whole recording, and what the network was trained on (`features.extract`), but for products in
bfloat16 where the recognizer has them (`Recognizer.quicken`).

A network that was trained with low-rank pairs in the encoder has them beside it (`ENCODER`). The pass is one of its own
already, so they cost no time, but the weights that they change are held twice; the recognizer's stay as they are.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from antiphon.audio import mel
from antiphon.encoders.whisper.encoder import EncoderState, WhisperBlockEncoder
from antiphon.models.lora import Lora
from antiphon.models.scene.features import GatherState, gather
from antiphon.models.scene.listener import ListenerState, SceneListener
from antiphon.models.scene.scene import Scene
from antiphon.nn.cpu import in_bfloat16
from antiphon.nn.state import fork

ENCODER = "encoder"  # in a listener's folder, that of its pairs


@dataclass
class HearingState:
    """A turn under way.

    Attributes:
        mel, encoder: where the spectrogram and the encoder stand.
        gathered: what has come of a frame that isn't whole.
        listener: where the listener stands.
    """

    mel: mel.MelState
    encoder: EncoderState
    gathered: GatherState
    listener: ListenerState

    def clone(self) -> HearingState:
        """A snapshot that can go its own way."""
        return HearingState(self.mel, fork(self.encoder), replace(self.gathered), self.listener.clone())


class SceneHearing:
    """Hears what else is to be heard than words.

    Args:
        encoder: shared; it keeps no state.
        listener: names what the encoder gives.
    """

    def __init__(self, encoder: WhisperBlockEncoder, listener: SceneListener):
        self.encoder, self.listener = encoder, listener

    @classmethod
    def from_pretrained(
        cls, folder: Path | str, encoder: WhisperBlockEncoder, quick: WhisperBlockEncoder | None = None
    ) -> SceneHearing:
        """Reads a listener's folder, for the encoder that it was trained on.

        Args:
            folder: the listener's.
            encoder: in float32.
            quick: the same with quicker products, which is taken if it is there.

        Raises:
            ModelError: the folder holds something else.
        """
        own = scene_encoder(folder, encoder)
        if quick is not None and quick is not encoder:
            own = quick if own is encoder else in_bfloat16(own)
        return cls(own, SceneListener.from_pretrained(folder))

    def init_state(self) -> HearingState:
        """The state before the first sample."""
        gathered = GatherState.empty(self.encoder.config)
        return HearingState(mel.init_state(1), self.encoder.init_state(1), gathered, self.listener.init_state())

    def step(self, samples: Tensor, state: HearingState) -> None:
        """Takes samples, float [n] at 16 kHz, any n; changes the state."""
        self._take(samples, state)

    def finish(self, state: HearingState) -> Scene:
        """What was heard up to here. The state stays as it is, so that it may go on."""
        state = state.clone()
        self._take(torch.zeros(0), state, last=True)
        return self.listener.finish(state.listener)

    @torch.no_grad()
    def _take(self, samples: Tensor, state: HearingState, last: bool = False) -> None:
        spectrogram, state.mel = mel.step(samples[None], state.mel, last, self.encoder.config.bands)
        layers = self.encoder.step_layers(spectrogram, state.encoder, last)[2]
        frames = gather(samples[None], spectrogram, layers, state.gathered, last)
        if frames.frames:
            self.listener.step(frames, state.listener)


def scene_encoder(folder: Path | str, encoder: WhisperBlockEncoder) -> WhisperBlockEncoder:
    """The encoder that a listener hears through: the given one, or, where its folder has low-rank pairs, a copy with
    these added.

    Args:
        folder: the listener's.
        encoder: in float32; stays as it is.

    Raises:
        ModelError: pairs that can't be read, or are another encoder's.
    """
    pairs = Path(folder) / ENCODER
    if not pairs.is_dir():
        return encoder
    own = copy.deepcopy(encoder)
    Lora.from_pretrained(pairs, own).merge(own)
    return own
