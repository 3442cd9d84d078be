"""Whisper's encoder: whole recordings, or in blocks while the speaker is still talking.

Whisper's encoder sees 30 s at once; `embed` and `run` do as it does. With a state, a block of frames (50 a second) sees
itself, all blocks before it (through a key-value cache) and a few frames after it, which are computed for the block's
sake and then computed anew as part of the next one. Weights and key names are those of `transformers`' WhisperEncoder;
with one block that covers everything, so are the results.

    encoder = WhisperBlockEncoder.from_pretrained(folder)
    state = encoder.init_state(batch=1)
    features, frames = encoder.step(mel, state)              # [1, most, 512], as many as the mel so far allows; [1]
    features, frames = encoder.step(mel, state, last=True)   # the rest

What its layers make of the sound on the way (low ones know its kind and its feeling, high ones its words) comes with it
from the same pass, averaged over 80 ms: `step_layers`; and so that it can be trained through: `layers_of`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from antiphon.encoders.base import length_mask
from antiphon.errors import ModelError
from antiphon.nn.cache import KeyValues, Span
from antiphon.nn.cpu import PackedLinear
from antiphon.nn.weights import NoInitWeights, fill

MEL_PER_FRAME = 2
POOL = 4  # frames that are averaged where every layer is given: 80 ms
_PREFIX = "model.encoder."


@dataclass(frozen=True)
class EncoderConfig:
    """Shape of the encoder and of its blocks.

    Attributes:
        width: features per frame.
        layers: transformer layers.
        heads: attention heads.
        inner: width of the feed-forward layers.
        bands: mel bands.
        positions: frames after which the encoder starts afresh (Whisper has positions for 1,500 frames = 30 s).
        block: frames in a block; 100 = 2 s.
        right: frames after a block that it sees.
    """

    width: int = 512
    layers: int = 6
    heads: int = 8
    inner: int = 2048
    bands: int = 80
    positions: int = 1500
    block: int = 100
    right: int = 20

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ModelError(f"width {self.width} is not a multiple of {self.heads} heads")
        if self.block < 1 or self.right < 0:
            raise ModelError(f"block is {self.block} and right {self.right}: at least 1 and 0 are needed")


@dataclass
class EncoderState:
    """Signals under way, rows of a batch; a value that `antiphon.nn.state` can fork and select and `antiphon.nn.cache`
    can join. Rows may be out of step.

    Attributes:
        mel: [batch, bands, room], from two mel frames before the next frame on (the convolutions' left context); zeros
            behind what is there.
        waiting: how many mel frames of each row are there, [batch].
        begun: whether a block was taken out, [batch]; before that, the signal's left edge is in `mel`.
        cache: keys and values of the frames given out since the encoder last started afresh.
    """

    mel: Tensor
    waiting: Tensor
    begun: Tensor
    cache: KeyValues


class _Past:
    """Keys and values of the blocks so far, as `KeyValues` gives them but with their gradients.

    Attributes:
        block: frames of the block under way that stay; those after it are seen by it alone.
    """

    def __init__(self, layers: int) -> None:
        self.block = 0
        self._kept: list[tuple[Tensor, Tensor] | None] = [None] * layers

    @property
    def frames(self) -> int:
        """That are kept of each layer."""
        return 0 if self._kept[0] is None else self._kept[0][0].shape[2]

    def put(self, layer: int, key: Tensor, value: Tensor, span: Span | None) -> tuple[Tensor, Tensor]:
        """What a layer's attention sees: [batch, heads, frames, width / heads] of what came before and of these."""
        before = self._kept[layer]
        if before is not None:
            key, value = torch.cat([before[0], key], 2), torch.cat([before[1], value], 2)
        seen = (0 if before is None else before[0].shape[2]) + self.block
        self._kept[layer] = key[:, :, :seen], value[:, :, :seen]
        return key, value


class SelfAttention(nn.Module):
    """Multi-head attention."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = PackedLinear(width, width)
        self.k_proj = PackedLinear(width, width, bias=False)
        self.v_proj = PackedLinear(width, width)
        self.out_proj = PackedLinear(width, width)

    def forward(
        self, x: Tensor, mask: Tensor | None, cache: KeyValues | _Past | None, layer: int, span: Span | None
    ) -> Tensor:  # fmt: skip
        """As `EncoderLayer.forward`."""
        query, key, value = (
            project(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        if cache is not None:
            key, value = cache.put(layer, key, value, span)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.out_proj(out.transpose(1, 2).flatten(2))


class EncoderLayer(nn.Module):
    """Attention and feed-forward, each normed before and added after."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.self_attn = SelfAttention(config.width, config.heads)
        self.self_attn_layer_norm = nn.LayerNorm(config.width)
        self.fc1 = PackedLinear(config.width, config.inner)
        self.fc2 = PackedLinear(config.inner, config.width)
        self.final_layer_norm = nn.LayerNorm(config.width)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, cache: KeyValues | _Past | None = None, layer: int = 0,
        span: Span | None = None,
    ) -> Tensor:  # fmt: skip
        """[batch, T, width] -> the same.

        Args:
            x: frames.
            mask: [batch, 1, 1 or T, frames seen], True where a frame may look; None where it may look at all.
            cache: keys and values of what came before, which get those of these frames in `span`; `layer` is this
                layer's number there. None: a frame sees these frames alone.
        """
        x = x + self.self_attn(self.self_attn_layer_norm(x), mask, cache, layer, span)
        return x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))


def attention_mask(frames: Tensor, longest: int, block: int = 0) -> Tensor | None:
    """Which frames a frame may look at: those of its row and, with `block`, none of a later block of so many frames.

    Returns:
        [batch, 1, 1 or T, T]; None where every frame may look at all.
    """
    mask = None
    if int(frames.min()) < longest:
        mask = length_mask(frames, longest)[:, None, None]
    if 0 < block < longest:
        at = torch.arange(longest, device=frames.device) // block
        seen = (at[None, :] <= at[:, None])[None, None]
        mask = seen if mask is None else mask & seen
    return mask


def consecutive(rows: list[int]) -> Iterator[range]:
    """Rows in ascending order, in runs without gaps: their part of a batch is a view, which nobody has to copy."""
    first = 0
    for place, row in enumerate(rows):
        if place + 1 == len(rows) or rows[place + 1] != row + 1:
            yield range(rows[first], row + 1)
            first = place + 1


def pooled(x: Tensor) -> Tensor:
    """The means of each 4 frames, and of those that are left: [batch, T, width] -> [batch, ceil(T / 4), width]."""
    whole = x.shape[1] // POOL * POOL
    parts = [x[:, :whole].unflatten(1, (-1, POOL)).mean(2)] if whole else []
    if whole < x.shape[1]:
        parts.append(x[:, whole:].mean(1, keepdim=True))
    return torch.cat(parts, 1) if parts else x


def sinusoids(length: int, width: int) -> Tensor:
    """Whisper's positions [length, width]: sines, then cosines, of wavelengths from 2 pi to 20,000 pi frames."""
    rates = torch.exp(-torch.arange(width // 2) * (torch.log(torch.tensor(10000.0)) / (width // 2 - 1)))
    angles = torch.arange(length)[:, None] * rates[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class WhisperBlockEncoder(nn.Module):
    """Log-mel [B, bands, 2 T] -> features [B, T, width], whole or as it comes."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.conv1 = nn.Conv1d(config.bands, config.width, 3)
        self.conv2 = nn.Conv1d(config.width, config.width, 3, stride=2)
        self.embed_positions = nn.Embedding(config.positions, config.width)
        self.embed_positions.weight.data.copy_(sinusoids(config.positions, config.width))
        self.embed_positions.weight.requires_grad_(False)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))
        self.layer_norm = nn.LayerNorm(config.width)

    @classmethod
    def from_pretrained(cls, folder: Path | str, block: int = 100, right: int = 20) -> WhisperBlockEncoder:
        """The encoder of a Whisper folder (`config.json` and `model.safetensors` with `transformers`' keys), float32.

        Raises:
            ModelError: the folder holds something else.
        """
        folder = Path(folder)
        try:
            tree = json.loads((folder / "config.json").read_text())
            with safe_open(folder / "model.safetensors", "pt") as file:
                names = [name for name in file.keys() if name.startswith(_PREFIX)]
                weights = {name[len(_PREFIX) :]: file.get_tensor(name).float() for name in names}
            config = EncoderConfig(
                width=tree["d_model"],
                layers=tree["encoder_layers"],
                heads=tree["encoder_attention_heads"],
                inner=tree["encoder_ffn_dim"],
                bands=tree["num_mel_bins"],
                positions=tree["max_source_positions"],
                block=block,
                right=right,
            )
            with NoInitWeights():
                encoder = cls(config)
            fill(encoder, weights, assign=True)
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            raise ModelError(f"{folder} holds no Whisper encoder that can be read: {error}") from error
        return encoder.eval()

    @staticmethod
    def published_name(linear: str) -> str:
        """`transformers`' name of a linear layer in the whole model."""
        return _PREFIX + linear

    def embed(self, mel: Tensor) -> Tensor:
        """What the first layer gets of whole signals: [batch, bands, 2 T] -> [batch, T, width]."""
        x = self._convolve(F.pad(mel, (MEL_PER_FRAME, 1)), torch.zeros(len(mel), dtype=torch.bool, device=mel.device))
        return x + self.embed_positions.weight[: x.shape[1]]

    def run(
        self, x: Tensor, frames: Tensor | None = None, first: int = 0, last: int | None = None, block: int = 0
    ) -> Tensor:
        """Layers `first` to `last` (exclusive; None: to the end), without the norm behind them.

        Args:
            x: [batch, T, width].
            frames: of each row [batch]; None where all are whole.
            first, last: which layers.
            block: frames in a block that doesn't see later ones, 0 for no such limit.
        """
        mask = None if frames is None else attention_mask(frames, x.shape[1], block)
        for layer in self.layers[first:last]:
            x = layer(x, mask)
        return x

    def init_state(self, batch: int = 1) -> EncoderState:
        """The state before the first mel frame."""
        config, weight = self.config, self.layer_norm.weight
        room = MEL_PER_FRAME * (config.block + config.right + 1) + 1
        frames = min(config.positions, config.block + config.right)
        # Two frames of zeros stand before the first: the convolutions' padding.
        return EncoderState(
            weight.new_zeros(batch, config.bands, room),
            torch.full((batch,), MEL_PER_FRAME, device=weight.device),
            torch.zeros(batch, dtype=torch.bool, device=weight.device),
            KeyValues.empty(batch, config.layers, config.heads, config.width // config.heads, frames, weight),
        )

    def step(
        self, mel: Tensor, state: EncoderState, last: bool | Tensor = False, counts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Features of the blocks that are complete.

        Args:
            mel: [batch, bands, n] at 100 frames/s, any n, 0 too.
            state: changed to the state after this step.
            last: nothing follows, for all rows or for each [batch]: give everything. An odd last mel frame is doubled.
                The row is spent afterwards.
            counts: how many mel frames of each row are meant [batch], 0 for one that stands still; None for all.

        Returns:
            [batch, most, width] at 50 frames/s, often none, zeros behind a row's own; frames of each row [batch].
        """
        return self._step(mel, state, last, counts, None)

    def step_layers(
        self, mel: Tensor, state: EncoderState, last: bool | Tensor = False, counts: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`step`, with what every layer made of the same blocks.

        Returns:
            Features and frames as `step` gives them; [batch, layers + 1, ceil(most / 4), width] at 12.5 frames/s: what
            the first layer got and what each gave, before the norm behind them, each the mean of 4 frames (the last
            of a row, where it has ended, of those that are left), zeros behind a row's own.

        Raises:
            ModelError: the blocks are no multiples of 4 frames.
        """
        self._check_pooled()
        layers: list[list[Tensor]] = [[] for _ in mel]
        features, frames = self._step(mel, state, last, counts, layers)
        nothing = features.new_zeros(0, self.config.layers + 1, self.config.width)
        together = pad_sequence([torch.cat([nothing, *parts]) for parts in layers], batch_first=True)
        return features, frames, together.transpose(1, 2)

    def _check_pooled(self) -> None:
        if self.config.block % POOL or self.config.positions % POOL:
            raise ModelError(
                f"blocks of {self.config.block} in {self.config.positions} frames: every layer is averaged over {POOL} "
                "frames, so both must be multiples of it"
            )

    def layers_of(self, mel: Tensor) -> Tensor:
        """What `step_layers` gives of whole signals in its blocks, differentiably: nothing is written in place.

        Args:
            mel: [batch, bands, n] at 100 frames/s, n > 0.

        Returns:
            [batch, layers + 1, ceil(n / 8), width] at 12.5 frames/s.

        Raises:
            ModelError: as `step_layers`.
        """
        self._check_pooled()
        given = [torch.stack([pooled(each) for each in passed], 1) for passed in self._blocks(mel, 1)]
        return torch.cat(given, 2)

    def features_of(self, mel: Tensor, together: int = 32) -> Tensor:
        """What `forward` gives, quicker where blocks are short.

        Args:
            mel: [batch, bands, n] at 100 frames/s, n > 0.
            together: blocks that are computed at once.

        Returns:
            [batch, ceil(n / 2), width].
        """
        return self.layer_norm(torch.cat([passed[-1] for passed in self._blocks(mel, together)], 1))

    def _blocks(self, mel: Tensor, together: int) -> Iterator[list[Tensor]]:
        """What the first layer gets and what each gives, [batch, frames, width], of so many blocks after the other.

        The frames after a block stand behind all blocks, once more for each block that sees them.
        """
        mel = F.pad(mel, (0, mel.shape[2] % MEL_PER_FRAME), mode="replicate")
        x = self._convolve(F.pad(mel, (MEL_PER_FRAME, 1)), torch.zeros(len(mel), dtype=torch.bool, device=mel.device))
        at, position, past = 0, 0, _Past(len(self.layers))
        while at < x.shape[1]:
            left = min(self.config.positions - position, x.shape[1] - at)
            count = min(together * self.config.block, left)
            frames = torch.arange(count, device=x.device)
            block = frames // self.config.block
            ends = [min(end, count) for end in range(self.config.block, count + self.config.block, self.config.block)]
            after = [torch.arange(end, min(end + self.config.right, left), device=x.device) for end in ends]
            places = torch.cat([frames, *after])
            seers = torch.cat([block, *(torch.full_like(each, number) for number, each in enumerate(after))])
            mask = None
            if len(ends) > 1:
                mask = seers[None] <= seers[:, None]
                mask[:, count:] = seers[None, count:] == seers[:, None]
                mask = F.pad(mask, (past.frames, 0), value=True)
            past.block = count
            part = x[:, at + places] + self.embed_positions.weight[position + places]
            passed = [part[:, :count]]
            for number, layer in enumerate(self.layers):
                part = layer(part, mask, past, number)
                passed.append(part[:, :count])
            yield passed
            at, position = at + count, position + count
            if position == self.config.positions:  # starts afresh
                position, past = 0, _Past(len(self.layers))

    def _step(
        self,
        mel: Tensor,
        state: EncoderState,
        last: bool | Tensor,
        counts: Tensor | None,
        layers: list[list[Tensor]] | None,
    ) -> tuple[Tensor, Tensor]:
        """As `step`; adds each row's [frames / 4, layers + 1, width] to `layers` where it is given."""
        mel = self._take(mel, state, counts, last)
        out: list[list[Tensor]] = [[] for _ in mel]
        ends = last.tolist() if isinstance(last, Tensor) else [last] * len(mel)
        while groups := self._ready(state, ends):
            for (block, right), together in groups.items():
                for rows in consecutive(together):
                    given, passed = self._run(mel, state, rows, block, right, layers is not None)
                    for place, row in enumerate(rows):
                        out[row].append(given[place])
                        if layers is not None:
                            layers[row].append(torch.stack([each[place] for each in passed], 1))
        state.mel = mel[:, :, : state.mel.shape[2]]
        nothing = self.layer_norm.weight.new_zeros(0, self.config.width)
        features = pad_sequence([torch.cat([nothing, *parts]) for parts in out], batch_first=True)
        return features, torch.tensor([sum(map(len, parts)) for parts in out], device=mel.device)

    def forward(self, mel: Tensor) -> Tensor:
        """Whole signals in blocks: [batch, bands, n] -> [batch, ceil(n / 2), width]."""
        return self.step(mel, self.init_state(mel.shape[0]), last=True)[0]

    def _take(self, mel: Tensor, state: EncoderState, counts: Tensor | None, last: bool | Tensor) -> Tensor:
        """What waits with what is new, [batch, bands, more], zeros behind it; counts it in `state.waiting`."""
        held = F.pad(state.mel, (0, mel.shape[2] + 1))
        places = state.waiting[:, None] + torch.arange(mel.shape[2], device=mel.device)
        held.scatter_(2, places[:, None].expand_as(mel), mel)
        waiting = state.waiting + (mel.shape[2] if counts is None else counts)
        odd = ((waiting % MEL_PER_FRAME == 1) & last).nonzero()[:, 0]
        held[odd, :, waiting[odd]] = held[odd, :, waiting[odd] - 1]
        state.waiting = waiting.index_add(0, odd, torch.ones_like(odd))
        return held * length_mask(state.waiting, held.shape[2])[:, None]

    def _ready(self, state: EncoderState, ends: list[bool]) -> dict[tuple[int, int], list[int]]:
        """Rows that have a block to give, by its frames and those after it that it sees."""
        groups: dict[tuple[int, int], list[int]] = {}
        for row, (mel, frame) in enumerate(zip(state.waiting.tolist(), state.cache.length.tolist())):
            waiting = mel // MEL_PER_FRAME - 1
            block = min(self.config.block, self.config.positions - frame)
            right = min(self.config.right, self.config.positions - frame - block)
            # The convolutions look one mel frame ahead.
            if mel > MEL_PER_FRAME * (block + right + 1):
                groups.setdefault((block, right), []).append(row)
            elif ends[row] and waiting > 0:
                groups.setdefault((min(block, waiting), min(right, max(waiting - block, 0))), []).append(row)
        return groups

    def _run(
        self, mel: Tensor, state: EncoderState, rows: range, block: int, right: int, every_layer: bool
    ) -> tuple[Tensor, list[Tensor]]:
        """Takes one block of each of these rows out of `mel`, which is written in place, and the state.

        Returns:
            Features [rows, block, width]; with `every_layer`, what went through the layers, [rows, block / 4, width] of
            each.
        """
        where, steps = slice(rows.start, rows.stop), block + right
        needed = int(state.cache.length[where].max()) + steps
        if needed > state.cache.capacity:
            state.cache.resize(min(self.config.positions, max(needed, 2 * state.cache.capacity)))
        cache = KeyValues(state.cache.buffer[where], state.cache.length[where])
        span = cache.reserve(steps)
        x = self._convolve(mel[where, :, : MEL_PER_FRAME * (steps + 1) + 1], state.begun[where])
        x = x + self.embed_positions.weight[span.positions]
        mask = None if span.start is not None else length_mask(cache.length + steps, span.end)[:, None, None]
        passed = [pooled(x[:, :block])] if every_layer else []
        for number, layer in enumerate(self.layers):
            x = layer(x, mask, cache, number, span)
            if every_layer:
                passed.append(pooled(x[:, :block]))
        state.cache.length, state.begun, state.waiting = (
            each.clone() for each in (state.cache.length, state.begun, state.waiting)
        )
        after = cache.length + block
        state.cache.length[where] = torch.where(after == self.config.positions, 0, after)
        state.begun[where] = True
        state.waiting[where] -= MEL_PER_FRAME * block
        mel[where] = F.pad(mel[where][:, :, MEL_PER_FRAME * block :], (0, MEL_PER_FRAME * block))
        return self.layer_norm(x[:, :block]), passed

    def _convolve(self, mel: Tensor, begun: Tensor) -> Tensor:
        """The two convolutions: [batch, bands, 2 T + 3] -> [batch, T, width].

        Frame j needs the first convolution's outputs 2j - 1 to 2j + 1, those mel frames 2j - 2 to 2j + 2. Outside the
        signal Whisper pads the mel, and the first convolution's output too, with zeros: of rows that haven't `begun`
        [batch] the first output is outside.
        """
        x = F.gelu(self.conv1(mel))
        x = torch.cat([x[:, :, :1] * begun[:, None, None], x[:, :, 1:]], dim=2)
        return F.gelu(self.conv2(x)).transpose(1, 2)
