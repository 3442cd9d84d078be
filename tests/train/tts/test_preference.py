"""Preferences of the talker: an answer's log-probability is that with which it was drawn, and training moves it."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from antiphon.codecs.mini.model import MiniCodec
from antiphon.data.preferences.mine import MineConfig, Prompt, mine
from antiphon.data.preferences.pairs import PairConfig, PreferencePairs, write_pairs
from antiphon.data.preferences.speech import TalkerDraws
from antiphon.errors import ConfigError
from antiphon.models.tts.durations import TalkerConfig
from antiphon.models.tts.phonemes import Phonemizer
from antiphon.models.tts.synthesizer import Synthesizer
from antiphon.models.tts.talker import Talker
from antiphon.train.config import StageConfig
from antiphon.train.engine import build_task
from antiphon.train.tts.preference import timed
from tests.codecs.mini.test_model import TINY
from tests.train.tiny import run_recipe
from tests.train.tts.test_talker import SIZES


def first_code(prompts, answers):
    """A made-up measure: the sum of the semantic codes, so that every prompt makes a pair."""
    return [{"wer": float(answer.array[0].sum())} for answer in answers]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny talker, and pairs of what it says at temperature 1."""
    path = tmp_path_factory.mktemp("preferences")
    torch.manual_seed(0)
    codec, talker = MiniCodec(TINY), Talker(TalkerConfig(**SIZES))
    talker.take_codebooks(codec)
    with torch.no_grad():
        for linear in talker.out:  # a fresh one's scores are all alike
            linear.weight.normal_(std=0.5)
    talker.save_pretrained(path / "talker")
    talker = Talker.from_pretrained(path / "talker")
    draws = TalkerDraws(Synthesizer(talker, codec.eval(), Phonemizer(), False), temperature=1.0, top_k=0)
    prompts = [Prompt(str(i), text) for i, text in enumerate(("Yes, one.", "No.", "Two it is.", "Well."))]
    mine(prompts, draws, [first_code], MineConfig(path / "pairs", samples=3, batch=3))
    write_pairs(path / "pairs", PairConfig(margin=1.0))
    return path


def build(folder, tmp_path, talker=None, **data):
    return build_task(
        StageConfig(
            task="antiphon.train.tts.preference:TalkerPreferenceTask", steps=1, batch=2, out=str(tmp_path),
            model={"talker": talker or str(folder / "talker")},
            data={"pairs": str(folder / "pairs"), "held_out": 1, **data},
        )
    )  # fmt: skip


def slow_log_probability(talker: Talker, side) -> float:
    """Step by step as it is spoken: each code given all before it."""
    total = 0.0
    codes = torch.from_numpy(side.codes)
    state = talker.init_state()
    state.text.symbols, state.text.hidden = side.symbols.tolist(), [None] * len(side.symbols)
    features, _ = talker.encoder(torch.from_numpy(side.symbols)[None])
    ends = torch.tensor(side.ends, dtype=torch.float32)[None]
    frames, speech, lag = codes.shape[1], state.speech, talker.config.acoustic_delay
    for frame in range(frames + lag):
        x = talker.read(talker.conditions(features, ends, frame, 1))
        x = x + sum(linear(speech.previous[:, None, level]) for level, linear in enumerate(talker.code_in))
        hidden = talker.temporal.step(x, speech.temporal)[:, 0]
        vectors, known, depth = [], 0.0, talker.depth.init_state(1)
        for level in range(talker.config.codebooks):
            at = frame - (lag if level else 0)
            scores = talker._scores(
                talker.depth.step((talker.depth_in[level](hidden) + known)[:, None], depth)[:, 0], level
            )
            there = 0 <= at < frames
            if there:
                total += float(F.log_softmax(scores, -1)[0, codes[level, at]])
            vectors.append(talker.codes[level, codes[level, at if there else 0]][None] * there)
            if level < len(talker.depth_code):
                known = known + talker.depth_code[level](vectors[level])
        speech.previous = torch.stack(vectors, dim=1)
    return total


@torch.no_grad()
def test_an_answers_log_probability_is_what_speaking_it_step_by_step_gives(folder, tmp_path):
    task = build(folder, tmp_path)
    sides = timed(task.pairs[0])
    logs, counts = task.answers(task.rows([0]))
    assert logs.tolist() == pytest.approx([slow_log_probability(task.model, side) for side in sides], abs=1e-3)
    assert counts.tolist() == [side.codes.size for side in sides]
    assert task.training.reference[:, 0].tolist() == pytest.approx(logs.tolist(), abs=1e-4)


@torch.no_grad()
def test_weights_of_levels_and_padding(folder, tmp_path):
    alone = build(folder, tmp_path / "a", acoustic=0.0)
    both = alone.answers(alone.rows([0, 1, 2]))[0].view(2, 3)
    each = torch.stack([alone.answers(alone.rows([index]))[0] for index in range(3)], dim=1)
    torch.testing.assert_close(both, each, atol=1e-4, rtol=0)  # padding of the shorter ones counts nothing
    assert alone.answers(alone.rows([0]))[1].tolist() == [side.codes.shape[1] for side in timed(alone.pairs[0])]
    full = build(folder, tmp_path / "b")
    assert (full.answers(full.rows([0]))[0] < each[:, 0]).all()


@pytest.mark.parametrize("loss", ["dpo", "ipo", "simpo", "kto"])
def test_training_tells_the_sides_apart(folder, tmp_path, loss):
    task = build(folder, tmp_path, preference={"loss": loss, "beta": 0.5})
    assert (task.training.reference is None) == (loss == "simpo")
    optimizer = torch.optim.Adam(task.model.parameters(), lr=3e-3)
    batch = task.batch(0)
    before = task.losses(batch, "model")
    for _ in range(20):
        optimizer.zero_grad()
        task.losses(batch, "model")["preference"].backward()
        optimizer.step()
    after = task.losses(batch, "model")
    assert after["preferred"] == 1.0 and after["margin"] > before["margin"]


def test_the_first_step_starts_at_the_reference(folder, tmp_path):
    found = build(folder, tmp_path).losses(build(folder, tmp_path).batch(0), "model")
    assert found["preference"].item() == pytest.approx(np.log(2), abs=1e-4)
    assert found["margin"].item() == pytest.approx(0.0, abs=1e-3)


def test_the_shipped_recipe_runs(folder, tmp_path):
    places = {"model__talker": str(folder / "talker"), "data__pairs": str(folder / "pairs"), "batch": 2}
    model = run_recipe("mini/talker-dpo", tmp_path / "run", measure_every=1, sample_every=1, **places)
    start, made = Talker.from_pretrained(folder / "talker"), Talker.from_pretrained(model)
    assert torch.equal(start.encoder.embed.weight, made.encoder.embed.weight)  # what isn't drawn isn't trained
    assert not torch.equal(start.bias, made.bias)
    assert (tmp_path / "run" / "samples" / "000002.jsonl").is_file()


def test_pairs_of_another_talker_are_refused(folder, tmp_path):
    Talker(TalkerConfig(**SIZES | {"codebooks": 4})).save_pretrained(tmp_path / "talker")
    with pytest.raises(ConfigError, match="codes of 3 codebooks, the talker speaks 4"):
        build(folder, tmp_path, talker=str(tmp_path / "talker"))


def test_pairs_say_what_was_said(folder):
    pairs = PreferencePairs(folder / "pairs")
    assert {pair.asked for pair in pairs} <= {"Yes, one.", "No.", "Two it is.", "Well."} and len(pairs) >= 3
