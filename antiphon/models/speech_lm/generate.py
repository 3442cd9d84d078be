"""A speech language model goes on from what it is given, many rows at once, each with chance of its own.

rows = generate(model, [prompt(item, model, ("T",)) for item in items], 60)     # what is said in each
undo(rows[0], model)                                                            # its parts
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from antiphon.models.llm.sampling import TokenSampling, sample, uniforms
from antiphon.models.speech_lm.model import SpeechLM
from antiphon.models.speech_lm.vocabulary import NOTHING


@torch.inference_mode()
def generate(
    model: SpeechLM,
    prompts: Sequence[NDArray[np.int64]],
    max_tokens: int,
    sampling: TokenSampling = TokenSampling(),
    stop: Sequence[str] = ("E",),
) -> list[NDArray[np.int64]]:
    """What follows each prompt.

    Args:
        model: in evaluation mode.
        prompts: ids [length], or grids [codebooks, length], of any lengths.
        max_tokens: columns, at most.
        sampling: how tokens are drawn; `repetition` isn't heeded, as units repeat. Row i has the chance of seed + i.
        stop: tags that end a row; the tag is left out.

    Returns:
        As `prompts`, without what was given; of a grid with the columns in which the other streams end.
    """
    vocabulary, streams = model.vocabulary, model.vocabulary.codebooks
    stops = torch.tensor([vocabulary.tag(name) for name in stop])
    grids = [torch.from_numpy(np.atleast_2d(each)) for each in prompts]
    counts = torch.tensor([grid.shape[1] for grid in grids])
    given = torch.zeros(len(grids), streams, int(counts.max()), dtype=torch.long)
    for row, grid in enumerate(grids):
        given[row, :, : grid.shape[1]] = grid
    device = next(model.parameters()).device  # what decides about rows stays on the CPU
    cache = model.lm.init_cache(len(grids), given.shape[-1] + max_tokens)
    rows = torch.arange(len(grids))
    read = (given if streams > 1 else given[:, 0]).to(device)
    hidden = model.lm(model.embed(read), cache, counts=counts.to(device))[rows, counts - 1]
    in_text = vocabulary.in_text(given[:, 0])[rows, counts - 1]
    behind = [[int(token) for token in grid[0].flip(0)[:streams]] for grid in grids]  # the last of each first stream
    made: list[list[torch.Tensor]] = [[] for _ in grids]
    ended = torch.zeros(len(grids), dtype=torch.bool)
    for step in range(max_tokens + streams - 1):
        # Another stream has a unit where the first had one, as many columns before as it lags behind.
        runs_on = torch.tensor(
            [[len(last) >= lag and vocabulary.is_unit(last[lag - 1]) for lag in range(1, streams)] for last in behind]
        ).view(len(grids), streams - 1)
        quiet = ended | (runs_on.any(-1) & torch.tensor([not vocabulary.is_unit(last[0]) for last in behind]))
        if bool((ended & ~runs_on.any(-1)).all()) or (step >= max_tokens and not bool(runs_on.any())):
            break
        chance = uniforms(torch.arange(len(grids)) + sampling.seed, torch.full((len(grids),), step), streams)
        drawn = torch.full((len(grids), streams), NOTHING)
        for stream in range(streams):
            for text in (False, True) if stream == 0 else (False,):
                here = (in_text == text) & ~quiet if stream == 0 else runs_on[:, stream - 1]
                if bool(here.any()):
                    drawn[here, stream] = _drawn(model, hidden[here], chance[here, stream], stream, text, sampling)
        if step >= max_tokens:
            drawn[:, 0] = NOTHING
        for row, column in enumerate(drawn.clone()):
            stopped = bool((stops == column[0]).any())
            ended[row] |= stopped
            column[0] = NOTHING if stopped else column[0]
            if bool((column != NOTHING).any()) or not (stopped or ended[row]):
                made[row].append(column)
            behind[row] = [int(drawn[row, 0]), *behind[row][: streams - 1]]
        in_text = torch.where(drawn[:, 0] == NOTHING, in_text, vocabulary.in_text(drawn[:, :1])[:, 0])
        read = (drawn[..., None] if streams > 1 else drawn.clamp_min(0)).to(device)
        hidden = model.lm(model.embed(read), cache)[:, 0]
    empty = np.zeros((streams, 0), np.int64)
    found = [torch.stack(row, 1).numpy() if row else empty for row in made]
    return found if streams > 1 else [grid[0] for grid in found]


def _drawn(
    model: SpeechLM, hidden: torch.Tensor, chance: torch.Tensor, stream: int, in_text: bool, sampling: TokenSampling
) -> torch.Tensor:
    logits = model.logits(hidden, stream, in_text)
    ids = sample(logits.cpu(), chance, sampling.temperature, sampling.top_k, sampling.top_p)
    return ids + model.vocabulary.head(stream, in_text).start
