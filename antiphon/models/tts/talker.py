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
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.codecs.base import CodecModule
from antiphon.errors import HubError, ModelError
from antiphon.models.llm.sampling import sample_each, uniforms
from antiphon.models.tts.durations import PhonemeEncoder, TalkerConfig, duration_seconds, read_timeline
from antiphon.models.tts.phonemes import SILENCE, alphabet
from antiphon.nn.state import join, rows_of, select, together
from antiphon.nn.transformer import Transformer, TransformerConfig, TransformerState, renamed
from antiphon.nn.weights import NoInitWeights, fill

OF_THINKER = ("encoder.thinker.", "encoder.situation.")


@dataclass
class Utterance:
    """One utterance's text, and when its symbols sound, as far as that is settled. Tensors are replaced, never written.

    Attributes:
        symbols, hidden: ids of its phonemes, and the thinker's state at each.
        features, ends: of the settled symbols, [1, settled, encoder_dim], and the seconds at which each ends [1,
            settled]; None before the first.
        settled: symbols whose look-ahead is known.
        complete: no more text will come.
        last_frame, steps: frames that the settled symbols sound for, and steps that give them.
        speaker: number of the voice.
    """

    symbols: list[int] = field(default_factory=lambda: [SILENCE])
    hidden: list[Tensor | None] = field(default_factory=lambda: [None])
    features: Tensor | None = None
    ends: Tensor | None = None
    settled: int = 0
    complete: bool = False
    last_frame: int = 0
    steps: int = 0
    speaker: int = 0


@dataclass
class SpeechState:
    """Where the codes of utterances stand, rows of a batch; a value of `antiphon.nn.state`. Rows may be out of step.

    Attributes:
        temporal: of the temporal transformer.
        previous: vectors of the last step's codes, [batch, codebooks, code_dim].
        semantic: semantic codes that wait for their acoustic ones, oldest first, [batch, acoustic_delay].
        frame: steps so far, [batch].
        seed, temperature, top_k: how each row draws, [batch].
    """

    temporal: TransformerState
    previous: Tensor
    semantic: Tensor
    frame: Tensor
    seed: Tensor
    temperature: Tensor
    top_k: Tensor


@dataclass
class TalkerState:
    """One utterance that is being spoken. See `Talker.init_state`."""

    text: Utterance
    speech: SpeechState

    @property
    def done(self) -> bool:
        """Whether the text is complete and its last frame has been spoken."""
        return self.text.complete and int(self.speech.frame) >= self.text.steps


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

    def conditions(self, features: Tensor, ends: Tensor, first: int, frames: int, last: Tensor | None = None) -> Tensor:
        """What each of `frames` frames from `first` on reads of the text, [batch, frames, read.in_features]; `last`:
        see `read_timeline`."""
        points = self.config.points
        moments = torch.arange(frames * points, device=ends.device)
        times = (first + (moments + 0.5) / points) / self.config.frame_rate
        index, place = read_timeline(ends, times.expand(len(ends), -1).contiguous(), last)
        read = features.gather(1, index[..., None].expand(-1, -1, features.shape[-1]))
        return torch.cat([read, 4 * place.to(read.dtype)], dim=-1).unflatten(1, (frames, points)).flatten(2)

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
        speaker: Tensor | None = None,
        noise: float = 0.0,
    ) -> tuple[list[Tensor], Tensor]:
        """Teacher-forced logits.

        Args:
            symbols, mask, hidden, speaker: as in `PhonemeEncoder.forward`.
            ends: the teacher's seconds at which each symbol ends [batch, length].
            grid: delayed codes [batch, codebooks, frames], -1 where there is none.
            keep: [batch, frames], the frames whose codes are asked for.
            noise: standard deviation of noise on the codes that the temporal transformer sees, on half of the rows: it
                must live with its own slips later.

        Returns:
            logits of each codebook [kept frames, codebook_size] and log durations [batch, length].
        """
        features, durations = self.encoder(symbols, hidden, mask, speaker)
        vectors = self.vectors(grid)
        seen = F.pad(vectors, (0, 0, 0, 0, 1, 0))[:, :-1]
        if noise:
            rows = torch.rand(len(seen), device=seen.device) < 0.5
            seen = seen + noise * torch.randn_like(seen) * rows[:, None, None, None]
        x = self.read(self.conditions(features, ends, 0, grid.shape[-1], mask.sum(1) - 1))
        x = x + sum(linear(seen[:, :, level]) for level, linear in enumerate(self.code_in))
        states = self.temporal(x)[keep]
        depth = self.depth(self._depth_inputs(states, vectors[keep][:, :-1].to(states.dtype)))
        return [self._scores(depth[:, level], level) for level in range(self.config.codebooks)], durations

    def init_state(
        self, seed: int = 0, temperature: float = 0.25, top_k: int = 5, speaker: str | None = None
    ) -> TalkerState:
        """A new utterance.

        Args:
            seed: the same seed and text give the same codes.
            temperature: 0 takes the likeliest code.
            top_k: how many of the likeliest codes are drawn from; 0 for all.
            speaker: one of `config.speakers`; None for the first.

        Raises:
            ModelError: there is no such speaker.
        """
        config, like = self.config, self.bias

        def row(value: float, dtype: torch.dtype = torch.long) -> Tensor:
            return torch.tensor([value], dtype=dtype, device=like.device)

        speech = SpeechState(
            self.temporal.init_state(1),
            like.new_zeros(1, config.codebooks, config.code_dim),
            torch.zeros(1, config.acoustic_delay, dtype=torch.long, device=like.device),
            row(0), row(seed), row(temperature, torch.float64), row(top_k),
        )  # fmt: skip
        if speaker is not None and speaker not in config.speakers:
            raise ModelError(f"there is no voice {speaker!r}; there are: {', '.join(config.speakers) or 'none'}")
        return TalkerState(Utterance(speaker=config.speakers.index(speaker) if speaker else 0), speech)

    def add_phonemes(self, phonemes: str, state: TalkerState, hidden: Tensor | None = None) -> None:
        """More text to say.

        Args:
            phonemes: characters of the alphabet; unknown ones are skipped.
            state: of the utterance.
            hidden: the thinker's state for these phonemes [hidden], or None; in a situation, those from which this
                reply and the ones before it begin [turns, hidden], of which the first phoneme's hold.
        """
        known, text = alphabet(), state.text
        for phoneme in phonemes:
            if phoneme in known:
                text.symbols.append(known[phoneme])
                text.hidden.append(hidden)
        self._settle(text)

    def end_text(self, state: TalkerState) -> None:
        """No more text will come."""
        state.text.symbols.append(SILENCE)
        state.text.hidden.append(None)
        state.text.complete = True
        self._settle(state.text)

    @torch.no_grad()
    def _settle(self, text: Utterance) -> None:
        """Encodes the symbols whose look-ahead is known by now, and extends the timeline by them."""
        config = self.config
        until = len(text.symbols) if text.complete else len(text.symbols) - config.look_ahead
        if until <= text.settled:
            return
        first = max(0, text.settled - config.look_ahead)
        symbols = torch.tensor([text.symbols[first:]], device=self.bias.device)
        hidden, begins = None, text.hidden[min(1, len(text.hidden) - 1)]
        if config.situation:
            hidden = None if begins is None else begins[None].to(self.bias)
        elif any(h is not None for h in text.hidden[first:]):
            zero = torch.zeros(config.hidden, device=self.bias.device)
            hidden = torch.stack([zero if h is None else h for h in text.hidden[first:]])[None]
        speaker = torch.tensor([text.speaker], device=self.bias.device)
        features, durations = self.encoder(symbols, hidden, speaker=speaker)
        features, seconds = (
            features[:, text.settled - first : until - first],
            duration_seconds(durations)[:, text.settled - first : until - first],
        )
        if text.settled == 0:
            seconds[:, 0] = config.lead
        if text.complete:
            seconds[:, -1] = config.tail
        start = text.ends[:, -1:] if text.ends is not None else seconds.new_zeros(1, 1)
        ends = start + seconds.cumsum(-1)
        text.features = features if text.features is None else torch.cat([text.features, features], dim=1)
        text.ends = ends if text.ends is None else torch.cat([text.ends, ends], dim=1)
        text.settled = until
        text.last_frame = math.ceil(float(text.ends[0, -1]) * config.frame_rate)
        text.steps = text.last_frame + config.acoustic_delay

    def ready(self, text: Utterance, frame: int) -> bool:
        """Whether enough of a text is settled for its step number `frame`, and not all is said."""
        if text.complete:
            return frame < text.steps
        return text.ends is not None and (frame + 1) / self.config.frame_rate <= float(text.ends[0, -1])

    def step(self, state: TalkerState) -> Tensor | None:
        """The next frame's codes [1, codebooks, 1]; None if text is needed first, or all is said (`state.done`)."""
        return self.step_many([state])[0]

    @torch.no_grad()
    def step_many(self, states: Sequence[TalkerState]) -> list[Tensor | None]:
        """`step` of several utterances, those that can go on in one batch."""
        found: list[Tensor | None] = [None] * len(states)
        rows = list(range(len(states)))
        while rows := [row for row in rows if self.ready(states[row].text, int(states[row].speech.frame))]:
            going = [states[row] for row in rows]
            speech = together([state.speech for state in going])
            codes = self.step_rows([state.text for state in going], speech)
            for row, own, code in zip(rows, rows_of(speech), codes):
                states[row].speech = own
                found[row] = code[None, :, None] if int(code[0]) >= 0 else None
            rows = [row for row in rows if found[row] is None]
        return found

    @torch.no_grad()
    def step_rows(self, texts: Sequence[Utterance], state: SpeechState) -> Tensor:
        """A step of every utterance that is ready for one; the others stand still.

        Args:
            texts: of each row.
            state: changed to the state after this step.

        Returns:
            Codes of a frame of each row [batch, codebooks]; -1 where a row stood still, or its first frame's acoustic
            codes are still to come.
        """
        config, frames = self.config, state.frame.tolist()
        goes = [self.ready(text, frame) for text, frame in zip(texts, frames)]
        reads = [
            self.conditions(text.features, text.ends, frame, 1)
            if go
            else self.bias.new_zeros(1, 1, self.read.in_features)
            for text, frame, go in zip(texts, frames, goes)
        ]
        x = self.read(torch.cat(reads))
        x = x + sum(linear(state.previous[:, None, level]) for level, linear in enumerate(self.code_in))
        position = state.temporal.position
        hidden = self.temporal.step(x, state.temporal)[:, 0]
        going = torch.tensor(goes, device=position.device)
        # What a row that stands still has stored is overwritten by its next step, and is outside its window until then.
        state.temporal.position = torch.where(going, state.temporal.position, position)
        codes, vectors = self._codes(hidden, texts, frames, state)
        waiting = torch.cat([state.semantic, codes[:, :1]], dim=1)
        out = torch.cat([waiting[:, :1], codes[:, 1:]], dim=1)
        state.semantic = torch.where(going[:, None], waiting[:, 1:], state.semantic)
        state.previous = torch.where(going[:, None, None], vectors, state.previous)
        given = going & (state.frame >= config.acoustic_delay)
        state.frame = state.frame + going
        return torch.where(given[:, None], out, -1)

    @torch.no_grad()
    def speak(self, states: Sequence[TalkerState]) -> list[Tensor]:
        """All codes of utterances whose text is complete, said at once: [codebooks, frames] of each."""
        said: list[list[Tensor]] = [[] for _ in states]
        rows = list(range(len(states)))
        speech = join([state.speech for state in states]) if states else None
        while rows:
            codes = self.step_rows([states[row].text for row in rows], speech)
            for row, frame in zip(rows, codes):
                if int(frame[0]) >= 0:
                    said[row].append(frame)
            going = [at for at, frame in enumerate(speech.frame.tolist()) if frame < states[rows[at]].text.steps]
            if len(going) < len(rows):
                speech, rows = select(speech, going), [rows[at] for at in going]
        return [torch.stack(frames, dim=1) for frames in said]

    def _codes(
        self, hidden: Tensor, texts: Sequence[Utterance], frames: list[int], state: SpeechState
    ) -> tuple[Tensor, Tensor]:
        """A column of the delayed grid: of the temporal states [batch, dim], codes [batch, codebooks] and their vectors
        [batch, codebooks, code_dim], zeros where there is no code yet or any more."""
        config, depth = self.config, self.depth.init_state(len(hidden))
        settings = [(*how, 1.0) for how in zip(state.temperature.tolist(), state.top_k.tolist())]
        chance = uniforms(state.seed, state.frame, config.codebooks)
        ended = torch.tensor(
            [text.complete and frame >= text.last_frame for text, frame in zip(texts, frames)], device=hidden.device
        )
        codes, vectors, known = [], [], 0.0
        for level in range(config.codebooks):
            features = self.depth.step((self.depth_in[level](hidden) + known)[:, None], depth)[:, 0]
            code = sample_each(self._scores(features, level), chance[:, level], settings)
            absent = state.frame < config.acoustic_delay if level else ended
            vectors.append(self.codes[level, code] * ~absent[:, None])
            if level < len(self.depth_code):
                known = known + self.depth_code[level](vectors[level])
            codes.append(code)
        return torch.stack(codes, dim=1), torch.stack(vectors, dim=1)

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

    def read_weights(self, folder: Path | str) -> dict[str, Tensor]:
        """What a folder's talker holds, for training to go on with: of speakers that both know (others begin as their
        mean), and, where it spoke to another codec, all but what belongs to that one's codes, where it read another
        thinker, all but what read it.

        Raises:
            HubError: the folder holds something else, or speakers of which this talker knows none.
        """
        other = Talker.from_pretrained(folder)
        taken = {name: each for name, each in other.state_dict().items() if name != "codes"}
        if other.codes.shape != self.codes.shape or not torch.allclose(other.codes, self.codes.cpu(), 2e-3, 1e-3):
            of_codes = ("code_in.", "depth_in.", "depth_code.", "out.", "bias")
            taken = {name: each for name, each in taken.items() if not name.startswith(of_codes)}
        if (other.config.hidden, other.config.situation) != (self.config.hidden, self.config.situation):
            taken = {name: each for name, each in taken.items() if not name.startswith(OF_THINKER)}
        ours, theirs = self.config.speakers, other.config.speakers
        taken.pop("encoder.speaker.weight", None)
        if theirs and not set(ours) & set(theirs):
            raise HubError(
                f"{folder} speaks as {', '.join(theirs)}, and none of them is to be learnt: name them and yours as "
                "model.talker.speakers, as the recordings' voices do"
            )
        if theirs:
            known = other.encoder.speaker.weight.detach()
            rows = [known[theirs.index(name)] if name in theirs else known.mean(0) for name in ours]
            taken["encoder.speaker.weight"] = torch.stack(rows).to(self.bias.device)
        return taken

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
