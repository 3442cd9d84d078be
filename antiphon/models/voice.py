"""Text as it comes to sound as it comes: speller, talker and codec in a row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from antiphon.codecs.base import CodecState
from antiphon.codecs.mini import MiniCodec
from antiphon.models.phonemes import Phonemizer, Speller, SpellerState
from antiphon.models.talker import Talker, TalkerState


@dataclass
class VoiceState:
    """One reply that is being spoken."""

    speller: SpellerState
    talker: TalkerState
    codec: CodecState


class Voice:
    """Speaks.

    Args:
        talker, codec: trained for each other.
        phonemizer: spells.
    """

    def __init__(self, talker: Talker, codec: MiniCodec, phonemizer: Phonemizer):
        self.talker, self.codec, self.speller = talker, codec, Speller(phonemizer)

    @property
    def sample_rate(self) -> int:
        return self.codec.sample_rate

    def init_state(self, seed: int = 0, temperature: float = 0.25, top_k: int = 5) -> VoiceState:
        """A new reply; the same seed and text give the same sound. See `Talker.init_state`."""
        talker = self.talker.init_state(seed, temperature, top_k)
        return VoiceState(self.speller.init_state(), talker, self.codec.init_state(1))

    def add(self, text: str, state: VoiceState, hidden: Tensor | None = None) -> None:
        """More text to say; `hidden` is the thinker's state at it, [hidden]."""
        if phonemes := self.speller.step(text, state.speller):
            self.talker.add_phonemes(phonemes, state.talker, hidden)

    def end(self, state: VoiceState) -> None:
        """No more text will come."""
        if phonemes := self.speller.step("", state.speller, last=True):
            self.talker.add_phonemes(phonemes, state.talker)
        self.talker.end_text(state.talker)

    @torch.no_grad()
    def step(self, state: VoiceState) -> Tensor | None:
        """The next 80 ms, [samples]; None if more text is needed first, or if all is said (`state.talker.done`)."""
        codes = self.talker.step(state.talker)
        return None if codes is None else self.codec.decode_step(codes, state.codec)[0, 0]
