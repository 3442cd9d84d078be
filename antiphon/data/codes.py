"""A speech set as codes: encoded once, trimmed to the speech, with the phonemes' times moved along."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from antiphon.codecs.mini.model import MiniCodec
from antiphon.data.shards import SpeechSet
from antiphon.models.tts.phonemes import SILENCE, alphabet


@dataclass
class Coded:
    """An utterance on the frame clock.

    Attributes:
        symbols: phoneme ids [length], silence first and last.
        ends: seconds at which each symbol ends [length]; the last ends with the last frame.
        codes: [codebooks, frames].
        text: what is said.
    """

    symbols: np.ndarray
    ends: np.ndarray
    codes: np.ndarray
    text: str


def timeline(
    phonemes: str, start: float, ends: np.ndarray, first: float, length: float
) -> tuple[np.ndarray, np.ndarray]:
    """Symbols and their ends for speech of which the first seconds were cut off.

    Args:
        phonemes, start, ends: as in `Spoken`; every character is in the alphabet.
        first: seconds cut off.
        length: seconds that are left.

    Returns:
        ids and ends with a silence before and one after.
    """
    known = alphabet()
    symbols = np.array([SILENCE, *(known[c] for c in phonemes), SILENCE], np.int64)
    moved = np.concatenate([[start], ends, [length + first]]) - first
    return symbols, np.maximum.accumulate(np.clip(moved, 0.0, length))


class CodeSet:
    """The codes of a speech set, kept in a folder: codes.npy [codebooks, frames], index.json.

    Args:
        folder: where they are kept.
    """

    def __init__(self, folder: Path | str):
        folder = Path(folder)
        self.codes = np.load(folder / "codes.npy", mmap_mode="r")
        self.index = json.loads((folder / "index.json").read_text())
        self.lengths = np.array([row["frames"] for row in self.index])
        self.offsets = np.concatenate([[0], np.cumsum(self.lengths)])

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> Coded:
        row = self.index[i]
        codes = self.codes[:, self.offsets[i] : self.offsets[i + 1]]
        return Coded(np.array(row["symbols"]), np.array(row["ends"]), codes.astype(np.int64), row["text"])


@torch.no_grad()
def encode_set(speech: SpeechSet, codec: MiniCodec, folder: Path | str, lead: float, batch: int = 16) -> CodeSet:
    """Encodes a whole set and keeps the result.

    Args:
        speech: at the codec's sample rate, with phoneme times.
        codec: encodes.
        folder: of the result, written when all is done.
        lead: seconds of silence left before the first phoneme.
        batch: utterances at once.
    """
    folder, rate, frame = Path(folder), codec.sample_rate, codec.config.samples_per_frame
    order = sorted(range(len(speech)), key=lambda i: speech.utterances[i].length)
    rows: list[dict | None] = [None] * len(speech)
    parts: list[np.ndarray] = [np.zeros(0)] * len(speech)
    device = next(codec.parameters()).device
    for at in tqdm(range(0, len(order), batch), desc="codes", file=sys.stderr, mininterval=5):
        members = order[at : at + batch]
        firsts = [max(0.0, speech.utterances[i].phonemes_start - lead) for i in members]
        pieces = [torch.from_numpy(speech.samples(i, int(first * rate))) for i, first in zip(members, firsts)]
        frames = [-(-len(piece) // frame) for piece in pieces]
        padded = torch.nn.utils.rnn.pad_sequence(pieces, batch_first=True)
        codes = codec.encode(padded[:, None].to(device)).cpu().numpy().astype(np.int16)
        for i, first, number, row in zip(members, firsts, frames, codes):
            said = speech.utterances[i]
            ends = np.asarray(said.phoneme_ends)
            symbols, moved = timeline(said.phonemes, said.phonemes_start, ends, first, number / codec.frame_rate)
            rows[i] = {
                "text": said.text,
                "frames": number,
                "symbols": symbols.tolist(),
                "ends": moved.round(4).tolist(),
            }
            parts[i] = row[:, :number]
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "codes.part.npy", np.concatenate(parts, axis=1))
    (folder / "index.json").write_text(json.dumps(rows))
    os.replace(folder / "codes.part.npy", folder / "codes.npy")
    return CodeSet(folder)
