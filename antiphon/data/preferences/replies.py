"""What a thinker answers to a question, several times over, and questions of which it is known what is right."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from antiphon.data.preferences.mine import Drawn, Prompt, seed_of
from antiphon.data.text.corpora import normalise, text_id
from antiphon.data.text.facts import read_facts
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
    of the usual reply that aren't in the question.

    Args:
        left_out: questions that are kept for measuring.
        seed: of the order and the wordings.
    """
    rng, kept = random.Random(f"{seed}/preferences"), {normalise(text) for text in left_out}
    prompts = []
    for fact in read_facts():
        question = rng.choice(fact.questions)
        asked = set(normalise(question).split())
        answer = [word for word in normalise(fact.replies[0]).split() if word not in asked]
        if answer and len(answer) <= 3 and normalise(question) not in kept:
            prompts.append(Prompt(text_id(question), question, {"accept": answer}))
    rng.shuffle(prompts)
    return list({prompt.id: prompt for prompt in prompts}.values())
