"""The network that names what is heard, over an audio encoder's layers: as it is heard, and of a turn as a whole.

1. *Mixes*: several weighted means over the layers, each learnt (low layers know sound and feeling, high ones words) and
   projected: a few hundred numbers each 80 ms, linear in what the encoder gives.
2. *Chunks*: 8 frames (0.64 s) become one vector, and a causal transformer over the last half minute of them gives each
   its context. So each frame knows what it is and what it stands in.
3. *Times*: of each label that has times, a logit each 80 ms. What a chunk's vector says about each of its frames, and
   a small convolution over the spectrogram, which knows when a sound begins better than the encoder's layers do, join
   the frame in its context.
4. *The whole*: each group of labels has attention of its own over the frames of the turn (Okabe et al. 2018,
   "attentive statistics pooling"): the weighted means and deviations of the mixes, and the weighted mean of the frames
   in their context, give its logits. They are sums, so they can be asked for at any time and nothing has to be kept.
   A linear classifier of every layer's mean and deviation, fitted by itself (`train.scene.linear`), is added:
   where recordings with labels are few, it knows voices and sounds that it never heard better than what is learnt.
5. *Tempo* is read off the spectrogram: see `tempo`.

    state = network.init_state()
    heard = network.step(features, state)                 # any number of frames; what is new of each 0.64 s
    whole = network.summary(state)                        # of all that was heard so far
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.encoders.base import length_mask
from antiphon.errors import ModelError
from antiphon.models.scene.features import MEL_PER_FRAME, SILENCE_DB, SceneFeatures
from antiphon.models.scene.labels import GROUPS, checked
from antiphon.models.scene.tempo import TempoConfig, TempoNet, TempoState
from antiphon.nn.conv import CausalConv1d, ConvState, Upsample
from antiphon.nn.state import fork
from antiphon.nn.transformer import Transformer, TransformerConfig, TransformerState
from antiphon.nn.weights import NoInitWeights, fill

FAMILY = "antiphon-scene"
LOUDNESS_MATTERS = ("kind", "manner")  # to other groups a recording sounds the same at any level


@dataclass(frozen=True)
class NetworkConfig:
    """What the network knows, and its sizes.

    Attributes:
        labels: of each group those that it was trained on, in the order of its outputs.
        layers, features: activations of the encoder per frame and their width.
        bands: of the spectrogram.
        mixes, mixed: weighted means of the layers, and the width each is projected to.
        width, heads, inner, depth: of the transformer over chunks.
        chunk: frames in a chunk.
        window: chunks that the transformer sees.
        dropout: in training.
        tempo: whether tempo is told.
        near: numbers a frame of the convolution over the spectrogram, and of what a chunk says of each of its frames.
    """

    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    layers: int = 7
    features: int = 512
    bands: int = 80
    mixes: int = 4
    mixed: int = 96
    width: int = 256
    heads: int = 4
    inner: int = 512
    depth: int = 2
    chunk: int = 8
    window: int = 40
    dropout: float = 0.2
    tempo: bool = True
    near: int = 64

    def __post_init__(self) -> None:
        labels = checked({name: tuple(labels) for name, labels in self.labels.items()})
        object.__setattr__(self, "labels", {name: names for name, names in labels.items() if names})

    @property
    def timed(self) -> tuple[str, ...]:
        """The groups whose labels have times."""
        return tuple(name for name in self.labels if GROUPS[name].timed)


@dataclass
class Sums:
    """Running sums over frames, for each group by its own weights.

    Attributes:
        weight: [batch, groups].
        mixes, squares: of the mixes, [batch, groups, mixed], and of their squares.
        context: of the frames in their context, [batch, groups, width].
        level, level_squares: of the level, [batch, groups].
        frames: how many there were, [batch].
        layers, layers_squares: of what the encoder gives, and of its squares, [batch, layers * features].
    """

    weight: Tensor
    mixes: Tensor
    squares: Tensor
    context: Tensor
    level: Tensor
    level_squares: Tensor
    frames: Tensor
    layers: Tensor
    layers_squares: Tensor


@dataclass
class SceneState:
    """A turn under way, rows of a batch; `antiphon.nn.state` can fork, select and join it.

    Attributes:
        waiting: frames of a chunk that isn't whole.
        transformer: over the chunks.
        sums: over the frames of whole chunks.
        tempo: the onsets; None where tempo isn't told.
        near: of the convolution over the spectrogram.
    """

    waiting: SceneFeatures
    transformer: TransformerState
    sums: Sums
    tempo: TempoState | None
    near: ConvState


@dataclass
class Readings:
    """What the network makes of frames.

    Attributes:
        frames: of each group with times, logits [batch, T, labels].
        vectors: of each chunk, [batch, chunks, width].
    """

    frames: dict[str, Tensor]
    vectors: Tensor


@dataclass
class Summary:
    """What the network makes of a turn as a whole.

    Attributes:
        logits: of each group, [batch, labels].
        vector: [batch, width].
        tempo: logits [batch, bins]; None where tempo isn't told.
    """

    logits: dict[str, Tensor]
    vector: Tensor
    tempo: Tensor | None


class NearFrames(nn.Module):
    """What the spectrogram and a chunk's vector say of each of its frames, added to the frame in its context.

    Args:
        config: sizes.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        near, width = config.near, config.width
        self.conv = CausalConv1d(config.bands, near, 9)
        self.join = nn.Linear(MEL_PER_FRAME * near, near)
        self.spread = Upsample(width, near, config.chunk)
        self.norm = nn.LayerNorm(width + 2 * near)
        self.mlp = nn.Sequential(
            nn.Linear(width + 2 * near, width), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(width, width)
        )

    def forward(self, context: Tensor, vectors: Tensor, mel: Tensor, state: ConvState | None = None) -> Tensor:
        """[batch, T, width], [batch, chunks, width] and [batch, bands, 8 T] -> [batch, T, width].

        The state, of what came before, is changed; without one nothing did.
        """
        if not context.shape[1]:
            return context
        seen = F.gelu(self.conv(mel) if state is None else self.conv.step(mel, state)).transpose(1, 2)
        heard = self.join(seen.reshape(len(mel), context.shape[1], -1))
        told = self.spread(vectors.transpose(1, 2)).transpose(1, 2)[:, : context.shape[1]]
        return context + self.mlp(self.norm(torch.cat([context, heard, told], 2)))


class FittedLinear(nn.Module):
    """A linear layer that isn't trained by gradients: zero until its numbers are set."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(outputs, inputs))
        self.register_buffer("bias", torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[batch, inputs] -> [batch, outputs]."""
        return F.linear(x, self.weight, self.bias)


class SceneNetwork(nn.Module):
    """Names what is heard.

    Args:
        config: labels and sizes.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        mixed, width, groups = config.mixes * config.mixed, config.width, len(config.labels)
        # What the encoder gives on average, by layer and feature, and how far it strays: set from training data.
        self.register_buffer("mean", torch.zeros(config.layers, 1, config.features))
        self.register_buffer("deviation", torch.ones(config.layers, 1, config.features))
        self.shares = nn.Parameter(0.5 * torch.randn(config.mixes, config.layers))
        self.project = nn.Parameter(torch.randn(config.mixes, config.features, config.mixed) / config.features**0.5)
        self.frame = nn.Sequential(nn.LayerNorm(mixed), nn.Linear(mixed, width), nn.GELU(), nn.Dropout(config.dropout))
        self.chunk = nn.Linear(config.chunk * width, width)
        self.transformer = Transformer(
            TransformerConfig(width, config.heads, config.inner, config.depth, config.window, norm="layer", eps=1e-5)
        )
        self.attention = nn.Linear(width, groups)
        self.drop = nn.Dropout(config.dropout)
        self.near = NearFrames(config)
        self.times = nn.ModuleDict({name: nn.Linear(width, len(config.labels[name])) for name in config.timed})
        told = 2 * mixed + width + 2
        self.whole = nn.ModuleDict({name: nn.Linear(told, len(names)) for name, names in config.labels.items()})
        statistics = 2 * config.layers * config.features
        self.linear = nn.ModuleDict(
            {name: FittedLinear(statistics, len(names)) for name, names in config.labels.items()}
        )
        matters = [[float(name in LOUDNESS_MATTERS)] for name in config.labels]
        self.register_buffer("loudness", torch.tensor(matters).view(groups, 1), persistent=False)
        self.tempo = TempoNet(TempoConfig(bands=config.bands)) if config.tempo else None

    # As it is heard

    def init_state(self, batch: int = 1) -> SceneState:
        """The state before the first frame."""
        config, weight = self.config, self.attention.weight
        groups, mixed, layers = len(config.labels), config.mixes * config.mixed, config.layers * config.features
        return SceneState(
            SceneFeatures(
                weight.new_zeros(batch, config.layers, 0, config.features),
                weight.new_zeros(batch, 0),
                weight.new_zeros(batch, config.bands, 0),
            ),
            self.transformer.init_state(batch),
            Sums(
                weight.new_zeros(batch, groups),
                weight.new_zeros(batch, groups, mixed),
                weight.new_zeros(batch, groups, mixed),
                weight.new_zeros(batch, groups, config.width),
                weight.new_zeros(batch, groups),
                weight.new_zeros(batch, groups),
                weight.new_zeros(batch),
                weight.new_zeros(batch, layers),
                weight.new_zeros(batch, layers),
            ),
            self.tempo.init_state(batch) if self.tempo is not None else None,
            self.near.conv.init_state(batch),
        )

    def step(self, features: SceneFeatures, state: SceneState, last: bool = False) -> Readings:
        """Takes frames; gives what is new of whole chunks.

        Args:
            features: any number of frames, of as many rows as the state has.
            state: changed.
            last: nothing follows: give the frames of a chunk that isn't whole, too. The state is spent afterwards but
                for `summary`.

        Returns:
            As many frames as there are in the chunks that became whole, often none, and those chunks.
        """
        if self.tempo is not None and state.tempo is not None:
            self.tempo.step(features.mel, state.tempo)
        features = state.waiting.then(features)
        ready = features.frames if last else features.frames // self.config.chunk * self.config.chunk
        state.waiting = features.cut(ready)
        return self._run(features.cut(0, ready), None, state)

    @torch.no_grad()
    def summary(self, state: SceneState) -> Summary:
        """What was heard so far as a whole, waiting frames included; the state stays as it is."""
        if state.waiting.frames:
            state = fork(state)
            self._run(state.waiting, None, state)
        return self._summary(state.sums, self.tempo.read(state.tempo) if self.tempo and state.tempo else None)

    # Whole recordings

    def forward(
        self, features: SceneFeatures, frames: Tensor | None = None, tempo: bool = True
    ) -> tuple[Readings, Summary]:
        """Whole recordings; differentiable.

        Args:
            features: of rows with zeros behind their own.
            frames: of each row [batch]; None where all are whole.
            tempo: whether it is told.

        Returns:
            Readings (past a row's frames they mean nothing) and summaries.
        """
        state = self.init_state(len(features.level))
        readings = self._run(features, frames, state, whole=True)
        logits = None
        if tempo and self.tempo is not None:
            logits = self.tempo(features.mel, None if frames is None else MEL_PER_FRAME * frames)
        return readings, self._summary(state.sums, logits)

    # What both do

    def _run(self, features: SceneFeatures, frames: Tensor | None, state: SceneState, whole: bool = False) -> Readings:
        """Frames from the beginning of a chunk on; adds them to the state's sums."""
        batch, time = features.level.shape
        even = (features.layers.to(self.mean.dtype) - self.mean) / self.deviation
        mixes = self.mix(even)
        x = self.frame(mixes)
        there = torch.ones_like(features.level) if frames is None else length_mask(frames, time).to(x.dtype)
        x = x * there[..., None]
        missing = -time % self.config.chunk
        chunks = self.chunk(F.pad(x, (0, 0, 0, missing)).view(batch, -1, self.config.chunk * self.config.width))
        vectors = self.transformer(chunks) if whole else self.transformer.step(chunks, state.transformer)
        context = self.drop(x + vectors.repeat_interleave(self.config.chunk, 1)[:, :time])
        self._add(mixes, context, features.level, there, state.sums)
        self.add_statistics(even, there, state.sums)
        near = self.near(context, vectors, features.mel.to(x.dtype), None if whole else state.near)
        return Readings({name: head(near) for name, head in self.times.items()}, vectors)

    def mix(self, even: Tensor) -> Tensor:
        """What the encoder gives, evened, [batch, layers, T, features] -> [batch, T, mixes * mixed]."""
        shares = self.shares
        if self.training and self.config.dropout:  # a mix that relies on one layer alone is told to look at others
            shares = shares.masked_fill(torch.rand_like(shares) < 0.5 * self.config.dropout, -1e4)
        mixed = torch.einsum("blti,ml->bmti", even, shares.softmax(-1))
        return torch.einsum("bmti,mio->btmo", mixed, self.project).flatten(2)

    def _add(self, mixes: Tensor, context: Tensor, level: Tensor, there: Tensor, sums: Sums) -> None:
        """Adds frames to the sums, by each group's attention."""
        # Bounded, so that sums over any time need no rescaling.
        weight = torch.exp(4 * torch.tanh(self.attention(context) / 4)) * there[..., None]
        by_group = weight.transpose(1, 2)
        louder = level / 20 - SILENCE_DB / 40  # from -2.25 at silence to 2.25
        sums.weight = sums.weight + weight.sum(1)
        sums.mixes = sums.mixes + by_group @ mixes
        sums.squares = sums.squares + by_group @ mixes.square()
        sums.context = sums.context + by_group @ context
        sums.level = sums.level + (by_group @ louder[..., None])[..., 0]
        sums.level_squares = sums.level_squares + (by_group @ louder.square()[..., None])[..., 0]

    @staticmethod
    def add_statistics(even: Tensor, there: Tensor, sums: Sums) -> None:
        """Adds frames to the sums in which all count the same."""
        even = even * there[:, None, :, None]
        sums.frames = sums.frames + there.sum(1)
        sums.layers = sums.layers + even.sum(2).flatten(1)
        sums.layers_squares = sums.layers_squares + even.square().sum(2).flatten(1)

    @staticmethod
    def statistics(sums: Sums) -> Tensor:
        """The mean and the deviation of what the encoder gives, evened: [batch, 2 * layers * features]."""
        frames = sums.frames[:, None].clamp_min(1)
        mean = sums.layers / frames
        return torch.cat([mean, (sums.layers_squares / frames - mean.square()).clamp_min(1e-4).sqrt()], 1)

    def _summary(self, sums: Sums, tempo: Tensor | None) -> Summary:
        weight = sums.weight[..., None].clamp_min(1e-6)
        mean, context = sums.mixes / weight, sums.context / weight
        level = sums.level[..., None] / weight
        spread = (sums.level_squares[..., None] / weight - level.square()).clamp_min(1e-4).sqrt()
        deviation = (sums.squares / weight - mean.square()).clamp_min(1e-4).sqrt()
        told = torch.cat([mean, deviation, context, level * self.loudness, spread * self.loudness], -1)
        told = self.drop(told)
        statistics = self.statistics(sums)
        logits = {
            name: head(told[:, number]) + self.linear[name](statistics)
            for number, (name, head) in enumerate(self.whole.items())
        }
        return Summary(logits, context.mean(1), tempo)

    # Folders

    def save(self, folder: Path, about: Mapping[str, object] | None = None) -> None:
        """Writes config.json and model.safetensors (float16)."""
        folder.mkdir(parents=True, exist_ok=True)
        config = {"model_type": FAMILY, **asdict(self.config), **(about or {})}
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        weights = {name: value.detach().cpu().half().contiguous() for name, value in self.state_dict().items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    def read_weights(self, folder: Path | str) -> dict[str, Tensor]:
        """What a folder holds, for training to go on with: of labels and groups that both know, whatever their places;
        others keep what they have here, and so do the classifiers that are fitted.

        Raises:
            ModelError: the folder holds something else.
        """
        other = SceneNetwork.from_pretrained(folder)
        theirs, out = other.state_dict(), {}
        for name, own in self.state_dict().items():
            start, _, rest = name.partition(".")
            if start == "linear":  # fitted anew
                continue
            if start in ("whole", "times"):
                group = rest.split(".")[0]
                places = _places(self.config.labels[group], other.config.labels.get(group, ()))
            elif start == "attention":
                places = _places(tuple(self.config.labels), tuple(other.config.labels))
            else:
                out |= {name: theirs[name]} if name in theirs else {}
                continue
            out[name] = own.clone()
            for row, place in places:
                out[name][row] = theirs[name][place]
        return out

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> SceneNetwork:
        """Reads what `save` wrote, in float32.

        Raises:
            ModelError: the folder holds something else.
        """
        folder = Path(folder)
        try:
            tree = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            with NoInitWeights():
                network = cls(NetworkConfig(**{name: tree[name] for name in NetworkConfig.__dataclass_fields__}))
            weights = {name: value.float() for name, value in load_file(folder / "model.safetensors").items()}
            # Linear classifiers that were never fitted are zero, and need not be in the file.
            unfitted = {name: value for name, value in network.state_dict().items() if name.startswith("linear.")}
            fill(network, {**unfitted, **weights})
        except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ModelError(f"{folder} holds no scene network that can be read: {error}") from error
        return network.eval()


def _places(names: tuple[str, ...], others: tuple[str, ...]) -> list[tuple[int, int]]:
    """Where each name that both have stands in the two."""
    return [(row, others.index(name)) for row, name in enumerate(names) if name in others]
