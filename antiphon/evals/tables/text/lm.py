"""Our thinker behind lm-eval's interface (`lm_eval.api.model.LM`), so that lm-eval's tasks can ask it.

    lm = ThinkerLM(model.thinker, "base 1a2b3c", ResultCache(Path("answers.jsonl")))
    lm_eval.simple_evaluate(lm, tasks=["arc_easy"])

Requests that begin alike are read once as far as they are alike: the examples before a question once for all
questions, a question once for all its options. What a batch gave is kept, and a batch is always made of the same
requests, whatever of it is known already: a run that was stopped ends in what one without a stop would give.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from antiphon.errors import ModelError
from antiphon.evals.cache import NotOurs, ResultCache, key_of
from antiphon.models.llm.likelihood import continuation_likelihoods, read_prefix, read_shared
from antiphon.models.llm.load import Cache
from antiphon.models.llm.sampling import TokenSampling, sample_rows
from antiphon.models.llm.thinker import Thinker

MIN_SHARED = 24  # tokens that requests begin with alike, from which on they are read once
ROWS = 32  # ways to go on that are read together
LENGTHS = 0.5  # of the longest context beside it, which one has to have: the shorter take as much room
REPLIES = 8  # that are written together
MAX_TOKENS = 256  # of a reply where a task says nothing, as lm-eval has it
TAIL = 16  # tokens at the end of a reply in which a stop is looked for, beside the stop's own

Scored = tuple[Any, list[int], list[int]]  # texts, context, continuation


@dataclass(frozen=True)
class _Batch:
    """Contexts that are read together, by their numbers, and what all of them begin with."""

    prefix: tuple[int, ...]
    rows: tuple[int, ...]


class ThinkerLM(TemplateLM):
    """A thinker that lm-eval can ask.

    Args:
        thinker: whose language model is asked, without adapters.
        name: of these very weights; what is kept is kept under it.
        cache: of what was asked before.
        max_tokens: at most, of a reply; None leaves that to the tasks.
        seed: of replies that are drawn.
    """

    def __init__(
        self,
        thinker: Thinker,
        name: str,
        cache: ResultCache | None = None,
        max_tokens: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.thinker, self.model, self.tokenizer = thinker, thinker.model, thinker.tokenizer
        self.name, self.cache, self.max_tokens, self.seed = name, cache or ResultCache(), max_tokens, seed
        self._device = torch.device("cpu")
        tokens = thinker.template.tokens
        self._end = self.tokenizer.token_to_id(tokens["eos_token"])
        if self._end is None:
            self._end = min(thinker.ends)
        first = self.tokenizer.token_to_id(tokens["bos_token"]) if tokens["bos_token"] else None
        self._first = self._end if first is None else first

    # What lm-eval asks of a tokenizer and a chat template.

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return self._end

    @property
    def prefix_token_id(self) -> int:
        """What a text without context is read behind."""
        return self._first

    @property
    def tokenizer_name(self) -> str:
        """Under which lm-eval keeps requests."""
        return self.name.replace("/", "__")

    @property
    def max_length(self) -> int:
        """Tokens that are read, at most."""
        return self.model.context

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Token ids; with what the tokenizer puts before a text, unless the text has it already."""
        if add_special_tokens is None:
            add_special_tokens = not string.startswith(self.tokenizer.decode([self._first], skip_special_tokens=False))
        return self.tokenizer.encode(string, add_special_tokens=add_special_tokens).ids

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation as the model's template writes it."""
        return self.thinker.template.conversation(chat_history, reply=add_generation_prompt)

    def chat_template(self, chat_template: bool | str = False) -> str:
        """The template itself."""
        return self.thinker.template.source if chat_template else ""

    # Likelihoods.

    def _loglikelihood_tokens(
        self, requests: list[Scored], disable_tqdm: bool = False, **_: Any
    ) -> list[tuple[float, bool]]:
        """Log probability of each continuation, and whether it is what greedy decoding says; what is too long loses
        its beginning, as in lm-eval's own models."""
        groups: dict[tuple[int, ...], list[int]] = {}
        for number, (_, context, continuation) in enumerate(requests):
            room = self.max_length + 1 - len(continuation)
            if room < 1:
                raise ModelError(f"A way to go on of {len(continuation)} tokens is more than the model reads.")
            groups.setdefault(tuple(context[-room:]), []).append(number)
        contexts, found = list(groups), [(0.0, False)] * len(requests)
        sizes = [len(groups[context]) for context in contexts]
        with tqdm(total=len(requests), disable=disable_tqdm, desc="  likelihoods", file=sys.stderr, leave=False) as bar:
            for batch, read in self._read_in_batches(contexts, sizes, ROWS, LENGTHS):
                own = [contexts[row] for row in batch.rows]
                numbers = [groups[context] for context in own]
                ways = [[requests[number][2] for number in each] for each in numbers]
                keys = [self._key("likelihood", context, way) for context, each in zip(own, ways) for way in each]

                def compute(wanted: list[int], own=own, ways=ways, batch=batch, read=read) -> list[Any]:
                    cache, hidden = read_shared(self.model, own, batch.prefix, read())
                    scored = continuation_likelihoods(self.model, cache, hidden, ways)
                    flat = [one for each in scored for one in each]
                    return [flat[at] for at in wanted]

                try:
                    values = self.cache.get(keys, compute, len(keys))
                except NotOurs:
                    values = [(0.0, False)] * len(keys)
                for number, (chance, greedy) in zip((n for each in numbers for n in each), values, strict=True):
                    found[number] = (chance, greedy)
                bar.update(len(values))
        return found

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Log probability of whole texts, in windows of what the model reads."""
        windows, counts = [], []
        for request in requests:
            (text,) = request.args
            own = get_rolling_token_windows(
                token_list=self.tok_encode(text), prefix_token=self._first, max_seq_len=self.max_length, context_len=1
            )
            own = [(None, *make_disjoint_window(pair)) for pair in own]
            windows += own
            counts.append(len(own))
        scored = iter(self._loglikelihood_tokens(windows, disable_tqdm))
        return [sum(next(scored)[0] for _ in range(count)) for count in counts]

    # Replies.

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Goes on writing until one of the stops, or the end of the text, or as many tokens as the task allows."""
        replies = [""] * len(requests)
        kinds: dict[str, list[int]] = {}
        for number, request in enumerate(requests):
            kinds.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(number)
        with tqdm(total=len(requests), disable=disable_tqdm, desc="  replies", file=sys.stderr, leave=False) as bar:
            for kind, numbers in kinds.items():
                how = normalize_gen_kwargs(json.loads(kind), MAX_TOKENS)
                limit = min(how["max_gen_toks"], self.max_tokens or how["max_gen_toks"])
                until = how.get("until") or []
                stops = [*([until] if isinstance(until, str) else until)]
                contexts = [
                    tuple(self.tok_encode(requests[number].args[0])[-(self.max_length - limit) :]) for number in numbers
                ]
                for batch, read in self._read_in_batches(contexts, [1] * len(contexts), REPLIES):
                    own = [contexts[row] for row in batch.rows]
                    drawn = TokenSampling(how.get("temperature") or 0.0, how.get("top_k") or 0, how.get("top_p") or 1.0)
                    setting = f"{stops} {limit} {drawn}"
                    # Of equal prompts each is drawn for itself.
                    seeds = [self.seed + numbers[row] if drawn.temperature else 0 for row in batch.rows]
                    keys = [self._key(f"reply {setting} {seed}", context) for seed, context in zip(seeds, own)]

                    def compute(
                        wanted, own=own, batch=batch, read=read, stops=stops, limit=limit, drawn=drawn, seeds=seeds
                    ):
                        samplings = [replace(drawn, seed=seed) for seed in seeds]
                        cache, hidden = read_shared(self.model, own, batch.prefix, read())
                        written = self._write(cache, hidden, samplings, stops, limit)
                        return [written[at] for at in wanted]

                    try:
                        written = self.cache.get(keys, compute, len(keys))
                    except NotOurs:
                        written = [""] * len(keys)
                    for row, reply in zip(batch.rows, written, strict=True):
                        replies[numbers[row]] = reply
                    bar.update(len(own))
        return replies

    @torch.inference_mode()
    def _write(
        self, cache: Cache, hidden: torch.Tensor, samplings: Sequence[TokenSampling], stops: Sequence[str], limit: int
    ) -> list[str]:
        """Replies to contexts that were read; each is the same whatever stands beside it."""
        said: list[list[int]] = [[] for _ in samplings]
        going = list(range(len(samplings)))
        window = TAIL + max((len(self.tokenizer.encode(s, add_special_tokens=False).ids) for s in stops), default=0)
        for position in range(limit):
            chosen = sample_rows(
                self.model.logits(hidden), [samplings[row] for row in going], [position] * len(going),
                [said[row] for row in going],
            )  # fmt: skip
            kept = []
            for at, (row, token) in enumerate(zip(going, chosen)):
                if token in self.thinker.ends or token == self._end:
                    continue
                said[row].append(token)
                tail = self._decoded(said[row][-window:])
                if not any(stop in tail for stop in stops if stop):
                    kept.append(at)
            if not kept or position == limit - 1:
                break
            if len(kept) < len(going):
                cache = cache.fork(kept)  # those that are done aren't read any further
            going = [going[at] for at in kept]
            x = self.model.embed(torch.tensor([[said[row][-1]] for row in going]))
            hidden = self.model(x, cache)[:, 0]
        return [postprocess_generated_text(self._decoded(tokens), list(stops), None) for tokens in said]

    def _decoded(self, tokens: list[int]) -> str:
        return self.tokenizer.decode(tokens, skip_special_tokens=True)

    # Batches.

    def _read_in_batches(
        self, contexts: Sequence[tuple[int, ...]], sizes: Sequence[int], most: int, shortest: float = 0.0
    ) -> Iterator[tuple[_Batch, Any]]:
        """Batches, and for each a function that gives the cache of its prefix, which is read when it is first wanted
        and once for all batches that follow one another with the same."""
        known: dict[tuple[int, ...], Cache] = {}

        def read(prefix: tuple[int, ...]) -> Cache:
            if prefix not in known:
                known.clear()
                known[prefix] = read_prefix(self.model, prefix)
            return known[prefix]

        for batch in batches(contexts, sizes, most, shortest):
            yield batch, lambda prefix=batch.prefix: read(prefix)

    def _key(self, kind: str, *tokens: Sequence[int]) -> str:
        return key_of(self.name, kind, *(" ".join(map(str, each)) for each in tokens))


def batches(
    contexts: Sequence[tuple[int, ...]], sizes: Sequence[int], most: int, shortest: float = 0.0
) -> list[_Batch]:
    """Which contexts are read together: those that begin alike first, of these such as are of a length.

    Args:
        contexts: token ids, all different or not.
        sizes: rows that each needs.
        most: rows of a batch, but for a single context that needs more.
        shortest: of what is read of the longest of a batch, the share that the shortest must have.
    """
    order = sorted(range(len(contexts)), key=lambda row: (contexts[row], row))
    families: list[list[int]] = []
    alone: list[int] = []
    at = 0
    while at < len(order):
        end = at + 1
        while end < len(order) and _alike(contexts[order[at]], contexts[order[end]]) >= MIN_SHARED:
            end += 1
        if end - at > 1:
            families.append(order[at:end])
        else:
            alone.append(order[at])
        at = end
    found = []
    for family in [*families, alone]:
        if not family:
            continue
        prefix: tuple[int, ...] = ()
        if family is not alone:
            first = contexts[family[0]]
            same = min(_alike(first, contexts[row]) for row in family)
            prefix = first[: min(same, *(len(contexts[row]) - 1 for row in family))]
        rows: list[int] = []
        for row in sorted(family, key=lambda row: (-len(contexts[row]), row)):
            length = len(contexts[row]) - len(prefix)
            full = sum(sizes[each] for each in rows) + sizes[row] > most
            if rows and (full or length < shortest * (len(contexts[rows[0]]) - len(prefix))):
                found.append(_Batch(prefix, tuple(rows)))
                rows = []
            rows.append(row)
        found.append(_Batch(prefix, tuple(rows)))
    return found


def _alike(first: Sequence[int], second: Sequence[int]) -> int:
    """Tokens that two begin with alike."""
    for at, (one, other) in enumerate(zip(first, second)):
        if one != other:
            return at
    return min(len(first), len(second))
