"""How likely somebody says something: as if each text were read alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from antiphon.models.llm.likelihood import TAIL, alike, likelier, said_likelihoods
from antiphon.models.llm.thinker import Thinker
from tests.models.llm.test_thinker import TEMPLATE, make_llm


@pytest.fixture(scope="module")
def thinker(tmp_path_factory) -> Thinker:
    folder: Path = tmp_path_factory.mktemp("llm")
    make_llm(folder, TEMPLATE)
    return Thinker.from_pretrained(folder)


@torch.inference_mode()
def alone(thinker: Thinker, text: str) -> float:
    """Of a text behind the assistant's prompt, its end included, read at once without a cache."""
    opening, _ = thinker.template.opening(thinker._system(True, None)[0])
    state = thinker.init_state()
    before = thinker.tokenizer.encode(opening + state.first, add_special_tokens=False).ids
    said = thinker.tokenizer.encode(text, add_special_tokens=False).ids
    hidden = thinker.model(thinker.model.embed(torch.tensor([[*before, *said]])))[0]
    chances = thinker.model.logits(hidden[len(before) - 1 :]).log_softmax(-1)
    ends = chances[-1, sorted(thinker.ends)].logsumexp(0)
    return float(chances[:-1].gather(1, torch.tensor(said)[:, None]).sum() + ends)


def test_differences_are_those_of_texts_read_alone(thinker: Thinker) -> None:
    texts = ["is it what?", "is it Watt", "is it what", "is", "quite another thing"]
    for some in (texts, texts[:3], texts[1:2] + texts[4:]):
        found = said_likelihoods(thinker, some)
        expected = [alone(thinker, text) for text in some]
        for (one, count), other in zip(found, expected):
            assert one - found[0][0] == pytest.approx(other - expected[0], abs=2e-3)
            assert count > 0
    counts = [count for _, count in said_likelihoods(thinker, texts[:3])]
    assert counts[0] - counts[2] == 1  # the question mark


def test_of_what_all_end_with_only_the_first_tokens_are_read(thinker: Thinker, monkeypatch) -> None:
    end = " is quite another thing is it what is it Watt is another thing"
    read, embed = [], thinker.model.embed
    texts = [f"is it {each}{end}" for each in ("what", "Watt")]
    long = said_likelihoods(thinker, texts)
    monkeypatch.setattr(thinker.model, "embed", lambda tokens: (read.append(tokens.numel()), embed(tokens))[1])
    assert said_likelihoods(thinker, texts) == long
    whole = sum(len(thinker.tokenizer.encode(text, add_special_tokens=False).ids) for text in texts)
    assert sum(read) < 0.6 * whole
    kept = [
        thinker.tokenizer.encode(f"{thinker.init_state().first}{text}", add_special_tokens=False).ids for text in texts
    ]
    behind = alike([row[::-1] for row in kept])
    opening, _ = thinker.template.opening(thinker._system(True, None)[0])
    before, chances = thinker.tokenizer.encode(opening, add_special_tokens=False).ids, []
    with torch.inference_mode():
        for row in kept:
            tokens = torch.tensor([*before, *row[: len(row) - behind + TAIL]])
            logs = thinker.model.logits(thinker.model(thinker.model.embed(tokens[None]))[0]).log_softmax(-1)
            chances.append(float(logs[:-1].gather(1, tokens[1:, None]).sum()))
    assert long[0][0] - long[1][0] == pytest.approx(chances[0] - chances[1], abs=2e-3)


def test_a_conversation_under_way_is_not_changed(thinker: Thinker) -> None:
    state = thinker.init_state()
    before = int(state.cache.length)
    said_likelihoods(thinker, ["a", "bc"])
    assert int(thinker.init_state().cache.length) == before == int(state.cache.length)


@torch.inference_mode()
def test_in_a_conversation_it_is_what_is_said_next_and_what_all_begin_with_is_read_once(thinker: Thinker) -> None:
    texts = ["is it what?", "is it Watt", "is it a thing"]
    state = thinker.init_state()
    assert said_likelihoods(thinker, texts, state) == said_likelihoods(thinker, texts)
    thinker.add_message(state, "user", "Watt is it")
    thinker.add_message(state, "assistant", "a thing")
    before, expected = thinker.template.user.before, []
    for text in texts:
        tokens = torch.tensor(thinker.tokenizer.encode(before + text, add_special_tokens=False).ids)
        x = torch.cat([*state.turns, thinker.model.embed(tokens[None])[0]])
        seen = thinker.model(x[None], thinker.init_state().cache)[0, -len(tokens) :]
        chances = thinker.model.logits(seen).log_softmax(-1)
        ends = chances[-1, sorted(thinker.ends)].logsumexp(0)
        expected.append(float(chances[:-1].gather(1, tokens[1:, None]).sum() + ends))
    found = [likely for likely, _ in said_likelihoods(thinker, texts, state)]
    assert [each - found[0] for each in found] == pytest.approx([each - expected[0] for each in expected], abs=2e-3)
    first = [likely for likely, _ in said_likelihoods(thinker, texts)]
    assert abs((first[1] - first[0]) - (found[1] - found[0])) > 1e-3  # what was said before counts
    whole = len(thinker.tokenizer.encode(before + texts[0], add_special_tokens=False).ids)
    assert 0 < thinker.read_draft(state, texts[0]) < whole - 2
    assert said_likelihoods(thinker, texts, state)[0][0] == pytest.approx(found[0], abs=2e-3)


@torch.inference_mode()
def test_while_an_answer_is_made_the_conversation_counts_for_nothing(thinker: Thinker) -> None:
    state = thinker.init_state()
    thinker.add_user(state, "Watt is it")
    texts = ["is it what?", "is it Watt"]
    assert said_likelihoods(thinker, texts, state) == said_likelihoods(thinker, texts)


def test_how_much_likelier_a_text_is_is_the_sum_over_its_own_tokens(thinker):
    def by_hand(beginning: str) -> float:
        tokens = thinker.tokenizer.encode(f"{beginning} the cat").ids
        before = len(thinker.tokenizer.encode(beginning).ids)
        hidden = thinker.model(thinker.model.embed(torch.tensor(tokens))[None], thinker.model.init_cache())[0]
        chances = thinker.model.logits(hidden[None])[0].float().log_softmax(-1)
        return sum(float(chances[at - 1, tokens[at]]) for at in range(before, len(tokens)))

    one, other = "I say", "You may hear"
    with torch.inference_mode():
        wanted = by_hand(one) - by_hand(other)
    assert likelier(thinker, " the cat", one, other) == pytest.approx(wanted, abs=1e-3)
    assert likelier(thinker, " the cat", one, one) == 0.0
