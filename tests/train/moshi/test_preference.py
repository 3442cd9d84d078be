"""Preferences of a duplex model: what was drawn live is as likely teacher-forced, and timing is what is compared."""

import numpy as np
import pytest
import torch

from antiphon.data.dialogue.codes import DialogueCodes
from antiphon.data.dialogue.format import Event
from antiphon.data.preferences.mine import Drawn, MineConfig, Prompt, mine
from antiphon.data.preferences.pairs import PairConfig, write_pairs
from antiphon.data.preferences.timing import TimingDraws, dialogue_prompts
from antiphon.errors import ConfigError
from antiphon.evals.preferences import NO_ANSWER_SECONDS, Timing
from antiphon.models.moshi.bundle import Duplex
from antiphon.models.moshi.config import MoshiSampling
from antiphon.models.moshi.weights import load
from antiphon.nn.delays import delay
from antiphon.train.config import StageConfig
from antiphon.train.engine import build_task
from tests.dialogue.duplex.tiny_duplex import tiny_duplex
from tests.train.moshi.test_task import END_PAD, PAD, folder, make  # noqa: F401
from tests.train.tiny import run_recipe


def total(prompts, answers):
    """A made-up measure, so that every prompt makes a pair."""
    return [{"total": float(answer.array[0].sum())} for answer in answers]


@pytest.fixture
def mined(folder):  # noqa: F811
    """A tiny duplex model and pairs of what it does while the users of conversations speak."""
    make(folder).export(folder / "model")
    duplex = Duplex.from_pretrained(folder / "model")
    draws = TimingDraws(duplex, 2.0, MoshiSampling(1.0, 0, 1.0, 0))
    prompts = dialogue_prompts(list(DialogueCodes(folder / "talks")))
    mine(prompts, draws, [total], MineConfig(folder / "pairs", samples=3, batch=2))
    write_pairs(folder / "pairs", PairConfig({"total": 1.0}, margin=0.5))
    return folder


def build(place, **data):
    return build_task(
        StageConfig(
            task="antiphon.train.moshi.preference:DuplexPreferenceTask", steps=1, batch=2, out=str(place / "run"),
            model={"duplex": str(place / "model")}, data={"pairs": str(place / "pairs"), "held_out": 1, **data},
        )
    )  # fmt: skip


@torch.no_grad()
def test_text_alone_counts_unless_codes_are_asked_for(mined):
    task = build(mined)
    batch = task.rows([0])
    output = task.model(batch["delayed"])
    logs = torch.log_softmax(output.text, -1)
    for row, side in enumerate((task.pairs[0].chosen, task.pairs[0].rejected)):
        slow = sum(
            (1.0 if token in (PAD, END_PAD) else 0.25) * float(logs[row, frame, token])
            for frame, token in enumerate(side[0].tolist())
        )
        assert float(task.answers(batch)[0][row]) == pytest.approx(slow, abs=1e-3)
    whole = build(mined, semantic=1.0, acoustic=0.5, preference={"reference": False})
    lower = whole.answers(whole.rows([0]))
    assert (lower[0] < task.answers(batch)[0]).all() and (lower[1] > task.answers(batch)[1]).all()


@torch.no_grad()
def test_greedy_answers_are_the_likeliest_teacher_forced(mined):
    """What the model did live, step by step, is what its logits say of the same grid at once."""
    duplex = Duplex.from_pretrained(mined / "model")
    talks = dialogue_prompts(list(DialogueCodes(mined / "talks")))
    (drawn, _) = TimingDraws(duplex, 2.0, MoshiSampling(0.0, 0, 0.0, 0), sound=False)(talks[:1], 2)[0]
    delayed = delay(torch.from_numpy(drawn.array)[None], list(duplex.moshi.config.delays), fill=-1)
    text = duplex.moshi(delayed).text[0].argmax(-1)
    assert text[: drawn.array.shape[1]].tolist() == drawn.array[0].tolist()


def test_conversations_at_once_are_what_each_is_alone(mined):
    duplex = Duplex.from_pretrained(mined / "model")
    talks = dialogue_prompts(list(DialogueCodes(mined / "talks")))  # of four lengths
    draws = TimingDraws(duplex, 2.0, MoshiSampling(1.0, 0, 1.0, 0), sound=False)
    for alone, together in zip([draws([each], 2)[0] for each in talks], draws(talks, 2), strict=True):
        assert [each.array.tolist() for each in together] == [each.array.tolist() for each in alone]


def test_rows_of_different_lengths_dont_count_what_isnt_there(mined):
    task = build(mined)
    with torch.no_grad():
        both = task.answers(task.rows([0, 1]))[0].view(2, 2)
        each = torch.stack([task.answers(task.rows([index]))[0] for index in range(2)], dim=1)
    torch.testing.assert_close(both, each, atol=1e-3, rtol=0)


def test_the_shipped_recipe_runs(mined, tmp_path):
    places = {"model__duplex": str(mined / "model"), "data__pairs": str(mined / "pairs"), "batch": 2}
    made = run_recipe("duplex/dpo", tmp_path / "run", measure_every=1, sample_every=1, **places)
    start, moshi = load(mined / "model"), load(made)
    assert not torch.equal(start.text_head.weight, moshi.text_head.weight)
    assert Duplex.from_pretrained(made).sampling == Duplex.from_pretrained(mined / "model").sampling


def test_timing_by_hand(mined):
    """A user who speaks from 0.8 to 2.4 s with a pause inside; frames are 80 ms."""
    duplex = Duplex.from_pretrained(mined / "model")
    rate = duplex.frame_rate
    talk = DialogueCodes(mined / "talks")[0]
    talk.events, talk.seconds = [Event("turn", 0.8, 2.4, "user"), Event("pause", 1.2, 1.8, "user")], 10.0
    prompt = Prompt("a", "", {"dialogue": talk})
    piece = duplex.pieces.encode_word("Yes.", first=True)[0]

    def answered(*spans):
        row = np.full(round(10 * rate), PAD)
        for start, end in spans:
            row[round(start * rate) : round(end * rate)] = piece
        return Drawn(np.concatenate([row[None], np.zeros((6, len(row)), int)]))

    late, early, never = Timing(duplex)([prompt] * 3, [answered((4.4, 6.4)), answered((1.2, 4.8)), answered()])
    assert late == {"early": 0.0, "latency": pytest.approx(2.0, abs=0.2), "overlap": 0.0}
    assert early["early"] == 1.0 and early["overlap"] == pytest.approx(1.2 / 1.6, abs=0.1)
    assert never == {"early": 0.0, "latency": NO_ANSWER_SECONDS, "overlap": 0.0}


def test_a_model_that_goes_by_its_hearing_hears_nothing_in_codes() -> None:
    with pytest.raises(ConfigError, match="goes by its hearing"):
        TimingDraws(tiny_duplex(hearing=True))
