"""Sizes of a Moshi model, from a few million parameters to the published 7B (Defossez et al. 2024, table 1)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from antiphon.errors import ConfigError
from antiphon.models.moshi.hearing import HearingConfig


@dataclass
class DepthConfig:
    """The depth transformer: it goes through the codes of one frame.

    Attributes:
        dim, heads, layers, inner: width, heads, layers, width of the SwiGLU.
        codebooks: how many it predicts: those of the model's own voice, or these and the user's.
        schedule: which set of weights each codebook uses, numbered from 0 without gaps; None gives each its own.
    """

    dim: int = 192
    heads: int = 4
    layers: int = 2
    inner: int = 512
    codebooks: int = 8
    schedule: list[int] | None = None

    def __post_init__(self) -> None:
        for name in ("dim", "heads", "layers", "inner", "codebooks"):
            if getattr(self, name) < 1:
                raise ConfigError(f"depth.{name} must be at least 1, not {getattr(self, name)}.")
        if self.dim % self.heads:
            raise ConfigError(f"depth.dim {self.dim} is no multiple of depth.heads {self.heads}.")
        if self.schedule is not None:
            self.schedule = list(self.schedule)
            if len(self.schedule) != self.codebooks:
                raise ConfigError(
                    f"depth.schedule names weights for {len(self.schedule)} codebooks, but there are {self.codebooks}."
                )
            if sorted(set(self.schedule)) != list(range(max(self.schedule) + 1)):
                raise ConfigError(
                    f"depth.schedule must use the numbers 0, 1, 2, ... without gaps, not {self.schedule}."
                )

    @property
    def sets(self) -> int:
        """How many sets of weights there are."""
        return self.codebooks if self.schedule is None else max(self.schedule) + 1

    @property
    def order(self) -> list[int]:
        """Each codebook's set of weights."""
        return list(range(self.codebooks)) if self.schedule is None else self.schedule


@dataclass
class MoshiConfig:
    """The whole model. The defaults are those of mini-duplex.

    Attributes:
        dim, heads, layers, inner: of the temporal transformer; `inner` is the width of the SwiGLU.
        kv_heads: heads of keys and values; None for as many as `heads`.
        context: frames that are seen, the present one included.
        text_card: text pieces.
        pad, end_pad: pieces that stand where no word begins, and in the frame before a word.
        codebooks, user_codebooks: of the model's own voice and of the user's; none of the user's where it goes by
            `hearing`.
        card: codes in a codebook.
        delays: of each stream, in frames: text, own codes, user's codes. None gives Moshi's: acoustic codes lag by one.
        eps: of the RMS norms.
        rope_base: of the rotary positions.
        depth: the depth transformer.
        hearing: reads what a speech encoder makes of the user; None for the codes alone.
    """

    dim: int = 384
    heads: int = 6
    layers: int = 6
    inner: int = 1024
    kv_heads: int | None = None
    context: int = 750
    text_card: int = 1024
    pad: int = 3
    end_pad: int = 0
    codebooks: int = 8
    user_codebooks: int = 8
    card: int = 1024
    delays: list[int] | None = None
    eps: float = 1e-8
    rope_base: float = 10000.0
    depth: DepthConfig = field(default_factory=DepthConfig)
    hearing: HearingConfig | None = None

    def __post_init__(self) -> None:
        if isinstance(self.depth, dict):
            self.depth = DepthConfig(**self.depth)
        if isinstance(self.hearing, dict):
            self.hearing = HearingConfig(**self.hearing)
        if self.kv_heads is None:
            self.kv_heads = self.heads
        for name in ("dim", "heads", "layers", "inner", "kv_heads", "context", "text_card", "codebooks", "card"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.dim % self.heads or (self.dim // self.heads) % 2:
            raise ConfigError(f"dim {self.dim} must be an even multiple of heads {self.heads}.")
        if self.heads % self.kv_heads:
            raise ConfigError(f"heads {self.heads} is no multiple of kv_heads {self.kv_heads}.")
        if self.user_codebooks < 0:
            raise ConfigError(f"user_codebooks must be 0 or more, not {self.user_codebooks}.")
        if not (0 <= self.pad < self.text_card and 0 <= self.end_pad < self.text_card):
            raise ConfigError(
                f"pad {self.pad} and end_pad {self.end_pad} must be text pieces (0 to {self.text_card - 1})."
            )
        if self.delays is None:
            self.delays = [0]
            for count in (self.codebooks, self.user_codebooks):
                self.delays += [0] * min(1, count) + [1] * (count - 1)
        self.delays = list(self.delays)
        if len(self.delays) != self.streams or min(self.delays) < 0:
            raise ConfigError(f"{self.streams} streams need as many delays of 0 or more, got {self.delays}.")
        if self.depth.codebooks not in (self.codebooks, self.codebooks + self.user_codebooks):
            raise ConfigError(
                f"depth.codebooks must be {self.codebooks} (the model's own) or "
                f"{self.codebooks + self.user_codebooks} (the user's too), not {self.depth.codebooks}."
            )

    @property
    def streams(self) -> int:
        """Rows of the grid: text, own codes, user's codes."""
        return 1 + self.codebooks + self.user_codebooks

    @property
    def predicted(self) -> int:
        """Codebooks that the depth transformer predicts."""
        return self.depth.codebooks

    @property
    def max_delay(self) -> int:
        """Frames after which a frame is complete."""
        return max(self.delays)

    @property
    def lag(self) -> int:
        """Frames by which what is predicted comes out later than it is decided upon."""
        return max(self.delays[: 1 + self.predicted])

    @property
    def initial(self) -> list[int]:
        """The token of each stream that stands before the first frame."""
        return [self.text_card] + [self.card] * (self.streams - 1)

    def to_dict(self) -> dict[str, Any]:
        """As config.json holds it."""
        fields = dataclasses.asdict(self)
        if self.hearing is None:
            del fields["hearing"]
        return fields

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> MoshiConfig:
        """The inverse of `to_dict`; "family" and "codec" are passed over: they speak of the folder.

        Raises:
            ConfigError: an unknown field, or a value that makes no sense.
        """
        fields = {name: value for name, value in fields.items() if name not in ("family", "codec")}
        try:
            return cls(**fields)
        except TypeError as error:
            raise ConfigError(f"These are no sizes of a Moshi model: {error}.") from error


@dataclass(frozen=True)
class MoshiSampling:
    """How tokens are drawn. The defaults are Moshi's.

    Attributes:
        temperature, top_k: of the codes; temperature 0 takes the likeliest, top_k 0 draws from all.
        text_temperature, text_top_k: of the text.
        pad_bonus: added to the logit of "no word here": above 0 the model speaks less, below 0 more.
    """

    temperature: float = 0.8
    top_k: int = 250
    text_temperature: float = 0.7
    text_top_k: int = 25
    pad_bonus: float = 0.0

    def __post_init__(self) -> None:
        if min(self.temperature, self.text_temperature, self.top_k, self.text_top_k) < 0:
            raise ConfigError("temperatures and top_k must be 0 or more.")

    @property
    def greedy(self) -> bool:
        """Whether nothing is left to chance."""
        return self.temperature == 0 and self.text_temperature == 0


GREEDY = MoshiSampling(temperature=0.0, text_temperature=0.0)


def moshi_7b() -> MoshiConfig:
    """The published model (`kyutai/moshiko-*`, `moshika-*`)."""
    depth = DepthConfig(dim=1024, heads=16, layers=6, inner=2816, codebooks=8)
    return MoshiConfig(
        dim=4096, heads=32, layers=32, inner=11264, context=3000, text_card=32000, card=2048, depth=depth
    )  # fmt: skip
