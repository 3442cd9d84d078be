"""The packed thinker beside float32: logits compared, choices by likelihood, answers generated in batches."""

import gzip
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from antiphon.errors import DataError
from antiphon.evals.assistant import packed
from antiphon.evals.assistant.evaluation import AssistantConfig
from antiphon.evals.assistant.packed import Ours, Reference, compare_logits, likeliest, reference_of, solve
from antiphon.models.llm.thinker import Thinker
from tests.hub.test_convert_gguf import theirs  # noqa: F401
from tests.hub.test_convert_gguf import write as write_gguf
from tests.models.llm.test_thinker import TEMPLATE, make_llm


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("llm")
    make_llm(path, TEMPLATE)
    return path


@pytest.fixture(scope="module")
def thinker(folder: Path) -> Thinker:
    return Thinker.from_pretrained(folder)


def test_logits_are_compared_token_by_token():
    full = torch.log(torch.tensor([[0.5, 0.5], [0.75, 0.25]]))
    ours = torch.cat((torch.log(torch.tensor([[0.25, 0.75], [0.9, 0.1]])), torch.zeros(2, 3)), 1)  # a wider head
    equal, apart = compare_logits(ours, full)
    assert equal == [False, True]
    assert apart == pytest.approx(
        [0.5 * np.log(2) + 0.5 * np.log(2 / 3), 0.75 * np.log(0.75 / 0.9) + 0.25 * np.log(2.5)]
    )
    assert compare_logits(full, full) == ([True, True], [0.0, 0.0])


class Fixed:
    """A language model that always gives the next tokens these chances."""

    def __init__(self, chances):
        self.chances = torch.log(torch.tensor(chances))

    def logits(self, tokens):
        return self.chances.expand(*tokens.shape, -1)


def test_options_are_weighed_per_character():
    side = Fixed([0.1, 0.4, 0.3, 0.2])
    task = {"context": [0, 0], "options": [[1], [2], [1, 1, 1]], "lengths": [3, 3, 30]}
    assert likeliest(side, task) == 2  # three likely tokens for thirty characters
    assert likeliest(side, {**task, "lengths": [3, 3, 3]}) == 0
    assert solve(side, [task, {**task, "lengths": [3, 3, 3]}]) == [2, 0]


def test_both_sides_choose_and_generate_the_same(folder, thinker):
    ours, full = Ours(thinker.model), Reference(folder)
    prompts = [[1, 20, 30, 40], [1, 50], [1, 60, 61, 62, 63, 64, 65]]
    tasks = [{"prompt": prompt, "ends": [2, 7]} for prompt in prompts]
    tasks.insert(1, {"context": [1, 20], "options": [[30, 31], [32]], "lengths": [2, 1]})
    made = solve(ours, tasks)
    assert made == solve(full, tasks)
    assert isinstance(made[1], int) and all(2 not in row and 7 not in row for row in (made[0], *made[2:]))
    # The end may come at once, and rows end when they end.
    first = made[0][0]
    assert ours.generate(prompts, [first], 9) == full.generate(prompts, [first], 9)
    assert ours.generate(prompts, [first], 9)[0] == []


def test_a_gguf_file_is_its_own_reference(tmp_path, theirs):  # noqa: F811
    side = Reference(write_gguf(tmp_path / "model.gguf", theirs))
    tokens = torch.randint(0, theirs.config.vocab_size, (1, 9))
    with torch.inference_mode():
        torch.testing.assert_close(side.logits(tokens), theirs(tokens).logits, atol=1e-5, rtol=1e-5)


def evaluation(
    folder: Path, thinker: Thinker, benchmarks: Path, reference: Path | None = None, cache: Path | None = None
):
    """As much of an `AssistantEvaluation` as these figures need."""
    from antiphon.evals.assistant.evaluation import AssistantEvaluation

    made = AssistantEvaluation(AssistantConfig(benchmarks=benchmarks, reference=reference))
    made.__dict__ |= {"model": SimpleNamespace(thinker=thinker), "thinker_folder": folder}
    made.cached = lambda name: (cache or benchmarks) / name
    return made


def write(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))


def test_figures_of_an_unpacked_thinker_are_those_of_its_reference(folder, thinker, tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "in_fresh_process", lambda work, fields, title: work(fields))
    monkeypatch.setattr(packed, "PIECE_TOKENS", 20)
    monkeypatch.setattr(packed, "GENERATED_TOKENS", 5)
    write(
        tmp_path / "xquad_en/xquad.en.jsonl.gz", [{"context": "A bee."}, {"context": "A bee."}, {"context": "It " * 30}]
    )
    four = {"text": ["red", "blue", "green", "a bee"], "label": ["1", "2", "3", "4"]}
    write(tmp_path / "arc_easy/test.jsonl.gz", [{"question": "Which?", "choices": four, "answerKey": "2"}])
    write(tmp_path / "piqa/validation.jsonl.gz", [{"goal": "Eat.", "sol1": "Bread", "sol2": "Stones.", "label": 0}] * 2)
    write(tmp_path / "gsm8k/test.jsonl.gz", [{"question": "One and one?", "answer": "1+1 #### 1,002"}])
    measured = evaluation(folder, thinker, tmp_path)
    equal, apart = packed.faithful(measured, 2)
    assert (equal.value, equal.n, apart.n) == (1.0, 40, 40) and apart.value == pytest.approx(0.0, abs=1e-5)
    lost, *sets = packed.ability(measured, 2)
    assert lost.value == 0.0 and lost.n == 4
    assert [(f.name, f.n) for f in sets] == [("arc-easy-typed", 1), ("piqa-typed", 2), ("gsm8k-typed", 1)]
    assert all(figure.value == figure.reference for figure in sets)
    # The float32 model's answers are kept: nothing is asked again.
    monkeypatch.setattr(packed, "in_fresh_process", lambda *given: pytest.fail("asked again"))
    assert packed.ability(evaluation(folder, thinker, tmp_path), 2)[0] == lost


def test_what_a_packed_thinker_was_made_from_has_to_be_told(thinker, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"bits": 8}}))
    with pytest.raises(DataError, match="--reference"):
        reference_of(evaluation(tmp_path, thinker, tmp_path))
    assert reference_of(evaluation(tmp_path, thinker, tmp_path, tmp_path / "x.gguf")) == tmp_path / "x.gguf"
