"""The talker: phonemes and the thinker's states in, codec frames out, as they come.

Streams on the codec's clock, as in Moshi (Defossez et al. 2024, sections 3.4.2 to 3.4.4): the text leads, the semantic
code follows, the acoustic codes lag by `acoustic_delay` frames. A temporal transformer takes one step a frame; a depth
transformer goes through that step's codes.

Three things make it learn on two CPU cores. The text stream is phonemes in time: a small network with bounded
look-ahead says how long each lasts, and each frame reads the phonemes that sound in it. Codes enter as the codec's own
codebook vectors, not as free embeddings, and leave as scores against them, so that codes that sound alike are alike
from the start. And the acoustic codes are predicted with one more frame of semantics known.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.codecs.module import CodecModule
from antiphon.errors import HubError
from antiphon.models.tts.durations import PhonemeEncoder, TalkerConfig, duration_seconds, read_timeline
from antiphon.models.tts.phonemes import SILENCE, alphabet
from antiphon.nn.transformer import Transformer, TransformerConfig, TransformerState, renamed
from antiphon.nn.weights import NoInitWeights, fill


@dataclass
class TalkerState:
    """One utterance that is being spoken. See `Talker.init_state`."""

    temporal: TransformerState
    generator: torch.Generator
    temperature: float
    top_k: int
    symbols: list[int] = field(default_factory=lambda: [SILENCE])
    hidden: list[Tensor | None] = field(default_factory=lambda: [None])
    features: Tensor | None = None
    ends: Tensor | None = None
    settled: int = 0
    complete: bool = False
    frame: int = 0
    last_frame: int = 0
    steps: int = 0
    previous: Tensor | None = None
    pending: list[Tensor] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether the text is complete and its last frame has been spoken."""
        return self.complete and self.frame >= self.steps


class Talker(nn.Module):
    """See the module.

    Args:
        config: sizes.
    """

    def __init__(self, config: TalkerConfig):
        super().__init__()
        self.config = config
        self.encoder = PhonemeEncoder(config)
        self.read = nn.Linear(config.points * (config.encoder_dim + 2), config.dim)
        self.register_buffer("codes", torch.randn(config.codebooks, config.codebook_size, config.code_dim))
        self.code_in = nn.ModuleList(
            nn.Linear(config.code_dim, config.dim, bias=False) for _ in range(config.codebooks)
        )
        self.temporal = Transformer(
            TransformerConfig(config.dim, config.heads, config.inner, config.layers, config.window, rope_halves=True)
        )
        self.depth_in = nn.ModuleList(nn.Linear(config.dim, config.depth_dim) for _ in range(config.codebooks))
        self.depth_code = nn.ModuleList(
            nn.Linear(config.code_dim, config.depth_dim, bias=False) for _ in range(config.codebooks - 1)
        )
        self.depth = Transformer(
            TransformerConfig(
                config.depth_dim,
                config.depth_heads,
                config.depth_inner,
                config.depth_layers,
                config.codebooks,
                rope_halves=True,
            )
        )
        self.out = nn.ModuleList(nn.Linear(config.depth_dim, config.code_dim) for _ in range(config.codebooks))
        self.bias = nn.Parameter(torch.zeros(config.codebooks, config.codebook_size))
        for linear in [*self.code_in, *self.depth_code]:
            nn.init.normal_(linear.weight, std=0.3 / config.code_dim**0.5)
        for linear in self.out:  # a fresh model's loss starts near ln(codebook_size)
            nn.init.normal_(linear.weight, std=0.0005)
            nn.init.zeros_(linear.bias)

    @torch.no_grad()
    def take_codebooks(self, codec: CodecModule) -> None:
        """Copies what each code adds to the codec's latent, each codebook scaled to zero mean and unit variance; the
        first codebooks where the codec has more than the talker."""
        for level, vector in enumerate(codec.codebook_vectors()[: self.config.codebooks]):
            centred = vector - vector.mean(0)
            self.codes[level] = centred / centred.std()

    def vectors(self, codes: Tensor) -> Tensor:
        """codes [batch, codebooks, frames], -1 for none -> [batch, frames, codebooks, code_dim], zeros for none."""
        levels = torch.arange(self.config.codebooks, device=codes.device)[:, None]
        found = self.codes[levels, codes.clamp_min(0)]
        return (found * (codes >= 0)[..., None]).transpose(1, 2)

    def conditions(self, features: Tensor, ends: Tensor, first: int, frames: int) -> Tensor:
        """What each of `frames` frames from `first` on reads of the text, [batch, frames, dim]."""
        points = self.config.points
        moments = torch.arange(frames * points, device=ends.device)
        times = (first + (moments + 0.5) / points) / self.config.frame_rate
        index, place = read_timeline(ends, times.expand(len(ends), -1).contiguous())
        read = features.gather(1, index[..., None].expand(-1, -1, features.shape[-1]))
        return self.read(torch.cat([read, 4 * place.to(read.dtype)], dim=-1).unflatten(1, (frames, points)).flatten(2))

    def _depth_inputs(self, states: Tensor, vectors: Tensor) -> Tensor:
        """states [n, dim], vectors of the codes so far [n, k, code_dim] -> inputs of positions 0 to k, [n, k + 1,
        depth_dim]."""
        known = [linear(vectors[:, level]) for level, linear in zip(range(vectors.shape[1]), self.depth_code)]
        inputs, total = [self.depth_in[0](states)], 0.0
        for level, vector in enumerate(known):
            total = total + vector
            inputs.append(self.depth_in[level + 1](states) + total)
        return torch.stack(inputs, dim=1)

    def _scores(self, features: Tensor, level: int) -> Tensor:
        """[n, depth_dim] -> logits of a codebook [n, codebook_size]."""
        return self.out[level](features) @ self.codes[level].T.to(features.dtype) + self.bias[level]

    def forward(
        self,
        symbols: Tensor,
        mask: Tensor,
        ends: Tensor,
        grid: Tensor,
        keep: Tensor,
        hidden: Tensor | None = None,
        noise: float = 0.0,
    ) -> tuple[list[Tensor], Tensor]:
        """Teacher-forced logits.

        Args:
            symbols, mask, hidden: as in `PhonemeEncoder.forward`.
            ends: the teacher's seconds at which each symbol ends [batch, length].
            grid: delayed codes [batch, codebooks, frames], -1 where there is none.
            keep: [batch, frames], the frames whose codes are asked for.
            noise: standard deviation of noise on the codes that the temporal transformer sees, on half of the rows: it
                must live with its own slips later.

        Returns:
            logits of each codebook [kept frames, codebook_size] and log durations [batch, length].
        """
        features, durations = self.encoder(symbols, hidden, mask)
        vectors = self.vectors(grid)
        seen = F.pad(vectors, (0, 0, 0, 0, 1, 0))[:, :-1]
        if noise:
            rows = torch.rand(len(seen), device=seen.device) < 0.5
            seen = seen + noise * torch.randn_like(seen) * rows[:, None, None, None]
        x = self.conditions(features, ends, 0, grid.shape[-1])
        x = x + sum(linear(seen[:, :, level]) for level, linear in enumerate(self.code_in))
        states = self.temporal(x)[keep]
        depth = self.depth(self._depth_inputs(states, vectors[keep][:, :-1].to(states.dtype)))
        return [self._scores(depth[:, level], level) for level in range(self.config.codebooks)], durations

    def init_state(self, seed: int = 0, temperature: float = 0.25, top_k: int = 5) -> TalkerState:
        """A new utterance.

        Args:
            seed: the same seed and text give the same codes.
            temperature: 0 takes the likeliest code.
            top_k: how many of the likeliest codes are drawn from; 0 for all.
        """
        generator = torch.Generator().manual_seed(seed)
        return TalkerState(self.temporal.init_state(), generator, temperature, top_k)

    def add_phonemes(self, phonemes: str, state: TalkerState, hidden: Tensor | None = None) -> None:
        """More text to say.

        Args:
            phonemes: characters of the alphabet; unknown ones are skipped.
            state: of the utterance.
            hidden: the thinker's state for these phonemes [hidden], or None.
        """
        known = alphabet()
        for phoneme in phonemes:
            if phoneme in known:
                state.symbols.append(known[phoneme])
                state.hidden.append(hidden)
        self._settle(state)

    def end_text(self, state: TalkerState) -> None:
        """No more text will come."""
        state.symbols.append(SILENCE)
        state.hidden.append(None)
        state.complete = True
        self._settle(state)

    @torch.no_grad()
    def _settle(self, state: TalkerState) -> None:
        """Encodes the symbols whose look-ahead is known by now, and extends the timeline by them."""
        config = self.config
        until = len(state.symbols) if state.complete else len(state.symbols) - config.look_ahead
        if until <= state.settled:
            return
        first = max(0, state.settled - config.look_ahead)
        symbols = torch.tensor([state.symbols[first:]], device=self.bias.device)
        hidden = None
        if any(h is not None for h in state.hidden[first:]):
            zero = torch.zeros(config.hidden, device=self.bias.device)
            hidden = torch.stack([zero if h is None else h for h in state.hidden[first:]])[None]
        features, durations = self.encoder(symbols, hidden)
        features, seconds = (
            features[:, state.settled - first : until - first],
            duration_seconds(durations)[:, state.settled - first : until - first],
        )
        if state.settled == 0:
            seconds[:, 0] = config.lead
        if state.complete:
            seconds[:, -1] = config.tail
        start = state.ends[:, -1:] if state.ends is not None else seconds.new_zeros(1, 1)
        ends = start + seconds.cumsum(-1)
        state.features = features if state.features is None else torch.cat([state.features, features], dim=1)
        state.ends = ends if state.ends is None else torch.cat([state.ends, ends], dim=1)
        state.settled = until
        state.last_frame = math.ceil(float(state.ends[0, -1]) * config.frame_rate)
        state.steps = state.last_frame + config.acoustic_delay

    @torch.no_grad()
    def step(self, state: TalkerState) -> Tensor | None:
        """The next frame's codes [1, codebooks, 1]; None if text is needed first, or all is said (`state.done`)."""
        while not state.done:
            if not state.complete and (
                state.ends is None or (state.frame + 1) / self.config.frame_rate > float(state.ends[0, -1])
            ):
                return None
            state.pending.append(self._step(state))
            state.frame += 1
            if len(state.pending) > self.config.acoustic_delay:
                return self._undelayed(state)
        return None

    def _undelayed(self, state: TalkerState) -> Tensor:
        """Takes the oldest step's semantic code and the acoustic codes that came `acoustic_delay` steps later."""
        semantic, acoustic = (
            state.pending.pop(0),
            state.pending[self.config.acoustic_delay - 1] if self.config.acoustic_delay else None,
        )
        return semantic if acoustic is None else torch.cat([semantic[:, :1], acoustic[:, 1:]], dim=1)

    def _step(self, state: TalkerState) -> Tensor:
        """One frame of the delayed grid, [1, codebooks, 1]."""
        x = self.conditions(state.features, state.ends, state.frame, 1)
        if state.previous is not None:
            x = x + sum(linear(state.previous[:, :, level]) for level, linear in enumerate(self.code_in))
        states = self.temporal.step(x, state.temporal)[:, 0]
        codes, vectors, known, depth = [], [], 0.0, self.depth.init_state()
        for level in range(self.config.codebooks):
            features = self.depth.step((self.depth_in[level](states) + known)[:, None], depth)[:, 0]
            code = draw(self._scores(features, level)[0], state.temperature, state.top_k, state.generator)
            absent = (
                state.frame < self.config.acoustic_delay
                if level
                else state.complete and state.frame >= state.last_frame
            )
            vectors.append(torch.zeros_like(self.codes[level, :1]) if absent else self.codes[level, code][None])
            if level < len(self.depth_code):
                known = known + self.depth_code[level](vectors[level])
            codes.append(code)
        vectors = torch.stack(vectors, dim=1)
        state.previous = vectors[:, None]
        return torch.stack(codes)[None, :, None]

    def save_pretrained(self, folder: Path | str) -> None:
        """Writes config.json and model.safetensors (float16)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(
            json.dumps({"family": "talker", **dataclasses.asdict(self.config)}, indent=2) + "\n"
        )
        save_file(
            {k: v.detach().half().contiguous().cpu() for k, v in self.state_dict().items()},
            folder / "model.safetensors",
        )

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> Talker:
        """Reads what `save_pretrained` wrote, in float32 and evaluation mode.

        Raises:
            HubError: the folder holds something else.
        """
        folder = Path(folder)
        try:
            fields = json.loads((folder / "config.json").read_text())
            fields.pop("family", None)
            with NoInitWeights():
                talker = cls(TalkerConfig(**fields))
            fill(talker, renamed({k: v.float() for k, v in load_file(folder / "model.safetensors").items()}))
        except Exception as error:  # safetensors raises its own class
            raise HubError(f"{folder} holds no talker that can be read: {error}") from error
        return talker.eval()


def draw(logits: Tensor, temperature: float, top_k: int, generator: torch.Generator) -> Tensor:
    """Draws an index from logits [n].

    Args:
        logits: [n].
        temperature: 0 takes the likeliest.
        top_k: how many of the likeliest are drawn from; 0 for all.
        generator: a CPU generator, so that a seed means the same on every device.
    """
    if temperature <= 0:
        return logits.argmax()
    scores, index = (
        logits.topk(min(top_k, len(logits))) if top_k else (logits, torch.arange(len(logits), device=logits.device))
    )
    share = torch.softmax(scores.float() / temperature, dim=-1).cpu()
    return index[int(torch.multinomial(share, 1, generator=generator))]
