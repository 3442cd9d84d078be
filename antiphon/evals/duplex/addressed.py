"""Who is spoken to? Made sentences, said to an assistant or to somebody else in the room, as the language model tells.

What a `selective` session does with the words alone; how loud they are it takes into account besides.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from antiphon.dialogue.answering import ADDRESSED
from antiphon.errors import EvalError
from antiphon.evals.duplex.evaluation import DuplexEvaluation
from antiphon.evals.report import Figure

SENTENCES = Path(__file__).with_name("addressed.json")
FIGURES = ("addressed-answered", "unaddressed-passed")


def addressed(evaluation: DuplexEvaluation, n: int) -> list[Figure]:
    """The shares of sentences that are answered of those said to an assistant, and passed over of the others.

    Raises:
        EvalError: the model takes its turns by itself.
    """
    backend = getattr(evaluation.model, "backend", None)
    if backend is None:
        raise EvalError(f"{evaluation.config.model} is spoken to all the time; measure a model that takes turns.")
    chat, figures = backend.chat(), []
    sentences = json.loads(SENTENCES.read_text(encoding="utf-8"))
    for name, whom, bar in zip(FIGURES, ("assistant", "somebody else"), (">= 0.95", ">= 0.5")):
        said = sentences[whom][:n]
        found = [(chat.addressed(each) >= ADDRESSED) == (whom == "assistant") for each in said]
        figures.append(Figure(name, statistics.fmean(found), "share", bar, None, len(found)))
    return figures
