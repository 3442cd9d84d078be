"""The hearing of a duplex model: what it reads is what was heard by then; it learns by heart, and so does the rest."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from antiphon.codecs.mini.model import MiniCodec
from antiphon.data.dialogue.codes import CodedDialogue, DialogueCodesWriter
from antiphon.data.dialogue.format import Event, Word
from antiphon.data.store import ArrayWriter
from antiphon.errors import ConfigError
from antiphon.models.moshi.bundle import Duplex
from antiphon.models.moshi.config import MoshiConfig
from antiphon.models.moshi.hearing import FIRST_INTENT, IDLE, LISTENING, HearingConfig
from antiphon.models.moshi.model import Moshi
from antiphon.models.moshi.text_tokenizer import TextTokenizer
from antiphon.models.moshi.weights import load
from antiphon.train import StageConfig, train
from antiphon.train.engine import build_task
from antiphon.train.moshi.hearing import HearingTask, with_hearing
from tests.train.moshi.test_task import CODEC, DEPTH, MOSHI

WIDTH, FRAMES = 6, 40
HEARING = {"width": WIDTH, "delay": 2, "dim": 16, "heads": 2, "layers": 1, "inner": 24, "context": 30}
KINDS = ("alarm", "weather")
REPLIES = {"alarm": "Okay then.", "weather": "Sunny."}


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """A duplex model, and conversations in which what was asked is heard and nowhere in the codes."""
    torch.manual_seed(0)
    codec = MiniCodec(CODEC)
    codec.save_pretrained(tmp_path / "codec")
    codec = MiniCodec.from_pretrained(tmp_path / "codec")
    moshi = Moshi(MoshiConfig.from_dict(MOSHI))
    torch.nn.init.normal_(moshi.text_head.weight, std=0.5)  # a fresh one is too small for a choice to be made
    pieces = TextTokenizer.train([*REPLIES.values(), "what set"] * 3, 280)
    Duplex(moshi, codec, pieces).save_pretrained(tmp_path / "duplex", str(tmp_path / "codec"))
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 16, (8, 6, FRAMES)).astype(np.int16)
    with (
        DialogueCodesWriter(tmp_path / "talks", codec) as talks,
        ArrayWriter(tmp_path / "heard", "heard", {"width": WIDTH}) as heard,
    ):
        for number in range(8):
            kind = KINDS[number % 2]
            words = [Word("what", 0.4, 0.8, "user"), Word(REPLIES[kind], 1.68, 2.2)]
            events = [Event("turn", 0.4, 1.2, "user", kind)]
            talks.add_coded(CodedDialogue(codes[number], words, events, FRAMES / 12.5, 12.5, f"talk-{number}"))
            said = np.zeros((FRAMES, WIDTH), np.float16)
            said[5:15, number % 2] = 3.0
            heard.add({"id": f"talk-{number}"}, said)
    return tmp_path


def config(places: Path, **data) -> StageConfig:
    fields = {"conversations": [str(places / "talks")], "heard": [str(places / "heard")], "held_out": 2, "frames": 30}
    return StageConfig(
        task="antiphon.train.moshi.hearing:HearingTask",
        model={"duplex": str(places / "duplex"), "hearing": HEARING},
        trainable=["hearing.*", "words_head.*", "temporal.*", "text_head.*"],
        data=fields | {"lost": 0.0, "noise": 0.0, "late": 0} | data,
        steps=120,
        batch=4,
        threads=1,
        sample_every=0,
        out=str(places / "run"),
    )


def row(task: HearingTask, index: int = 0, start: int = 0, frames: int = FRAMES) -> dict[str, torch.Tensor]:
    return task._row(index, start, frames, np.random.default_rng(0))


def test_a_step_reads_what_was_heard_by_then(places: Path) -> None:
    task = build_task(config(places))
    assert isinstance(task, HearingTask)
    whole = row(task)
    assert not whole["heard"][: task.delay].any()
    assert torch.equal(whole["heard"][task.delay :], task.heard[0]["talk-0"][: -task.delay])
    later = row(task, start=10, frames=20)
    assert all(torch.equal(later[name], whole[name][10:30]) for name in ("heard", "words", "true"))
    ended = int(1.2 * 12.5) + task.delay
    asked, began = FIRST_INTENT + task.intents["alarm"], int(0.4 * 12.5) + task.delay
    for name in ("true", "state"):
        assert (whole[name][:began] == IDLE).all() and (whole[name][began:ended] == LISTENING).all()
        assert (whole[name][ended:] == asked).all()  # as long as nothing else is asked
    # Who hears from the middle of a turn on doesn't know what was asked, and isn't asked for it.
    assert (later["state"][ended - 10 :] == -1).all() and (later["state"][: ended - 10] == LISTENING).all()


def test_an_intent_is_not_known_while_it_is_being_said(places: Path, monkeypatch) -> None:
    task = build_task(config(places))
    talk = task.talks[0]
    again = [*talk.events, Event("turn", 2.0, 2.4, "user", "weather")]
    monkeypatch.setattr(type(task.talks), "__getitem__", lambda self, index: replace(talk, events=again))
    state, target = task._states(0, 0)
    first, second, end = (int(at * 12.5) + task.delay for at in (1.2, 2.0, 2.4))
    assert (state[first:second] == FIRST_INTENT + task.intents["alarm"]).all()
    assert (state[second:end] == LISTENING).all()
    assert (state[end:] == FIRST_INTENT + task.intents["weather"]).all() and torch.equal(state, target)
    again[-1] = replace(again[-1], note="")  # of such a turn nothing is known, so nothing is asked for
    state, target = task._states(0, 0)
    assert (state[end:] == LISTENING).all() and (target[end:] == -1).all()


def test_where_replies_come_later_what_is_heard_is_ahead_of_them(places: Path) -> None:
    task = build_task(config(places, late=5))
    assert task.delay == -2
    whole = row(task)
    assert torch.equal(whole["heard"][:-2], task.heard[0]["talk-0"][2:]) and not whole["heard"][-2:].any()
    assert int((whole["state"] >= FIRST_INTENT).nonzero()[0, 0]) == int(1.2 * 12.5) - 2


def test_intents_must_be_noted(places: Path, monkeypatch) -> None:
    monkeypatch.setattr(HearingTask, "_noted", lambda self, index: [])
    with pytest.raises(ConfigError, match="no turn of a user has a note"):
        build_task(config(places))


def test_a_hearing_of_other_sizes_keeps_what_fits(places: Path) -> None:
    first = with_hearing(Moshi(MoshiConfig.from_dict(MOSHI)), HearingConfig(**HEARING))
    more = with_hearing(first, HearingConfig(**HEARING, intents=["alarm"]))
    assert torch.equal(more.hearing.from_frames.weight, first.hearing.from_frames.weight)
    assert more.hearing.state_head.out_features == 3 and not more.hearing.embedding.weight.any()
    asks = [HearingConfig(**HEARING, intents=intents) for intents in (["alarm", "time"], ["time", "alarm"])]
    one = with_hearing(first, asks[0])
    same, turned = with_hearing(one, asks[0]), with_hearing(one, asks[1])
    assert torch.equal(same.hearing.state_head.weight, one.hearing.state_head.weight)
    assert not torch.equal(
        turned.hearing.state_head.weight, one.hearing.state_head.weight
    )  # its rows are other intents'
    wider = with_hearing(first, HearingConfig(**(HEARING | {"inner": 40})))
    assert torch.equal(wider.hearing.from_frames.weight, first.hearing.from_frames.weight)


def test_where_a_reply_is_late_the_turn_lasts_until_shortly_before(places: Path, monkeypatch) -> None:
    task = build_task(config(places, gap=1))
    ended, begins = int(1.2 * 12.5) + task.delay, int((task.talks.text(0) != task.moshi.pad).nonzero()[0, 0])
    assert begins == ended + 2
    found = [task._held(0, np.random.default_rng(seed)).nonzero()[:, 0] for seed in range(20)]
    assert all(torch.equal(each, torch.arange(ended, int(each[-1]) + 1)) for each in found)
    assert {begins - 1 - int(each[-1]) for each in found} == {0, 1}
    talk = task.talks[0]
    again = [*talk.events, Event("turn", 1.24, 1.3, "user", "weather")]  # the first is answered with it
    monkeypatch.setattr(type(task.talks), "__getitem__", lambda self, index: replace(talk, events=again))
    assert not task._held(0, np.random.default_rng(0))[: int(1.3 * 12.5) + task.delay].any()


def test_the_true_intent_takes_its_part_of_all_chances(places: Path) -> None:
    task = build_task(config(places))
    predicted = torch.tensor([0.2, 0.3, 0.1, 0.4]).expand(1, 5, 4)
    batch = {
        "true": torch.tensor([[1, 2, 2, 3, 3]]),
        "state": torch.tensor([[1, 2, -1, 3, 3]]),  # of the third nothing can be known: it is told
        "held": torch.tensor([[0, 0, 0, 0, 1]]),  # the last one's reply is late
        "forced": torch.tensor([0.5]),
    }
    told = task.teacher_forced(predicted, batch)[0]
    wanted = [
        [0.2, 0.3, 0.1, 0.4],
        [0.1, 0.15, 0.55, 0.2],
        [0.0, 0.0, 1.0, 0.0],
        [0.1, 0.15, 0.05, 0.7],
        [0.0, 1.0, 0.0, 0.0],
    ]
    torch.testing.assert_close(told, torch.tensor(wanted))


def test_teacher_forcing_and_dropout_follow_the_settings(places: Path) -> None:
    task = build_task(config(places, teacher_forcing=0.5, dropout=0.3))
    batches = [task.batch(step) for step in range(30)]
    forced = torch.cat([batch["forced"] for batch in batches])
    assert 0.5 <= float(forced.min()) < 0.6 and 0.9 < float(forced.max()) <= 1.0
    plain = build_task(config(places, teacher_forcing=0.5)).batch(0)["heard"]
    kept = batches[0]["heard"] != 0
    assert 0.5 < float(kept[plain != 0].float().mean()) < 0.9
    torch.testing.assert_close(batches[0]["heard"][kept], plain[kept] / 0.7)


def test_hearing_alone_is_trained_without_what_is_said(places: Path) -> None:
    stage = config(places)
    stage.data["replies"] = False
    task = build_task(stage)
    assert all(each.requires_grad for each in task.losses(task.batch(0)).values())
    assert set(task.losses(task.batch(0))) == {"state", "heard"}


@pytest.mark.parametrize("late", [0, 5])
def test_who_knows_the_state_is_never_too_soon(places: Path, monkeypatch, late: int) -> None:
    task = build_task(config(places, late=late))
    again = [Event("turn", start, start + 0.4, "user", "alarm") for start in (0.0, 0.8, 2.0)]
    real = type(task.talks).__getitem__
    monkeypatch.setattr(type(task.talks), "__getitem__", lambda self, index: replace(real(self, index), events=again))
    monkeypatch.setattr(task.hearing, "forward", lambda heard: torch.zeros(*heard.shape[:2], 16))
    known = torch.nn.functional.one_hot(task._states(0, 0)[0], 4).float()[None]
    monkeypatch.setattr(task.hearing.state_head, "forward", lambda seen: known)
    figures = task.measure(0, {})
    assert figures["too-soon"] == 0.0 and figures["intent-accuracy"] == 1.0
    known[...] = torch.tensor([0.0, 0.0, 1.0, 0.0])
    assert task.measure(0, {})["too-soon"] == 1.0


def test_a_window_that_reaches_past_the_end_asks_for_nothing_there(places: Path) -> None:
    task = build_task(config(places))
    past = row(task, start=30, frames=30)
    assert past["heard"].shape == (30, WIDTH) and past["target"].shape == (task.moshi.streams, 30)
    for each in (past["true"], past["target"][0]):
        assert (each[10:] == -1).all() and (each[:10] >= 0).all()


def test_what_it_becomes_has_none_of_the_users_codes(places: Path) -> None:
    task, before = build_task(config(places)), load(places / "duplex")
    assert (task.moshi.user_codebooks, task.moshi.streams, task.moshi.delays) == (0, 4, before.config.delays[:4])
    assert (
        torch.equal(task.batch(0)["target"][:, 1:], task.batch(0)["delayed"][:, 1:])
        and row(task)["target"].shape[0] == 4
    )
    own, whole = task.model.code_embedding.weight, before.code_embedding.weight
    rows = 3 * (before.config.card + 1)
    assert torch.equal(own[:rows], whole[:rows]) and len(own) == rows + 1 and not own[-1].any()
    both = MoshiConfig.from_dict(MOSHI | {"depth": DEPTH | {"codebooks": 6}})
    with pytest.raises(ConfigError, match="predicts the user's codes"):
        with_hearing(Moshi(both), HearingConfig(**HEARING))


def test_batches_repeat(places: Path) -> None:
    one, other = build_task(config(places)), build_task(config(places))
    assert all(torch.equal(each, other.batch(3)[name]) for name, each in one.batch(3).items())
    assert not torch.equal(one.batch(3)["target"], one.batch(4)["target"])


def test_it_learns_which_reply_was_asked_for(places: Path) -> None:
    stage = config(places, noise=0.95)  # own codes are each conversation's, and would tell it
    stage.optim.lr = 1e-2
    stage.objective = {"text": 1.0, "audio": 0.1, "state": 1.0, "heard": 0.1}
    first = build_task(stage)
    train(stage)
    learnt, started = load(places / "run" / "model"), load(places / "duplex").state_dict()
    assert learnt.config.hearing is not None and learnt.config.hearing.intents == ["alarm", "weather"]
    for name, each in learnt.state_dict().items():
        if name.startswith("depth."):  # isn't trained here
            torch.testing.assert_close(each, started[name])
    stage.model.duplex = str(places / "run" / "model")
    after = build_task(stage)
    figures = after.measure(0, {})
    assert figures["held-state"] < first.measure(0, {})["held-state"] and figures["intent-accuracy"] == 1.0
    # Nothing but what was heard tells the two kinds apart.
    batch = {name: each[None] for name, each in row(after).items()} | {"forced": torch.zeros(1)}
    batch = after._asked(batch, np.random.default_rng(0), 0.0)
    deaf = batch | {"heard": torch.zeros_like(batch["heard"])}
    with torch.no_grad():
        told = float(after.losses(batch)["words"])
        assert told < 0.5 * first.losses(batch)["words"] and told < 0.7 * after.losses(deaf)["words"]


def test_conversations_of_which_nothing_was_heard_are_left_out(places: Path) -> None:
    with ArrayWriter(places / "some", "heard", {"width": WIDTH}) as heard:
        for number in (1, 4, 6):
            heard.add({"id": f"talk-{number}"}, np.zeros((FRAMES, WIDTH), np.float16))
    task = build_task(config(places, heard=[str(places / "some")]))
    assert [task.talks[index].id for index in range(len(task.talks))] == ["talk-1", "talk-4", "talk-6"]
    with pytest.raises(ConfigError, match="held out"):
        build_task(config(places, heard=[str(places / "some")], held_out=3))
    with pytest.raises(ConfigError, match="holds codes"):
        build_task(config(places, heard=[]))
    with pytest.raises(ConfigError, match="data.heard"):
        build_task(config(places, heard=[str(places / "some")] * 2))
