"""A causal network that decides, every 80 ms, what somebody who is spoken to does: see `DECISIONS`.

    network = TurnNetwork.from_pretrained(folder)
    state = network.init_state()
    chances, voice = network.step(samples, own, state)     # [frames, 5], [frames]: of each 80 ms that is complete

It sees a spectrogram of what the user's microphone hears, how likely that is speech (Silero), and whether the listener
itself is speaking, in three steps: the 80 ms become one vector, recurrent layers (Cho et al. 2014) remember, a linear
layer decides. The pauses, intonation and tempo that tell the end of a turn are in the spectrogram; that a "mhm" is none
of it is in its sound and in its length.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.audio import mel
from antiphon.audio.vad import CHUNK, SileroState, SileroVad
from antiphon.errors import ModelError
from antiphon.nn.weights import NoInitWeights, fill

FAMILY = "antiphon-turns"
# What there is to do: go on as before; answer, as the user's turn is over; fall silent, as the user takes the floor;
# go on although something is heard (a sign of listening, a cough, a noise, somebody far away); give such a sign.
DECISIONS = ("listen", "take", "yield", "ignore", "backchannel")
SAMPLE_RATE = mel.SAMPLE_RATE
FRAME = SAMPLE_RATE * 2 // 25  # samples of 80 ms
HOPS = FRAME // mel.HOP  # of the spectrogram, in a frame
BEFORE = 2  # hops of a frame that lie before it, so that a decision waits for no sound after it
NEEDED = FRAME - BEFORE * mel.HOP + mel.WINDOW // 2 - mel.HOP  # samples of a frame that its decision needs
BANDS = 80
SILENCE = -1.5  # what the spectrogram has where nothing is heard, about


@dataclass(frozen=True)
class TurnConfig:
    """Sizes.

    Attributes:
        width: of a frame's vector.
        hidden, depth: of the recurrent layers.
        dropout: in training.
    """

    width: int = 160
    hidden: int = 192
    depth: int = 2
    dropout: float = 0.1


@dataclass
class TurnState:
    """A conversation under way, rows of a batch.

    Attributes:
        mel, vad: where the spectrogram and Silero's network stand.
        hops: of the spectrogram that belong to no decision yet, [batch, bands, n].
        voice: how likely the newest 32 ms are speech, [batch].
        missing: samples until the next decision.
        hidden: of the recurrent layers, [batch, depth, hidden].
    """

    mel: mel.MelState
    vad: SileroState
    hops: Tensor
    voice: Tensor
    missing: int
    hidden: Tensor


class TurnNetwork(nn.Module):
    """See the module.

    Args:
        config: its sizes.
    """

    def __init__(self, config: TurnConfig = TurnConfig()) -> None:
        super().__init__()
        self.config = config
        self.near = nn.Linear(HOPS * BANDS + 3, config.width)
        self.recurrent = nn.GRU(config.width, config.hidden, config.depth, batch_first=True)
        self.decide = nn.Linear(config.hidden, len(DECISIONS))
        self.dropout = nn.Dropout(config.dropout)

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> TurnNetwork:
        """Reads what `save` wrote.

        Raises:
            ModelError: the folder holds something else.
        """
        folder = Path(folder)
        try:
            fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            if fields.pop("family", None) != FAMILY:
                raise ModelError(f"{folder} is no network for turns: its config.json tells of another family")
            if fields.pop("decisions", None) != list(DECISIONS):
                raise ModelError(f"{folder}: its network decides other things than {', '.join(DECISIONS)}")
            with NoInitWeights():
                network = cls(TurnConfig(**fields))
            fill(network, {name: each.float() for name, each in load_file(folder / "model.safetensors").items()})
        except (OSError, ValueError, TypeError) as error:
            raise ModelError(f"{folder} can't be read as a network for turns: {error}") from error
        return network.eval().requires_grad_(False)

    def save(self, folder: Path | str) -> None:
        """Writes config.json and model.safetensors, in float16."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"family": FAMILY, "decisions": list(DECISIONS), **asdict(self.config)}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        save_file({name: each.half().contiguous() for name, each in self.state_dict().items()},
                  folder / "model.safetensors")  # fmt: skip

    def init_state(self, batch: int = 1) -> TurnState:
        """The state before the first sample."""
        zeros = self.decide.weight.new_zeros
        silent = torch.full((batch, BANDS, BEFORE), SILENCE)
        hidden = zeros(batch, self.config.depth, self.config.hidden)
        vad = SileroVad.shipped().init_state(batch)
        return TurnState(mel.init_state(batch), vad, silent, zeros(batch), NEEDED, hidden)

    @torch.no_grad()
    def step(self, samples: Tensor, own: bool, state: TurnState) -> tuple[Tensor, Tensor]:
        """Takes what the microphone heard, of one conversation.

        Args:
            samples: float32 [n] at 16 kHz, any n.
            own: whether the listener itself is speaking meanwhile.
            state: changed.

        Returns:
            (how likely each of `DECISIONS` is, [frames, 5]; how likely the newest of it is speech, [frames]), for each
            80 ms that the samples complete, mostly one.
        """
        found, voices = [], []
        while len(samples):  # frame by frame, as the network of voices has to stand where the frame ends
            piece, samples = samples[: state.missing], samples[state.missing :]
            state.missing -= len(piece)
            hops, state.mel = mel.step(piece[None], state.mel, bands=BANDS)
            state.hops = torch.cat([state.hops, hops], dim=2)
            voice = SileroVad.shipped().step(piece[None], state.vad)
            if voice.shape[1]:
                state.voice = voice[:, -1]
            if not state.missing:
                now, state.hops = state.hops[:, :, :HOPS], state.hops[:, :, HOPS:]
                ours = torch.full((1, 1), float(own))
                logits, state.hidden = self._run(now.flatten(1)[:, None], state.voice[:, None], ours, state.hidden)
                found.append(logits[0].softmax(-1))
                voices.append(state.voice)
                state.missing = FRAME
        if not found:
            return torch.zeros(0, len(DECISIONS)), torch.zeros(0)
        return torch.cat(found), torch.cat(voices)

    def forward(self, hops: Tensor, voice: Tensor, own: Tensor) -> Tensor:
        """Of whole conversations.

        Args:
            hops: spectrograms by frames, [batch, frames, bands * HOPS]; see `frames_of`.
            voice: how likely each is speech, [batch, frames].
            own: 1 where the listener speaks, else 0, [batch, frames].

        Returns:
            Logits [batch, frames, 5].
        """
        return self._run(hops, voice, own, None)[0]

    def _run(self, hops: Tensor, voice: Tensor, own: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        loud = hops.mean(-1)  # of the frame, over the spectrogram's own range
        x = torch.cat([hops, voice[..., None], own[..., None], loud[..., None]], dim=-1)
        x = self.dropout(F.gelu(self.near(x)))
        x, after = self.recurrent(x, None if hidden is None else hidden.transpose(0, 1).contiguous())
        return self.decide(self.dropout(x)), after.transpose(0, 1)


def frames_of(samples: Tensor) -> tuple[Tensor, Tensor]:
    """What the network sees of a whole recording, as `step` would.

    Args:
        samples: float32 [n] at 16 kHz.

    Returns:
        (spectrogram by frames [frames, bands * HOPS], how likely each frame is speech [frames]).
    """
    count = max(0, (len(samples) - NEEDED) // FRAME + 1)
    heard, _ = mel.step(samples[None], mel.init_state(1), bands=BANDS)
    heard = F.pad(heard, (BEFORE, 0), value=SILENCE)[0, :, : count * HOPS]
    hops = heard.unflatten(1, (count, HOPS)).transpose(0, 1).flatten(1)
    voice = SileroVad.shipped().step(samples[None], SileroVad.shipped().init_state(1))[0]
    # The newest chunk of 32 ms that is whole when a frame is decided.
    newest = (torch.arange(count) * FRAME + NEEDED) // CHUNK - 1
    return hops, voice[newest.clamp(0, max(0, len(voice) - 1))] if len(voice) else torch.zeros(count)
