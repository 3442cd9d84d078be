"""How likely a language model finds that somebody says something, or that a text goes on in some way."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from antiphon.models.llm.load import Cache, CausalLM
from antiphon.models.llm.thinker import Thinker
from antiphon.models.llm.thinker_state import ThinkerState
from antiphon.nn.cache import join

READ_AT_ONCE = 16  # ways to go on
TAIL = 4  # tokens behind the words in doubt that tell which of them fits; those after them take time and tell little
LOGITS_AT_ONCE = 128  # positions: a vocabulary of 150,000 words takes 77 MB of them


@torch.inference_mode()
def said_likelihoods(
    thinker: Thinker, texts: Sequence[str], state: ThinkerState | None = None
) -> list[tuple[float, int]]:
    """Log probability of each text as what a user says next, and of how many tokens that is; what all of them begin
    with is left out, and what all end with, but for its first tokens.

    Args:
        thinker: the language model, as an assistant; its prompt is read once.
        texts: two or more, whose rows are read together.
        state: of a conversation in which the user speaks: the words that all begin with are read there as a draft, and
            need not be read again. None for what is said first to an assistant.
    """
    fresh, model = state is None, thinker.model
    state = thinker.init_state() if state is None else state
    before = thinker.template.user.before if state.turns else state.first
    rows = [thinker.tokenizer.encode(f"{before}{text}", add_special_tokens=False).ids for text in texts]
    words = texts[0].split()[: alike([text.split() for text in texts])]
    known = thinker.tokenizer.encode(before + " ".join(words), add_special_tokens=False).ids
    while words and alike([known, *rows]) < len(known):  # a word's pieces can depend on what follows it
        known = thinker.tokenizer.encode(before + " ".join(words := words[:-1]), add_special_tokens=False).ids
    thinker.read_draft(state, " ".join(words))
    if state.draft_hidden is None:  # drafts aren't read where there is no room, or an answer isn't over
        return [(0.0, 0)] * len(rows) if fresh else said_likelihoods(thinker, texts)
    rest = [row[len(known) :] for row in rows]
    behind = alike([row[::-1] for row in rest])
    whole = behind <= TAIL  # nothing is left out, so that the text's end is asked for, too
    rest = rest if whole else [row[: len(row) - behind + TAIL] for row in rest]
    read = [torch.tensor(row if whole else row[:-1], dtype=torch.long) for row in rest]
    counts = torch.tensor([len(row) for row in read])
    seen = torch.zeros(len(read), 0, model.width)
    if int(counts.max()):
        caches = join([state.cache.fork() for _ in read])
        seen = model(model.embed(pad_sequence(read, batch_first=True)), caches, None, counts)
    ends, found = sorted(thinker.ends), []
    for row, own, hidden in zip(rest, read, seen):
        chances = model.logits(torch.cat([state.draft_hidden[None], hidden[: len(own)]])).float().log_softmax(-1)
        said = chances[: len(row)].gather(1, torch.tensor(row, dtype=torch.long)[:, None]).sum()
        found.append((float(said + chances[-1, ends].logsumexp(0) if whole else said), len(row) + 1))
    return found


def alike(rows: Sequence[Sequence[int]]) -> int:
    """How many tokens all of them begin with."""
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, zip(*rows)))


@torch.inference_mode()
def likelier(thinker: Thinker, said: str, one: str, other: str) -> float:
    """How much likelier a text is behind one beginning than behind another, for the language model alone: nats."""
    found, model = [], thinker.model
    for beginning in (one, other):
        before, tokens = (
            thinker.tokenizer.encode(text, add_special_tokens=False).ids for text in (beginning, beginning + said)
        )
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(before, tokens)))
        read = model(model.embed(torch.tensor([tokens[:-1]])), model.init_cache())[0, max(0, same - 1) :]
        chances = model.logits(read[None])[0].float().log_softmax(-1)
        found.append(float(chances.gather(1, torch.tensor(tokens[max(1, same) :])[:, None]).sum()))
    return found[0] - found[1]


@torch.inference_mode()
def read_shared(
    model: CausalLM, contexts: Sequence[Sequence[int]], prefix: Sequence[int] = (), read: Cache | None = None
) -> tuple[Cache, Tensor]:
    """Reads contexts together, what they all begin with but once.

    Args:
        model: the language model.
        contexts: token ids of each.
        prefix: what all of them begin with, shorter than any.
        read: a cache of one row that has read the prefix; None reads it.

    Returns:
        A cache with a row for each context, and the last hidden state of each, [contexts, width].
    """
    cache = (read or read_prefix(model, prefix)).fork([0] * len(contexts))
    rest = [torch.tensor(context[len(prefix) :]) for context in contexts]
    counts = torch.tensor([len(row) for row in rest])
    hidden = model(model.embed(pad_sequence(rest, batch_first=True)), cache, None, counts)
    return cache, hidden[torch.arange(len(rest)), counts - 1]


@torch.inference_mode()
def read_prefix(model: CausalLM, prefix: Sequence[int]) -> Cache:
    """A cache of one row that has read these tokens."""
    cache = model.init_cache()
    if len(prefix):
        model(model.embed(torch.tensor([list(prefix)])), cache)
    return cache


@torch.inference_mode()
def continuation_likelihoods(
    model: CausalLM, cache: Cache, hidden: Tensor, continuations: Sequence[Sequence[Sequence[int]]]
) -> list[list[tuple[float, bool]]]:
    """How likely each of several ways to go on is, behind contexts that are read but once.

    Args:
        model: the language model.
        cache, hidden: of the contexts, as `read_shared` gives them.
        continuations: of each context, the token ids of the ways to go on, one token or more each.

    Returns:
        Of each, its log probability, and whether it is what greedy decoding would say.
    """
    first = model.logits(hidden).float().log_softmax(-1)
    found = [[(float(first[row, own[0]]), int(first[row].argmax()) == own[0]) for own in each]
             for row, each in enumerate(continuations)]  # fmt: skip
    longer = [(row, at) for row, each in enumerate(continuations) for at, own in enumerate(each) if len(own) > 1]
    if not longer:
        return found
    longer.sort(key=lambda place: len(continuations[place[0]][place[1]]))
    for start in range(0, len(longer), READ_AT_ONCE):  # of a length, so that little is read in vain
        part = longer[start : start + READ_AT_ONCE]
        tokens = [torch.tensor(continuations[row][at]) for row, at in part]
        counts = torch.tensor([len(own) - 1 for own in tokens])
        seen = model(
            model.embed(pad_sequence([own[:-1] for own in tokens], batch_first=True)),
            cache.fork([row for row, _ in part]), None, counts,
        )  # fmt: skip
        behind = torch.cat([states[:count] for states, count in zip(seen, counts)])
        targets = torch.cat([own[1:] for own in tokens])
        chances, greedy = [], []
        for states, wanted in zip(behind.split(LOGITS_AT_ONCE), targets.split(LOGITS_AT_ONCE)):
            logits = model.logits(states).float()
            chances.append(logits.gather(1, wanted[:, None])[:, 0] - logits.logsumexp(-1))
            greedy.append(logits.argmax(-1) == wanted)
        sizes = counts.tolist()
        for (row, at), chance, same in zip(part, torch.cat(chances).split(sizes), torch.cat(greedy).split(sizes)):
            begun, is_greedy = found[row][at]
            found[row][at] = (begun + float(chance.sum()), is_greedy and bool(same.all()))
    return found
