"""Parts of a model that cost nothing: for tests of what is around them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace

import torch

from antiphon.audio.speech import LoudnessActivity
from antiphon.dialogue.half_duplex import HalfDuplexBackend
from antiphon.dialogue.turn_taking.network import Judgement, NetworkTurns
from antiphon.models.asr.heard import Heard, HearingOptions
from antiphon.models.llm.thinker import GeneratedToken
from antiphon.models.tts.synthesizer import Timing
from antiphon.models.turns.network import DECISIONS


@dataclass
class CountingRecognizer:
    """Hears how many samples were said (at 16 kHz), as a number of 80 ms in words of one letter."""

    languages = ("en",)

    def options(self, *_: object, **__: object) -> HearingOptions:
        return HearingOptions()

    def init_state(self, options: HearingOptions | None = None) -> list[int]:
        return []

    def step(self, samples: torch.Tensor, state: list[int], ahead: bool = True) -> None:
        state.append(len(samples))

    def draft(self, state: list[int]) -> str:
        return ("a " * (sum(state) // 1280)).strip()

    def finish(self, state: list[int]) -> SimpleNamespace:
        return Heard("a " * round(sum(state) / 1280), torch.zeros(1, 4))


@dataclass
class ScriptedThinker:
    """Thinks the same pieces always, or counts as long as it is let; counts how far it was asked to think.

    Attributes:
        pieces: what it thinks; None to count.
        width: of its hidden states.
        pace: seconds for each.
        roles: of the messages and replies that were its own to read or to think.
        thought: pieces so far.
        drafts: words that it was to read ahead.
        lora: none.
    """

    pieces: list[str] | None = None
    width: int = 4
    pace: float = 0.0
    roles: list[str] = field(default_factory=list)
    thought: int = 0
    drafts: list[str] = field(default_factory=list)
    template: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(call_form=None))
    lora: None = None

    def init_state(self, *_: object) -> SimpleNamespace:
        return SimpleNamespace(prefix=0, turns=[], hidden=None, pending=[])

    def rewind(self, state: SimpleNamespace, turns: int) -> None:
        del state.turns[turns:]

    def add_message(self, state: SimpleNamespace, role: str, said: object, *_: object) -> None:
        self.roles.append(role)
        state.turns.append([role])

    def read_draft(self, state: SimpleNamespace, said: str) -> int:
        self.drafts.append(said)
        return 0

    def draft_end(self, state: SimpleNamespace) -> float:
        return 1.0

    def likelier(self, said: str, one: str, other: str) -> float:
        return -9.0 if said.lower().startswith(("mhm", "yeah")) else 9.0

    def begin_reply(self, state: SimpleNamespace, begins: str) -> None:
        state.turns.append([])

    def stream(self, state: SimpleNamespace, max_tokens: int, *_: object) -> Iterator[GeneratedToken]:
        pieces = [f" {number}" for number in range(max_tokens)] if self.pieces is None else self.pieces
        try:
            for token, text in enumerate(pieces[:max_tokens]):
                time.sleep(self.pace)
                self.thought += 1
                yield GeneratedToken(token, text, torch.zeros(self.width))
        finally:
            self.roles.append("assistant")


class DecidingNetwork:
    """A turn network that decides what it is told, by the frame, whatever it hears; the last of it for good.

    Args:
        chances: of some of `DECISIONS`; the others' are 0.
    """

    def __init__(self, *chances: dict[str, float]) -> None:
        self.chances, self.own = list(chances), []

    def init_state(self) -> None:
        return None

    def step(self, samples: torch.Tensor, own: bool, state: None) -> tuple[torch.Tensor, torch.Tensor]:
        self.own.append(own)
        one = self.chances.pop(0) if len(self.chances) > 1 else self.chances[0]
        return torch.tensor([[one.get(name, 0.0) for name in DECISIONS]]), torch.zeros(1)


def loud_turns(eagerness: str = "auto", sample_rate: int = 24000, **chances: float) -> NetworkTurns:
    """Turns of what is loud: the network is unsure unless told otherwise; a detector and the words count in full."""
    network = DecidingNetwork(chances or {"take": 0.1, "yield": 0.9})
    how = Judgement(network=1.0, detector=1.0, words=1.0, bias=0.0, waiting=0.0)
    return NetworkTurns(network, sample_rate, None, eagerness, how, LoudnessActivity(sample_rate))


@dataclass
class HumState:
    due: int = 0


class Hum:
    """A voice that makes one frame for every piece of text."""

    sample_rate, voices = 24000, ()

    def init_state(self, *_: object) -> HumState:
        return HumState()

    def add(self, text: str, state: HumState, hidden: torch.Tensor | None = None) -> None:
        state.due += 1

    read = add

    def end(self, state: HumState) -> None: ...

    def step(self, state: HumState) -> torch.Tensor | None:
        if not state.due:
            return None
        state.due -= 1
        return torch.zeros(1920)

    def timing(self, state: HumState) -> Timing:
        return Timing("", None, ())

    def say(self, text: str, *_: object) -> Iterator[torch.Tensor]:
        self.add(text, state := self.init_state())
        while (samples := self.step(state)) is not None:
            yield samples


def pretended_backend() -> HalfDuplexBackend:
    """Hears how long the user spoke, and answers by counting until it is stopped."""
    return HalfDuplexBackend(CountingRecognizer(), ScriptedThinker(pace=0.001), Hum())
