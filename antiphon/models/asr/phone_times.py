"""When each phoneme of a text sounds in a recording of it: forced alignment.

    aligner = PhoneAligner.from_pretrained(folder)
    phones = aligner.align(samples, "hˈaʊ ɑɹ ju")      # [("h", 0.31, 0.38), ("ˈ", 0.38, 0.38), ...]

A small network says of every 20 ms which phone sounds, from three frames of a speech encoder's features; the likeliest
path through the phonemes in their order (Viterbi) says from when to when. Scores are over what phones are likely
anyway, as in hybrid recognizers (Bourlard and Morgan 1994). Between two words and at the ends there may be silence.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from antiphon.encoders import load_features
from antiphon.encoders.base import SpeechFeatures
from antiphon.errors import ModelError
from antiphon.models.tts.phonemes import SILENCE, STRESS, alphabet
from antiphon.nn.weights import NoInitWeights, fill

FAMILY = "antiphon-phone-times"
UNKNOWN = -8.0  # nats of a phone that the network has not learnt


@dataclass(frozen=True)
class AlignerConfig:
    """Sizes of the network.

    Attributes:
        features, layer: name of a speech encoder, and the layer that is read.
        width: features a frame.
        around: frames before and after the one that is judged.
        hidden: between the two layers.
        phones: ids of the alphabet, `SILENCE` among them.
    """

    features: str = "whisper-base"
    layer: int = 4
    width: int = 512
    around: int = 1
    hidden: int = 192
    phones: tuple[int, ...] = (SILENCE,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "phones", tuple(self.phones))
        if SILENCE not in self.phones:
            raise ModelError("the phones of an aligner must hold silence (id 0)")


class PhoneAligner(nn.Module):
    """See the module.

    Args:
        config: sizes.
        features: of speech; None loads those that the config names.
    """

    def __init__(self, config: AlignerConfig, features: SpeechFeatures | None = None):
        super().__init__()
        self.config = config
        self._features = [features or load_features(config.features, config.layer)]  # no part of what is trained
        self.inward = nn.Linear(config.width * (2 * config.around + 1), config.hidden)
        self.outward = nn.Linear(config.hidden, len(config.phones))
        self.register_buffer("usual", torch.zeros(len(config.phones)))  # log of each phone's share of all frames

    @property
    def features(self) -> SpeechFeatures:
        """Of speech."""
        return self._features[0]

    def forward(self, x: Tensor) -> Tensor:
        """Features [frames, width] to log-probabilities [frames, phones]; the ends are repeated."""
        around = self.config.around
        padded = F.pad(x.T[None], (around, around), mode="replicate")[0].T
        x = torch.cat([padded[at : at + len(x)] for at in range(2 * around + 1)], -1)
        return self.logits(x).log_softmax(-1)

    def logits(self, x: Tensor) -> Tensor:
        """A frame's features with those around it, the earliest first [frames, width * frames around], to [frames,
        phones]."""
        return self.outward(F.gelu(self.inward(x)))

    @torch.inference_mode()
    def scores(self, samples: Tensor) -> NDArray[np.float64]:
        """[samples] at `features.sample_rate` to [frames, phones]: how much likelier a phone is than usual, in nats."""
        x, counts = self.features(samples[None])
        return (self(x[0, : int(counts[0])].float()) - self.usual).double().numpy()

    def align(self, samples: Tensor, phonemes: str) -> list[tuple[str, float, float]]:
        """When each phoneme sounds.

        Args:
            samples: [n] at `features.sample_rate`.
            phonemes: what is said, one character a phone, " " between words; stress stands before its vowel.

        Returns:
            (phone, start, end) in seconds of each of `phonemes`, each from where the one before it ends. A stress mark
            lasts no time, a silence between words is the space's or the punctuation's, that at the ends nobody's.

        Raises:
            ModelError: no phone in it, or more phones than frames.
        """
        known, states, silent = alphabet(), [SILENCE], [True]
        state_of: list[int | None] = []  # of each phoneme
        for phone in phonemes:
            is_phone = phone.isalpha() and phone not in STRESS
            if is_phone or (phone not in STRESS and not silent[-1]):
                states.append(known.get(phone, -1) if is_phone else SILENCE)
                silent.append(not is_phone)
            state_of.append(None if phone in STRESS else len(states) - 1)
        if not silent[-1]:
            states, silent = [*states, SILENCE], [*silent, True]
        if all(silent):
            raise ModelError("there is no phone in the text that is to be aligned")
        columns = {phone: column for column, phone in enumerate(self.config.phones)}
        scores = np.pad(self.scores(samples), ((0, 0), (0, 1)), constant_values=UNKNOWN)
        emitted = scores[:, [columns.get(state, -1) for state in states]]
        starts, ends = stretches(likeliest_path(emitted, silent), len(states))
        seconds, found = 1 / self.features.frame_rate, list[tuple[str, float, float]]()
        time, told = float(starts[1]) * seconds, {0, len(states) - 1}
        for phone, state in zip(phonemes, state_of):
            start = time
            if state is not None and state not in told and ends[state]:
                time = float(ends[state]) * seconds
                told.add(state)
            found.append((phone, start, time))
        return found

    def save_pretrained(self, folder: Path | str) -> None:
        """Writes config.json and model.safetensors (float16)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"family": FAMILY, **asdict(self.config)}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        save_file({name: value.half().contiguous() for name, value in self.state_dict().items()},
                  folder / "model.safetensors")  # fmt: skip

    @classmethod
    def from_pretrained(cls, folder: Path | str, features: SpeechFeatures | None = None) -> PhoneAligner:
        """Reads what `save_pretrained` wrote, in evaluation mode.

        Raises:
            ModelError: something else.
        """
        folder = Path(folder)
        try:
            values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            family = values.pop("family")
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(f"{folder} holds no aligner of phones: train one with mini/phone-times") from error
        if family != FAMILY:
            raise ModelError(f"{folder} is of the family {family!r}, no aligner of phones")
        with NoInitWeights():
            aligner = cls(AlignerConfig(**values), features)
        weights = {name: value.float() for name, value in load_file(folder / "model.safetensors").items()}
        fill(aligner, weights, folder / "model.safetensors")
        return aligner.eval()


def likeliest_path(scores: NDArray[np.float64], optional: Sequence[bool]) -> NDArray[np.int64]:
    """The state of each frame on the likeliest path from the first state to the last, each after the other.

    Args:
        scores: [frames, states] nats.
        optional: of each state, whether the path may pass it by; of two in a row not both.

    Returns:
        [frames], never falling.

    Raises:
        ModelError: fewer frames than states that must be passed through.
    """
    frames, states = scores.shape
    if frames < (least := sum(not each for each in optional)):
        raise ModelError(f"{least} phones don't fit into {frames} frames of speech: is the text of this recording?")
    never, may_skip = -np.inf, np.array([False, *optional[:-1]])
    best = np.full(states, never)
    best[0] = scores[0, 0]
    if states > 1 and optional[0]:
        best[1] = scores[0, 1]
    came = np.zeros((frames, states), np.int8)  # how many states further than in the frame before
    for frame in range(1, frames):
        one = np.concatenate(([never], best[:-1]))
        two = np.where(may_skip, np.concatenate(([never, never], best[:-2])) if states > 1 else never, never)
        ways = np.stack((best, one, two[:states]))
        came[frame] = ways.argmax(0)
        best = ways.max(0) + scores[frame]
    last = states - 1
    if states > 1 and optional[-1] and best[-2] > best[-1]:
        last -= 1
    path = np.empty(frames, np.int64)
    for frame in range(frames - 1, -1, -1):
        path[frame] = last
        last -= int(came[frame, last])
    return path


def stretches(path: NDArray[np.int64], states: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First frame of each state on a path, and the one behind its last [states]; 0 and 0 of states passed by."""
    starts, ends = np.zeros(states, np.int64), np.zeros(states, np.int64)
    for frame, state in enumerate(path.tolist()):
        if not ends[state]:
            starts[state] = frame
        ends[state] = frame + 1
    return starts, ends
