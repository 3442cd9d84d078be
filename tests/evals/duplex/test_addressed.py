"""Who is spoken to: the figures of a language model that tells, and of one that can't be asked."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from antiphon.errors import EvalError
from antiphon.evals.duplex.addressed import SENTENCES, addressed


class Chat:
    """Finds that everybody speaks to it but who says "honey"."""

    def chat(self) -> Chat:
        return self

    def addressed(self, said: str) -> float:
        return -5.0 if "honey" in said.lower() else 5.0


def test_the_shares_are_of_each_kind_of_sentence():
    evaluation = SimpleNamespace(model=SimpleNamespace(backend=Chat()), config=SimpleNamespace(model="mini"))
    answered, passed = addressed(evaluation, 100)
    others = json.loads(SENTENCES.read_text(encoding="utf-8"))["somebody else"]
    assert (answered.value, answered.n) == (1.0, 24) and passed.value == 1 / len(others)


def test_a_model_with_turns_of_its_own_is_not_asked():
    evaluation = SimpleNamespace(model=SimpleNamespace(), config=SimpleNamespace(model="mini-duplex"))
    with pytest.raises(EvalError, match="mini-duplex"):
        addressed(evaluation, 5)
