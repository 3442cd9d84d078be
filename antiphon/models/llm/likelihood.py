"""How likely a language model finds that somebody says something."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import torch
from torch.nn.utils.rnn import pad_sequence

from antiphon.models.llm.thinker import Thinker
from antiphon.nn.cache import join


@torch.inference_mode()
def said_likelihoods(thinker: Thinker, texts: Sequence[str]) -> list[tuple[float, int]]:
    """Log probability of each text as all that a user says first to an assistant, and of how many tokens that is; the
    tokens that all of them begin with are left out.

    Args:
        thinker: the language model, as an assistant; its prompt is read once.
        texts: two or more, whose rows are read together.
    """
    state, model = thinker.init_state(), thinker.model
    rows = [thinker.tokenizer.encode(f"{state.first}{text}", add_special_tokens=False).ids for text in texts]
    alike = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*rows)))
    same = max(1, min(alike, *(len(row) - 1 for row in rows)))
    cache = state.cache
    if same > 1:
        model(model.embed(torch.tensor([rows[0][: same - 1]])), cache)
    caches = join([cache, *(cache.fork() for _ in rows[1:])])
    rest = [torch.tensor(row[same - 1 :]) for row in rows]
    counts = torch.tensor([len(row) for row in rest])
    hidden = model(model.embed(pad_sequence(rest, batch_first=True)), caches, None, counts)
    ends, found = sorted(thinker.ends), []
    for row, seen in zip(rest, hidden):
        chances = model.logits(seen[: len(row)]).float().log_softmax(-1)
        said = chances[:-1].gather(1, row[1:, None]).sum()
        found.append((float(said + chances[-1, ends].logsumexp(0)), len(row)))
    return found
