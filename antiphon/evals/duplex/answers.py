"""Whether an assistant answers as well in full duplex as in half duplex: the same easy questions, spoken, in both.

In full duplex a question is heard in a dialogue, like any other: what is answered too soon, broken off or never said
counts as it comes out.
"""

from __future__ import annotations

import numpy as np

from antiphon.data.dialogue.format import USER, Event
from antiphon.data.dialogue.phrases import RATE
from antiphon.errors import EvalError
from antiphon.evals.assistant.answers import share
from antiphon.evals.assistant.material import Clip, spoken
from antiphon.evals.duplex.evaluation import DuplexEvaluation, hold
from antiphon.evals.duplex.simulate import Scenario
from antiphon.evals.harness import rows_of
from antiphon.evals.metrics.answers import is_right, read_questions
from antiphon.evals.report import Figure
from antiphon.evals.rows import spread

FIGURES = ("easy-answers-right-duplex", "reply-fits")
BEFORE_SECONDS = 0.5  # of silence before a question


def easy(evaluation: DuplexEvaluation, n: int) -> list[Figure]:
    """The share of easy questions that are answered right in full duplex (reference: in half duplex), and that share
    over the reference's.

    Raises:
        EvalError: the model takes its turns by itself, and knows no half duplex with which to compare.
    """
    model = evaluation.model
    if not hasattr(model, "backend"):
        raise EvalError(f"{evaluation.config.model} has no half duplex of its own; measure a model that takes turns.")
    asked = spread(read_questions(), n)
    clips = spoken([row.question for row in asked], evaluation.cached("easy-questions"))
    half = evaluation.each("half duplex", clips, lambda clip: model.think(model.hear(clip.audio)))
    scenarios = [scenario(f"easy-{number:03d}", clip) for number, clip in enumerate(clips)]
    said = {}
    for dialogue in hold(model, scenarios, evaluation.config):
        said[dialogue.scenario.id] = " ".join(word.text for word in dialogue.words)
    full = [said[each.id] for each in scenarios]
    right, half_right = (
        [is_right(reply, row.accept, row.question) for reply, row in zip(replies, asked, strict=True)]
        for replies in (full, half)
    )
    columns = {"question": [row.question for row in asked], "reply": full, "right": right}
    evaluation.save_items("easy-duplex", rows_of(columns | {"half": half, "half_right": half_right}))
    ratio = share(right) / share(half_right) if any(half_right) else 0.0
    return [
        Figure("easy-answers-right-duplex", share(right), "share", None, share(half_right), len(asked)),
        Figure("reply-fits", ratio, "full over half duplex", ">= 0.97", 1.0, len(asked)),
    ]


def scenario(identity: str, clip: Clip) -> Scenario:
    """A dialogue in which a question is asked, after a moment of silence."""
    samples = clip.audio.mono().resample(RATE).samples.numpy()
    user = np.concatenate([np.zeros(round(BEFORE_SECONDS * RATE), np.float32), samples])
    turn = Event("turn", BEFORE_SECONDS, len(user) / RATE, USER)
    return Scenario(identity, "turn", user, (turn,), RATE, texts=(clip.text,), voice=clip.voice)
