"""Preferences of the thinker: what is compared is the reply alone, and the adapters learn it."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from antiphon.data.preferences.mine import MineConfig, Prompt, mine
from antiphon.data.preferences.pairs import PairConfig, write_pairs
from antiphon.data.preferences.replies import ReplyDraws, fact_questions
from antiphon.data.preferences.samples import SampleSet
from antiphon.models.llm.thinker import Thinker
from antiphon.models.lora import Lora, LoraConfig
from antiphon.train.config import StageConfig
from antiphon.train.engine import build_task
from tests.train.llm.test_instruct import llm  # noqa: F401
from tests.train.tiny import run_recipe

QUESTIONS = [Prompt(str(i), text) for i, text in enumerate(("What is one?", "Who?", "Where is the sea, then?"))]


def first_token(prompts, answers):
    """A made-up measure, so that every prompt makes a pair."""
    return [{"first": float(answer.array[0, 0])} for answer in answers]


@pytest.fixture(scope="module")
def pairs(llm, tmp_path_factory):  # noqa: F811
    """What a tiny thinker answers when it is hot enough to say more than one token."""
    path = tmp_path_factory.mktemp("replies")
    thinker = Thinker.from_pretrained(llm)
    draws = ReplyDraws(thinker, temperature=30.0, max_tokens=12, voice=False)
    mine(QUESTIONS, draws, [first_token], MineConfig(path, samples=3, batch=2))
    write_pairs(path, PairConfig({"first": 1.0}, margin=0.5))
    return path


def build(llm, pairs, out, **data):  # noqa: F811
    model = {"llm": str(llm), "rank": 4, "alpha": 8.0, "first": 1}
    return build_task(
        StageConfig(
            task="antiphon.train.llm.preference:ReplyPreferenceTask", steps=1, batch=2, out=str(out), model=model,
            data={"pairs": str(pairs), "held_out": 1, **data},
        )
    )  # fmt: skip


def test_a_replys_log_probability_is_that_of_its_tokens_alone(llm, pairs, tmp_path):  # noqa: F811
    task = build(llm, pairs, tmp_path)
    pair = task.pairs[0]
    prompt = pair.about["tokens"]
    for side, ours in zip((pair.chosen, pair.rejected), task.answers(task.rows([0]))[0].tolist()):
        whole = torch.tensor([[*prompt, *side[0].tolist()]])
        logits = task.base.logits(task.base(task.base.embed(whole)))[0]
        logs = F.log_softmax(logits[len(prompt) - 1 : -1], -1)
        slow = logs.gather(1, whole[0, len(prompt) :, None]).sum()
        assert ours == pytest.approx(float(slow), abs=1e-3)  # fresh adapters change nothing
    assert task.answers(task.rows([0]))[1].tolist() == [pair.chosen.size, pair.rejected.size]


def test_the_prompt_is_what_the_thinker_read(llm):  # noqa: F811
    thinker = Thinker.from_pretrained(llm)
    state = thinker.init_state(voice=False)
    thinker.add_user(state, "Who is there?")
    tokens = torch.tensor([thinker.prompt("Who is there?", voice=False)])
    hidden = thinker.model(thinker.model.embed(tokens))[0, -1]
    torch.testing.assert_close(hidden, state.hidden, atol=1e-4, rtol=1e-4)


def test_a_reply_ends_with_its_end_unless_it_was_cut(llm, pairs):  # noqa: F811
    ends = Thinker.from_pretrained(llm).ends
    samples = SampleSet(pairs)
    assert len(samples) == 9
    for index in range(len(samples)):
        tokens = samples.drawn(index)[0].tolist()
        assert (tokens[-1] in ends) == (len(tokens) < 12 or tokens[-1] in ends) and len(tokens) <= 12
        assert not ends & set(tokens[:-1])


def test_training_tells_the_sides_apart(llm, pairs, tmp_path):  # noqa: F811
    task = build(llm, pairs, tmp_path)
    optimizer = torch.optim.Adam(task.model.parameters(), lr=1e-2)
    batch = task.batch(0)
    before = task.losses(batch, "model")
    assert before["preference"].item() == pytest.approx(np.log(2), abs=1e-4)
    for _ in range(15):
        optimizer.zero_grad()
        task.losses(batch, "model")["preference"].backward()
        optimizer.step()
    after = task.losses(batch, "model")
    assert after["preferred"] == 1.0 and after["margin"] > 1.0


def test_the_shipped_recipe_runs(llm, pairs, tmp_path):  # noqa: F811
    from antiphon.models.llm.llama import Llama

    model = Llama.from_pretrained(llm, torch.float32)
    Lora(model, LoraConfig(4, 8.0)).save(tmp_path / "lora")
    places = {"model__llm": str(llm), "model__lora": str(tmp_path / "lora"), "data__pairs": str(pairs), "batch": 2}
    folder = run_recipe("mini/instruct-dpo", tmp_path / "run", measure_every=1, sample_every=1, **places)
    assert any(pair.lora_B.abs().max() > 0 for _, pair in Lora.from_pretrained(folder, model).named_pairs())


def test_facts_are_asked_with_what_answers_them():
    prompts = fact_questions()
    assert len(prompts) > 500 and len({prompt.id for prompt in prompts}) == len(prompts)
    accepted = {prompt.text: prompt.about["accept"][0] for prompt in prompts}
    assert "Add fourteen and eleven." not in accepted or accepted["Add fourteen and eleven."] == "twenty five"
    assert all(accepted.values()) and not {"the", "is", "that is"} & set(accepted.values())
    left = prompts[0].text
    assert left not in [prompt.text for prompt in fact_questions([left.upper()])]
