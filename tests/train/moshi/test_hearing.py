"""The hearing of a duplex model: what it reads is what was heard by then, it learns by heart, the rest stays."""

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
from antiphon.models.moshi.hearing import HearingConfig
from antiphon.models.moshi.model import Moshi
from antiphon.models.moshi.text_tokenizer import TextTokenizer
from antiphon.models.moshi.weights import load
from antiphon.train import StageConfig, train
from antiphon.train.engine import build_task
from antiphon.train.moshi.hearing import HearingTask, with_hearing
from tests.train.moshi.test_task import CODEC, MOSHI

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
        trainable=["hearing.*", "words_head.*"],
        data=fields | {"lost": 0.0} | data,
        steps=120,
        batch=4,
        threads=1,
        sample_every=0,
        out=str(places / "run"),
    )


def test_a_step_reads_what_was_heard_by_then(places: Path) -> None:
    task = build_task(config(places))
    assert isinstance(task, HearingTask)
    row = task._row(0, 0, FRAMES)
    assert not row["heard"][: task.delay].any()
    assert torch.equal(row["heard"][task.delay :], task.heard[0]["talk-0"][: -task.delay])
    later = task._row(0, 10, 20)
    assert all(torch.equal(later[name], each[10:30]) for name, each in row.items())
    ended = int(1.2 * 12.5) + task.delay
    assert (row["intent"] >= 0).nonzero()[0, 0] == ended and (row["intent"][:ended] == -1).all()
    assert (row["intent"][ended:] == task.intents["alarm"]).all()  # as long as nothing else is asked


def test_an_intent_is_not_known_while_it_is_being_said(places: Path, monkeypatch) -> None:
    task = build_task(config(places))
    talk = task.talks[0]
    again = [*talk.events, Event("turn", 2.0, 2.4, "user", "weather")]
    monkeypatch.setattr(type(task.talks), "__getitem__", lambda self, index: replace(talk, events=again))
    asked = task._row(0, 0, FRAMES)["intent"]
    first, second, end = (int(at * 12.5) + task.delay for at in (1.2, 2.0, 2.4))
    assert (asked[first:second] == task.intents["alarm"]).all() and (asked[second:end] == -1).all()
    assert (asked[end:] == task.intents["weather"]).all()


def test_where_codes_wait_what_is_heard_is_ahead_of_them(places: Path) -> None:
    stage = config(places)
    stage.model["hearing"] = HEARING | {"wait": 5}
    task = build_task(stage)
    assert task.delay == -2 and task.model.config.hearing.wait == 5
    row = task._row(0, 0, FRAMES)
    assert torch.equal(row["heard"][:-2], task.heard[0]["talk-0"][2:]) and not row["heard"][-2:].any()
    assert int((row["intent"] >= 0).nonzero()[0, 0]) == int(1.2 * 12.5) - 2


def test_intents_must_be_noted(places: Path, monkeypatch) -> None:
    monkeypatch.setattr(HearingTask, "_noted", lambda self, index: [])
    with pytest.raises(ConfigError, match="no turn of a user has a note"):
        build_task(config(places))


def test_a_hearing_of_other_sizes_keeps_what_fits(places: Path) -> None:
    first = with_hearing(Moshi(MoshiConfig.from_dict(MOSHI)), HearingConfig(**HEARING))
    more = with_hearing(first, HearingConfig(**HEARING, intents=["alarm"], wait=1))
    assert torch.equal(more.hearing.from_frames.weight, first.hearing.from_frames.weight)
    assert more.hearing.intent_head.out_features == 1 and not more.hearing.conditioning.out.weight.any()
    asks = [HearingConfig(**HEARING, intents=intents) for intents in (["alarm", "time"], ["time", "alarm"])]
    one = with_hearing(first, asks[0])
    same, turned = with_hearing(one, asks[0]), with_hearing(one, asks[1])
    assert torch.equal(same.hearing.intent_head.weight, one.hearing.intent_head.weight)
    assert not torch.equal(
        turned.hearing.intent_head.weight, one.hearing.intent_head.weight
    )  # its rows are other intents'
    wider = with_hearing(first, HearingConfig(**(HEARING | {"inner": 40})))
    assert torch.equal(wider.hearing.from_frames.weight, first.hearing.from_frames.weight)


def test_teacher_forcing_and_dropout_follow_the_settings(places: Path) -> None:
    task = build_task(config(places, teacher_forcing=0.5, dropout=0.3))
    batches = [task.batch(step) for step in range(30)]
    assert 0.3 < float(torch.stack([batch["forced"] for batch in batches]).float().mean()) < 0.7
    plain = build_task(config(places, teacher_forcing=0.5)).batch(0)["heard"]
    kept = batches[0]["heard"] != 0
    assert 0.5 < float(kept[plain != 0].float().mean()) < 0.9
    torch.testing.assert_close(batches[0]["heard"][kept], plain[kept] / 0.7)
    batch = batches[0] | {"forced": torch.ones(4, dtype=torch.bool)}
    torch.nn.init.normal_(task.hearing.conditioning.out.weight)
    true = task.losses(batch)["text"]
    assert true != task.losses(batch | {"forced": torch.zeros(4, dtype=torch.bool)})["text"]


def test_a_window_that_reaches_past_the_end_asks_for_nothing_there(places: Path) -> None:
    row = build_task(config(places))._row(0, 30, 30)
    assert row["heard"].shape == (30, WIDTH) and row["states"].shape == (30, 16)
    assert (row["text"][10:] == -1).all() and (row["text"][:10] >= 0).all()


def test_in_the_users_turns_stand_codes_of_others(places: Path) -> None:
    task = build_task(config(places, others=1.0))
    whole, changed = task.talks.grid(1), task.talks.grid(1).clone()
    task._exchange(changed, 1, np.random.default_rng(0))
    first, last = int(0.4 * 12.5), int(1.2 * 12.5)
    user = slice(1 + task.moshi.codebooks, task.moshi.streams)
    others = [task.talks.grid(index)[user, first:last] for index in range(task.count)]
    assert any(torch.equal(changed[user, first:last], other) for other in others)
    changed[user, first:last] = whole[user, first:last]
    assert torch.equal(changed, whole)
    as_they_are = build_task(config(places, others=0.0))
    assert not torch.equal(as_they_are._states(1), task._states(1))
    assert torch.equal(as_they_are._states(7), task._states(7))  # those held out are always so


def test_batches_repeat(places: Path) -> None:
    one, other = build_task(config(places)), build_task(config(places))
    assert all(torch.equal(each, other.batch(3)[name]) for name, each in one.batch(3).items())
    assert not torch.equal(one.batch(3)["text"], one.batch(4)["text"])


def test_it_learns_which_reply_was_asked_for_and_nothing_else_changes(places: Path) -> None:
    stage = config(places)
    stage.optim.lr = 1e-2
    first = build_task(stage)
    train(stage)
    started = load(places / "duplex").state_dict()
    learnt = load(places / "run" / "model")
    assert learnt.config.hearing is not None
    for name, each in learnt.state_dict().items():
        if not name.startswith("hearing."):
            torch.testing.assert_close(each, started[name])
    stage.model.duplex = str(places / "run" / "model")
    after = build_task(stage)
    assert after.measure(0, {})["held-intent"] < first.measure(0, {})["held-intent"]
    # Nothing but what was heard tells the two kinds apart.
    row = {name: each[None] for name, each in after._row(0, 0, FRAMES).items()}
    deaf = row | {"heard": torch.zeros_like(row["heard"])}
    with torch.no_grad():
        told = float(after.losses(row)["text"])
        assert told < 0.5 * first.losses(row)["text"] and told < 0.7 * after.losses(deaf)["text"]


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
