"""Our thinker behind lm-eval's interface, beside lm-eval's own model of the same weights."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("lm_eval")

from antiphon.evals.cache import ResultCache
from antiphon.evals.tables.text.lm import MIN_SHARED, ThinkerLM, batches
from antiphon.models.llm.thinker import Thinker
from tests.models.llm.test_thinker import TEMPLATE, make_llm

WORDS = "the cat sat on a mat and then it went out to sea in a boat".split()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("lm")
    make_llm(path, TEMPLATE)
    return path


@pytest.fixture(scope="module")
def thinker(folder: Path) -> Thinker:
    return Thinker.from_pretrained(folder)


@pytest.fixture(scope="module")
def theirs(folder: Path):
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=1)


def request(*args):
    return SimpleNamespace(args=args, task_name="t")


def questions(count: int) -> list[SimpleNamespace]:
    """Questions of several lengths behind the same two examples, each with several options; some have no context."""
    chance = random.Random(0)
    some = lambda: " ".join(chance.choices(WORDS, k=chance.randint(1, 6)))  # noqa: E731
    shots = f"Q: {some()}\nA: {some()}\n\n"
    found = []
    for number in range(count):
        context = f"{shots if number % 3 else ''}Q: {some()} {number}\nA:"
        found += [request(context, f" {some()}") for _ in range(4)] + [request(context, " A"), request(context, "b")]
    return [*found, request("", "out to sea"), request("a trailing space ", "cat")]


def test_likelihoods_are_lm_evals(thinker, theirs) -> None:
    asked = questions(12)
    ours = ThinkerLM(thinker, "tiny").loglikelihood(asked, disable_tqdm=True)
    expected = theirs.loglikelihood(asked, disable_tqdm=True)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in expected]
    # Sums in another order: what is left is float32's last bit.
    assert [chance for chance, _ in ours] == pytest.approx([chance for chance, _ in expected], rel=2e-6)


def test_what_greedy_decoding_says_is_told(thinker, theirs) -> None:
    asked = [request(f"Q: {word}", letter) for word in WORDS[:8] for letter in map(chr, range(33, 127))]
    ours = [greedy for _, greedy in ThinkerLM(thinker, "tiny").loglikelihood(asked, disable_tqdm=True)]
    assert ours == [greedy for _, greedy in theirs.loglikelihood(asked, disable_tqdm=True)]
    assert 0 < sum(ours) <= 8


def test_whole_texts_are_lm_evals(thinker, theirs, monkeypatch) -> None:
    asked = [request("the cat sat on a mat " * times) for times in (1, 3, 4)]
    monkeypatch.setattr(ThinkerLM, "max_length", 50)  # several windows
    monkeypatch.setattr(theirs, "_max_length", 50)
    ours = ThinkerLM(thinker, "tiny").loglikelihood_rolling(asked, disable_tqdm=True)
    assert ours == pytest.approx(theirs.loglikelihood_rolling(asked, disable_tqdm=True), rel=2e-6)


def test_replies_are_lm_evals(thinker, theirs) -> None:
    asked = [each for each in questions(10) if each.args[0]]
    how = [{"until": ["\n", "e"], "max_gen_toks": 20}, {"until": [], "max_gen_toks": 12, "do_sample": False}]
    asked = [request(each.args[0], how[number % 2]) for number, each in enumerate(asked[::6])]
    ours = ThinkerLM(thinker, "tiny").generate_until(asked, disable_tqdm=True)
    assert ours == theirs.generate_until(asked, disable_tqdm=True)
    assert len(set(ours)) > 2


def test_the_chat_template_is_theirs(thinker, theirs) -> None:
    chat = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Well, "}]
    lm = ThinkerLM(thinker, "tiny")
    assert lm.apply_chat_template(chat[:1]) == theirs.apply_chat_template(chat[:1])
    ours, other = lm.apply_chat_template(chat, False), theirs.apply_chat_template(chat, False)
    assert other.startswith(ours) and not other.removeprefix(ours).strip()


def test_replies_that_are_drawn_depend_on_the_seed_alone(thinker) -> None:
    asked = [request("Q: the cat\nA:", {"temperature": 1.0, "do_sample": True, "max_gen_toks": 12}) for _ in range(3)]
    first = ThinkerLM(thinker, "tiny", seed=1).generate_until(asked, disable_tqdm=True)
    assert len(set(first)) == 3, "equal prompts are drawn each for itself"
    assert ThinkerLM(thinker, "tiny", seed=1).generate_until(asked, disable_tqdm=True) == first
    assert ThinkerLM(thinker, "tiny", seed=9).generate_until(asked, disable_tqdm=True) != first


def test_a_run_that_was_stopped_ends_in_the_same(thinker, tmp_path, monkeypatch) -> None:
    asked = questions(30)
    whole = ThinkerLM(thinker, "tiny").loglikelihood(asked, disable_tqdm=True)
    path, calls = tmp_path / "answers.jsonl", 0
    ThinkerLM(thinker, "tiny", ResultCache(path)).loglikelihood(asked, disable_tqdm=True)
    lines = path.read_bytes()
    path.write_bytes(lines[: len(lines) // 2 + 7])  # in the midst of a batch, and of a line
    import antiphon.evals.tables.text.lm as module

    real = module.continuation_likelihoods

    def counted(*args):
        nonlocal calls
        calls += 1
        return real(*args)

    monkeypatch.setattr(module, "continuation_likelihoods", counted)
    again = ThinkerLM(thinker, "tiny", ResultCache(path)).loglikelihood(asked, disable_tqdm=True)
    assert again == whole, "bit for bit"
    made = calls
    ThinkerLM(thinker, "tiny", ResultCache(path)).loglikelihood(asked, disable_tqdm=True)
    assert made > 0 and calls == made, "what is known isn't asked again"


def test_batches_hold_each_context_once_and_what_they_share() -> None:
    shared = tuple(range(MIN_SHARED + 6))
    contexts = [(*shared, 90 + number) for number in range(5)] + [(7, 8, 9), (7, 8), shared]
    found = batches(contexts, [2] * len(contexts), 6)
    assert sorted(row for batch in found for row in batch.rows) == list(range(len(contexts)))
    for batch in found:
        assert len(batch.rows) <= 3
        assert all(contexts[row][: len(batch.prefix)] == batch.prefix for row in batch.rows)
        assert all(len(contexts[row]) > len(batch.prefix) for row in batch.rows), "something is left to be read"
    assert max(len(batch.prefix) for batch in found) == len(shared) - 1
