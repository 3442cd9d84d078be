"""What a thinker answers to a question, several times over, and questions of which it is known what is right."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import numpy as np

from antiphon.data.preferences.mine import Drawn, Prompt, seed_of
from antiphon.data.text.corpora import normalise, text_id
from antiphon.data.text.facts import Fact, read_facts
from antiphon.data.text.facts.made import spoken
from antiphon.models.llm.sampling import TokenSampling
from antiphon.models.llm.thinker import Thinker


class ReplyDraws:
    """Answers of a thinker to questions: see `antiphon.data.preferences.mine.Draw`.

    Args:
        thinker: answers.
        temperature, top_p: of every sample.
        max_tokens: of a reply; one that gets this long has no end.
        voice: with its adapters.
        seed: of all samples.
    """

    def __init__(
        self, thinker: Thinker, temperature: float = 0.8, top_p: float = 1.0, max_tokens: int = 32, voice: bool = True,
        seed: int = 0,
    ):  # fmt: skip
        self.thinker, self.temperature, self.top_p, self.seed = thinker, temperature, top_p, seed
        self.max_tokens, self.voice = max_tokens, voice
        self.end = min(thinker.ends)

    def __call__(self, prompts: Sequence[Prompt], samples: int) -> list[list[Drawn]]:
        states, samplings = [], []
        for prompt in prompts:
            state = self.thinker.init_state(self.voice)
            state.guarded = False  # a reply that goes round in circles is one to learn from
            self.thinker.add_user(state, prompt.text)
            for number in range(samples):
                states.append(state.fork())
                samplings.append(
                    TokenSampling(self.temperature, top_p=self.top_p, seed=seed_of(prompt, number, self.seed))
                )
        said: list[list[int]] = [[] for _ in states]
        texts = [""] * len(states)
        for tokens in self.thinker.stream_many(states, self.max_tokens, samplings):
            for row, token in tokens.items():
                said[row].append(token.token)
                texts[row] += token.text
        answers: list[list[Drawn]] = []
        for at, prompt in enumerate(prompts):
            about = {"tokens": self.thinker.prompt(prompt.text, self.voice)}
            rows = range(at * samples, (at + 1) * samples)
            whole = ([*said[row], self.end] if len(said[row]) < self.max_tokens else said[row] for row in rows)
            answers.append(
                [
                    Drawn(np.array([tokens]), texts[row].strip(), about=about)
                    for row, tokens in zip(rows, whole)
                    if tokens
                ]
            )
        return answers


def fact_questions(left_out: Sequence[str] = (), seed: int = 0) -> list[Prompt]:
    """A question about each of the facts that ship, in random order; `about["accept"]` holds what answers it: the words
    of the usual reply that are neither in the question nor in most replies to questions of its kind.

    Args:
        left_out: questions that are kept for measuring.
        seed: of the order and the wordings.
    """
    rng, kept = random.Random(f"{seed}/preferences"), {normalise(text) for text in left_out}
    numbers = {word for number in range(1001) for word in normalise(spoken(number)).split()}
    kinds: dict[str, list[Fact]] = {}
    for fact in read_facts():
        kinds.setdefault(fact.kind, []).append(fact)
    prompts = {}
    for facts in kinds.values():
        replies = [normalise(fact.replies[0]).split() for fact in facts]
        counts = Counter(word for reply in replies for word in set(reply))
        for fact, reply in zip(facts, replies):
            question = rng.choice(fact.questions)
            asked = set(normalise(question).split())
            new = [at for at, word in enumerate(reply) if word not in asked and 2 * counts[word] <= len(facts)]
            if not new or normalise(question) in kept:
                continue
            first, last = new[0], new[-1]
            while first and {reply[first - 1], reply[first]} <= numbers:  # "twenty-five" whole
                first -= 1
            while last + 1 < len(reply) and {reply[last], reply[last + 1]} <= numbers:
                last += 1
            if last - first < 4:
                answer = " ".join(reply[first : last + 1])
                prompts[text_id(question)] = Prompt(text_id(question), question, {"accept": [answer]})
    order = list(prompts.values())
    rng.shuffle(order)
    return order
