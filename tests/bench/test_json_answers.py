"""The bench of answers in JSON: what is asked, what counts as valid; and once, tiny, for real."""

from pathlib import Path

import pytest

from antiphon.bench import json_answers
from antiphon.bench.json_answers import SCHEMAS, SUBJECTS, JsonBenchConfig, bench_json, fits, questions, work
from antiphon.models.llm.grammar import is_installed
from tests.models.llm.test_thinker import TEMPLATE, make_llm


def test_every_schema_is_asked_for_with_every_subject():
    asked = questions(200)
    assert len({(text, str(schema)) for text, schema in asked}) == len(SCHEMAS) * len(SUBJECTS) == 200
    assert len({str(schema) for _, schema in questions(20)}) == 20


def test_what_fits():
    assert fits('{"name": "Ann", "age": 3}', SCHEMAS[0])
    assert not fits('{"name": "Ann", "age": 3.5}', SCHEMAS[0]) and not fits('{"name": "Ann"', SCHEMAS[0])


def test_figures_are_the_share_that_fits_and_the_median_of_ratios(monkeypatch):
    found = {"asked": 50, "valid": 49, "invalid": ["{"], "ratios": [1.0, 1.1, 3.0], "held_ms": 11.0, "free_ms": 10.0}
    monkeypatch.setattr(json_answers, "in_fresh_process", lambda *_: found)
    told = []
    valid, slowdown = bench_json(JsonBenchConfig(prompts=50), told.append).figures
    assert (valid.value, valid.n, valid.met) == (98.0, 50, False) and "not valid: {" in told
    assert (slowdown.value, slowdown.n, slowdown.met) == (1.1, 3, True)


@pytest.mark.skipif(not is_installed(), reason="could not import 'llguidance'")
def test_a_tiny_model_answers_in_json(tmp_path: Path):
    make_llm(tmp_path, TEMPLATE)
    fields = {"places": [str(tmp_path), None], "prompts": 4, "timed": 1, "max_tokens": 90, "rows": 2, "threads": 1}
    found = work(fields)
    assert (found["asked"], found["valid"], found["invalid"]) == (4, 4, []) and len(found["ratios"]) <= 1
