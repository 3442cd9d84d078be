"""What a duplex model does so far: it talks with the users of held-out conversations, and one can listen and look."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from antiphon.data.dialogue.codes import CodedDialogue
from antiphon.data.dialogue.grid import NOTHING
from antiphon.models.moshi.bundle import Duplex
from antiphon.models.moshi.config import MoshiSampling
from antiphon.models.moshi.talk import talk


def write_samples(
    duplex: Duplex, conversations: Sequence[CodedDialogue], step: int, folder: Path, max_seconds: float = 30.0
) -> None:
    """Writes `<step>-<n>.wav` (left the model, right the user), .png (who speaks when) and .txt (the words).

    Args:
        duplex: talks, all conversations in one batch.
        conversations: whose users it hears.
        step: of the training; the sampling's seed.
        folder: written to.
        max_seconds: of each conversation.
    """
    folder.mkdir(parents=True, exist_ok=True)
    codec, model, config = duplex.codec, duplex.moshi, duplex.moshi.config
    rate = codec.frame_rate
    frames = min(int(max_seconds * rate), max((item.codes.shape[1] for item in conversations), default=0))
    if not frames:
        print(f"sample {step}: data.samples and data.sample_seconds leave nothing", file=sys.stderr, flush=True)
        return
    own = config.codebooks
    user = np.full((len(conversations), config.user_codebooks, frames), NOTHING, np.int64)
    for row, item in zip(user, conversations):
        heard = item.codes[own:, :frames]
        row[:, : heard.shape[1]] = heard
    device = next(model.parameters()).device
    tokens = talk(model, torch.from_numpy(user).to(device), MoshiSampling(), seed=step).cpu()
    for number, (item, row) in enumerate(zip(conversations, tokens)):
        length = min(frames, item.codes.shape[1], row.shape[-1])
        both = [row[1:, :length].clamp_min(0), torch.from_numpy(user[number, :, :length])]
        sound = torch.cat([codec.decode(codes[None])[0] for codes in both]).numpy()
        name = folder / f"{step:06d}-{number}"
        soundfile.write(name.with_suffix(".wav"), sound.T, codec.sample_rate)
        spoken = [(frame / rate, words) for frame, words in phrases(row[0, :length].tolist(), duplex)]
        lines = [f"{start:6.2f}  {words}" for start, words in spoken]
        said = [f"{word.start:6.2f}  {word.speaker}: {word.text}" for word in item.words if word.start < length / rate]
        text = "\n".join(["The model:", *lines, "", "The conversation was:", *said, ""])
        name.with_suffix(".txt").write_text(text, encoding="utf-8")
        draw(sound, codec.sample_rate, spoken, name.with_suffix(".png"))


def phrases(text: list[int], duplex: Duplex, gap: int = 8) -> list[tuple[int, str]]:
    """(first frame, words) of each run of pieces without `gap` frames of padding inside."""
    silent = (NOTHING, duplex.moshi.config.pad, duplex.moshi.config.end_pad)
    spoken = [(t, token) for t, token in enumerate(text) if token not in silent]
    runs: list[tuple[int, list[int]]] = []
    last = -gap
    for t, token in spoken:
        if t - last >= gap:
            runs.append((t, []))
        runs[-1][1].append(token)
        last = t
    return [(t, duplex.pieces.decode(tokens).strip()) for t, tokens in runs]


def draw(sound: NDArray, sample_rate: int, spoken: list[tuple[float, str]], path: Path) -> None:
    """A picture of both channels, the model above.

    Args:
        sound: [2, samples].
        sample_rate: Hz.
        spoken: (start in seconds, words) of the model.
        path: of the PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 4), layout="constrained")
    FigureCanvasAgg(figure)
    step = sample_rate // 50
    for place, (channel, name) in enumerate(zip(sound, ("model", "user"))):
        axes = figure.add_subplot(2, 1, place + 1)
        whole = channel[: len(channel) // step * step].reshape(-1, step)
        loud = np.abs(whole).max(1)
        axes.fill_between(np.arange(len(loud)) * step / sample_rate, -loud, loud, linewidth=0)
        axes.set(ylabel=name, yticks=[], xlim=(0, len(channel) / sample_rate))
    for start, words in spoken:
        figure.axes[0].text(start, 0.98, words[:60], fontsize=6, rotation=20, va="top")
    if spoken:
        figure.axes[0].set_ylim(-1, 1)
    figure.axes[1].set_xlabel("seconds")
    figure.savefig(path, dpi=90)
