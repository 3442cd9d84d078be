"""Moshi (Defossez et al. 2024, section 3.4): listens and speaks at once, every frame.

A dialogue is a grid of streams: text (the inner monologue), the model's own codes, the user's codes, each with its
delay (`antiphon.nn.delays.delay`). A temporal transformer reads a column of the grid a frame; from what it makes of
the past, the next column is predicted: first the text, then, code by code, the voice, by a depth transformer.

    model = load(folder)                        # antiphon.models.moshi.weights
    state = model.init_state(batch=1)
    tokens = model.step(user_codes, state)      # every 80 ms: [1, 1 + codebooks], text and the own voice's codes
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.hub.weights import to_int8
from antiphon.models.llm.sampling import sample, uniforms
from antiphon.models.moshi.config import GREEDY, MoshiConfig, MoshiSampling
from antiphon.models.moshi.hearing import Hearing
from antiphon.models.moshi.layers import Depth, start_embedding
from antiphon.nn.cpu import PackedWeights, product
from antiphon.nn.transformer import Transformer, TransformerConfig, TransformerState

FAMILY = "moshi"

__all__ = ["GREEDY", "Moshi", "MoshiConfig", "MoshiOutput", "MoshiSampling", "MoshiState"]


@dataclass
class MoshiOutput:
    """Logits.

    Attributes:
        text: [batch, time, text_card].
        codes: [kept frames, predicted codebooks, card], frames in row-major order.
    """

    text: Tensor
    codes: Tensor


@dataclass
class MoshiState:
    """Where conversations stand; a value that `antiphon.nn.state` can fork, select and join.

    Attributes:
        temporal: of the temporal transformer.
        grid: the columns around the present one, [batch, streams, columns]: some past ones, and those to come, as far
            as something is known of them. -1 where nothing is.
        seed: of each row's chance, [batch].
        hearing: of what reads a speech encoder's frames; None where nothing does.
    """

    temporal: TransformerState
    grid: Tensor
    seed: Tensor
    hearing: TransformerState | None = None

    @property
    def position(self) -> Tensor:
        """Frames so far, [batch]."""
        return self.temporal.position


class Moshi(nn.Module):
    """See the module.

    Args:
        config: sizes.
    """

    def __init__(self, config: MoshiConfig):
        super().__init__()
        self.config = config
        self.packed: PackedWeights | None = None
        codes = (config.streams - 1) * (config.card + 1)
        self.text_embedding = nn.Embedding(config.text_card + 2, config.dim, padding_idx=config.text_card + 1)
        self.code_embedding = nn.EmbeddingBag(codes + 1, config.dim, mode="sum", padding_idx=codes)
        self.temporal = Transformer(temporal_config(config))
        for layer in self.temporal.layers:
            for linear, fan in (
                (layer.project, config.dim),
                (layer.gate_up, config.dim),
                (layer.out, 2 * config.layers * config.dim),
                (layer.down, 2 * config.layers * config.inner),
            ):
                nn.init.normal_(linear.weight, std=fan**-0.5)
        self.text_head = nn.Linear(config.dim, config.text_card, bias=False)
        self.depth = Depth(config)
        self.hearing = None if config.hearing is None else Hearing(config.hearing, config.dim)
        nn.init.normal_(self.text_head.weight, std=0.1 * config.dim**-0.5)
        for table in (self.text_embedding, self.code_embedding):
            start_embedding(table)
        for name in ("first", "nothing", "initial", "_delays", "_now", "_input", "_user", "_forced", "_done"):
            self.register_buffer(name, torch.empty(0, dtype=torch.long), persistent=False)
        self.reset()

    def reset(self) -> None:
        """Computes what is no weight; needed where a module was made without memory (`torch.device("meta")`)."""
        config, device = self.config, self.text_head.weight.device
        streams, lag = config.streams, config.lag

        def table(values: list[int]) -> Tensor:
            return torch.tensor(values, dtype=torch.long, device=device)

        self.first = table([0] + [k * (config.card + 1) for k in range(streams - 1)])
        self.nothing = table([config.text_card + 1] + [(streams - 1) * (config.card + 1)] * (streams - 1))
        self.initial = table(config.initial)
        self._delays = table(config.delays)
        self.columns, present = self._window()
        # Where things lie in a row of the state's grid, streams and columns flattened.
        row, made = torch.arange(streams, device=device) * self.columns + present, 1 + config.predicted
        self._now = row[:made].clone()
        self._input = row - 1
        self._user = (row + self._delays - 1)[1 + config.codebooks :].clone()
        self._forced = (row + self._delays)[: 1 + config.codebooks].clone()
        self._done = (row + self._delays - lag)[:made].clone()
        self.temporal.reset()
        self.depth.reset()
        if self.hearing is not None:
            self.hearing.reset()

    def _window(self) -> tuple[int, int]:
        """Columns of the state's grid, and which of them is the present one."""
        past, ahead = max(1, self.config.max_delay), self.config.max_delay
        return past + 1 + ahead, past

    def _embed(self, tokens: Tensor) -> Tensor:
        """Sum of the embeddings of each column: [n, streams] -> [n, dim]; -1 adds nothing."""
        rows = torch.where(tokens < 0, self.nothing, tokens + self.first)
        codes, table = rows[:, 1:], self.code_embedding
        text = F.embedding(rows[:, 0], self.text_embedding.weight, self.text_embedding.padding_idx)
        return text + F.embedding_bag(codes, table.weight, mode="sum", padding_idx=table.padding_idx)

    def forward(self, delayed: Tensor, keep: Tensor | None = None, heard: Tensor | None = None) -> MoshiOutput:
        """Logits of every column, those before it given; differentiable.

        Args:
            delayed: as for `states`.
            keep: [batch, time], the frames whose codes are asked for; None for all.
            heard: with `hearing`, what it gets at each step, [batch, time, width]; None where nothing was heard.
        """
        batch, _, time = delayed.shape
        condition = None
        if self.hearing is not None:
            heard = delayed.new_zeros(batch, time, self.hearing.config.width) if heard is None else heard
            condition = self.hearing.embed(heard)
        return self.conditioned(delayed, keep, condition)

    def conditioned(
        self,
        delayed: Tensor,
        keep: Tensor | None = None,
        condition: Tensor | None = None,
        known: Tensor | None = None,
    ) -> MoshiOutput:
        """`forward`, where it is known what is added to the input of the temporal transformer.

        Args:
            delayed, keep: as there.
            condition: embedded states of the dialogue, [batch, time, dim].
            known: the grid that the depth transformer reads, if it is another than `delayed`.
        """
        batch, _, time = delayed.shape
        states, columns = self.states(delayed, condition)
        targets = (columns if known is None else self._columns(known))[:, 1:, : self.config.predicted]
        keep = torch.ones(batch, time, dtype=torch.bool, device=delayed.device) if keep is None else keep
        return MoshiOutput(self.text_head(states), self.depth(states[keep], targets[keep]))

    def states(self, delayed: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What the temporal transformer makes of a grid; differentiable.

        Args:
            delayed: the grid after `antiphon.nn.delays.delay`, -1 where nothing is, [batch, streams, time] int64.
                Before the first frame each stream has its initial token, and so it has while it is late.
            condition: what is added to its input, as for `conditioned`.

        Returns:
            states [batch, time, dim]; the columns that they were made from, and the last one, [batch, time + 1,
            streams].
        """
        batch, streams, time = delayed.shape
        columns = self._columns(delayed)
        x = self._embed(columns[:, :-1].reshape(batch * time, streams)).view(batch, time, -1)
        return self.temporal(x if condition is None else x + condition), columns

    def _columns(self, delayed: Tensor) -> Tensor:
        """A grid with the initial column before it, and each stream's initial token while it is late, [batch, time + 1,
        streams]."""
        late = torch.arange(delayed.shape[-1] + 1, device=delayed.device) <= self._delays[:, None]
        columns = F.pad(delayed, (1, 0), value=-1).masked_fill(late, 0) + late * self.initial[:, None]
        return columns.transpose(1, 2)

    def init_state(self, batch: int = 1, seed: int | Sequence[int] = 0) -> MoshiState:
        """New conversations.

        Args:
            batch: how many.
            seed: of each row's chance; a number gives row b that number plus b.
        """
        device = self.initial.device
        columns, present = self._window()
        after = torch.arange(columns, device=device) - present
        start = torch.where(after < self._delays[:, None], self.initial[:, None], -1)
        seeds = list(range(seed, seed + batch)) if isinstance(seed, int) else list(seed)
        if len(seeds) != batch:
            raise ValueError(f"{batch} rows need as many seeds, got {len(seeds)}")
        return MoshiState(
            self.temporal.init_state(batch),
            start.repeat(batch, 1, 1),
            torch.tensor(seeds, dtype=torch.long, device=device),
            None if self.hearing is None else self.hearing.init_state(batch),
        )

    @torch.no_grad()
    def step(
        self,
        user: Tensor | None,
        state: MoshiState,
        sampling: MoshiSampling = GREEDY,
        forced_text: Tensor | None = None,
        forced_own: Tensor | None = None,
        heard: Tensor | None = None,
    ) -> Tensor:
        """One frame, 80 ms.

        At call t the latest user frame counts as frame t - 1, and frame t - `config.lag` of the own voice comes out. So
        the user's codes of call 0 are not looked at (nothing has been heard before the first frame), and at t =
        `config.lag` comes the first frame, as in the published implementation.

        Args:
            user: codes of the user's latest frame [batch, user_codebooks] int64, -1 where nothing is known (a lost
                frame). None where the model plays the user too: its depth must predict the user's codes.
            state: of the conversations; changed in place.
            sampling: how tokens are drawn.
            forced_text: [batch], the text of frame t; -1 leaves it to the model.
            forced_own: [batch, codebooks], codes of frame t, undelayed; -1 leaves it to the model.
            heard: with `hearing`, the newest frame of the speech encoder, [batch, width]; None where nothing was heard.

        Returns:
            text and own codes of a frame, delays undone, [batch, 1 + codebooks] int64 (and the user's after them where
            `user` is None); -1 where there is none yet.

        Raises:
            ValueError: wrong shapes, or a user is to be played by a model that can't.
        """
        config = self.config
        grid = state.grid.reshape(len(state.grid), -1)
        codes = self._codes(user, len(grid))
        if user is not None and config.user_codebooks:
            self._put(grid, self._user, user)
        if forced_text is not None:
            self._put(grid, self._forced[:1], forced_text[:, None])
        if forced_own is not None:
            self._put(grid, self._forced[1:], forced_own)
        position = state.position
        read = self._embed(grid.index_select(1, self._input))
        if self.hearing is not None and state.hearing is not None:
            heard = read.new_zeros(len(read), self.hearing.config.width) if heard is None else heard
            read = read + self.hearing.step(heard, state.hearing, self.packed)
        hidden = self.temporal.step(read[:, None], state.temporal, self.packed)[:, 0]
        given = grid.index_select(1, self._now[: 1 + codes])
        given = given if bool((given >= 0).any()) else None
        chance = None if sampling.greedy else uniforms(state.seed, position, 1 + codes)
        made = self._column(hidden, codes, given, sampling, chance)
        grid.index_copy_(1, self._now[: 1 + codes], made)
        done = grid.index_select(1, self._done[: 1 + codes])
        done = torch.where(done == self.initial[: 1 + codes], -1, done)
        state.grid = F.pad(grid.view(len(grid), config.streams, -1)[:, :, 1:], (0, 1), value=-1)
        return done

    def pack(self) -> None:
        """Makes steps about twice as quick on a CPU: a second copy of the weights is kept in float16 (half as much
        memory again as float32 takes), and computed with in float32.

        Nothing is lost where the weights came from float16, as those of `save_pretrained` do. To be called again after
        the weights were changed; until then they are used as they are.
        """
        large = [self.text_head.weight, self.depth.state_in.flatten(0, 1), *self.depth.heads]
        for part in (self.temporal, self.hearing):
            large += [parameter for parameter in part.parameters() if parameter.dim() == 2] if part is not None else []
        large += [each for parameter in self.depth.layers.parameters() if parameter.dim() == 3 for each in parameter]
        self.packed = PackedWeights(large)

    def _codes(self, user: Tensor | None, batch: int) -> int:
        """How many codebooks are to be predicted in this step."""
        config = self.config
        if user is not None:
            if user.shape != (batch, config.user_codebooks):
                raise ValueError(f"user must be [{batch}, {config.user_codebooks}], got {list(user.shape)}")
            return config.codebooks
        if config.predicted == config.codebooks and config.user_codebooks:
            raise ValueError("this model doesn't predict the user's codes: give them (-1 where they are lost)")
        return config.predicted

    @staticmethod
    def _put(grid: Tensor, where: Tensor, tokens: Tensor) -> None:
        """Writes into the flat grid, save where a token stands already (initial ones, forced ones)."""
        known = grid.index_select(1, where)
        grid.index_copy_(1, where, torch.where(known >= 0, known, tokens.to(known)))

    def _column(
        self,
        hidden: Tensor,
        codes: int,
        given: Tensor | None,
        sampling: MoshiSampling,
        chance: Tensor | None,
    ) -> Tensor:
        """Draws a column [batch, 1 + codes] by chance [batch, 1 + codes] from what the temporal transformer gave."""

        def token(logits: Tensor, level: int, temperature: float, top_k: int) -> Tensor:
            drawn = sample(logits, None if chance is None else chance[:, level], temperature, top_k)
            return drawn if given is None else torch.where(given[:, level] >= 0, given[:, level], drawn)

        logits = product(hidden, self.text_head.weight, packed=self.packed)
        if sampling.pad_bonus:
            logits = logits.contiguous()
            logits[:, self.config.pad] += sampling.pad_bonus
        tokens = [token(logits, 0, sampling.text_temperature, sampling.text_top_k)]
        frame = self.depth.start(hidden, self.packed)
        for level in range(codes):
            logits = self.depth.step(level, tokens[-1], frame)
            tokens.append(token(logits, 1 + level, sampling.temperature, sampling.top_k))
        return torch.stack(tokens, dim=1)

    @torch.no_grad()
    def take_codebooks(self, codec: nn.Module, scale: float = 0.1) -> None:
        """Starts all that deals with codes from the codec's own vectors, so that codes that sound alike are alike.

        Each codebook's vectors are scaled to zero mean and unit variance and projected at random, otherwise for each
        stream. Heads stay small, so that a fresh model's loss is near ln(card).

        Args:
            codec: of `codebooks` codebooks (at least) of `card` codes, which has `codebook_vectors`.
            scale: size of the heads.

        Raises:
            ValueError: the codec doesn't fit.
        """
        config = self.config
        vectors = [(each - each.mean(0)) / each.std() for each in codec.codebook_vectors()]
        needed = max(config.codebooks, config.user_codebooks)
        if len(vectors) < needed or any(len(each) != config.card for each in vectors[:needed]):
            raise ValueError(
                f"the model knows {needed} codebooks of {config.card}; the codec has {len(vectors)} of "
                f"{sorted({len(each) for each in vectors})}"
            )
        levels = [*range(config.codebooks), *range(config.user_codebooks)]

        def projected(level: int, width: int, size: float) -> Tensor:
            source = vectors[level].to(self.text_head.weight)
            return source @ (torch.randn(source.shape[1], width).to(source) * (size / (width * source.shape[1]) ** 0.5))

        rows = config.card + 1
        for stream, level in enumerate(levels):
            self.code_embedding.weight[stream * rows : stream * rows + config.card] = projected(level, config.dim, 1.0)
        for k, level in enumerate(levels[: config.predicted]):
            width = config.depth.dim
            if k + 1 < config.predicted:
                table = self.depth.code_embedding.weight
                table[k * rows : k * rows + config.card] = projected(level, width, 1.0)
            self.depth.heads[k] = projected(level, width, scale)

    def save_pretrained(self, folder: Path | str, dtype: torch.dtype = torch.float16) -> None:
        """Writes config.json and model.safetensors; `dtype` torch.int8 halves the file again (`to_int8`)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"family": FAMILY, **self.config.to_dict()}, indent=2) + "\n")
        weights = self.state_dict()
        if dtype == torch.int8:
            weights = to_int8(weights)
        else:
            weights = {key: value.detach().to(dtype).contiguous().cpu() for key, value in weights.items()}
        save_file(weights, folder / "model.safetensors")


def temporal_config(config: MoshiConfig) -> TransformerConfig:
    """Of the transformer over time."""
    return TransformerConfig(
        config.dim, config.heads, config.inner, config.layers, config.context, kv_heads=config.kv_heads, eps=config.eps,
        rope_base=config.rope_base,
    )  # fmt: skip
