"""The talker's batches: what is a target and what is not, joined utterances, and states in their places."""

import dataclasses

import numpy as np
import pytest
import torch

from antiphon.codecs.mini.model import MiniCodec
from antiphon.data.codes import CodecInfo, Coded, CodesWriter
from antiphon.data.omni.states import omni_states
from antiphon.data.speech.timed_codes import TimedCodes
from antiphon.data.states import ASKED
from antiphon.data.store import ArrayWriter
from antiphon.errors import ConfigError
from antiphon.models.omni.model import ReplySettings
from antiphon.models.tts.phonemes import Phonemizer, Speller, alphabet
from antiphon.train.config import StageConfig
from antiphon.train.engine import build_task
from antiphon.train.tts.talker import TalkerTask, ThinkerStates, collate, join
from tests.codecs.mini.test_model import TINY
from tests.models.omni.tiny import talking
from tests.train.tiny import run_recipe

SIZES = dict(
    hidden=4, encoder_dim=8, encoder_layers=1, encoder_kernel=3, dim=8, heads=2, inner=8, layers=1, depth_dim=8,
    depth_heads=2, depth_inner=8,
    depth_layers=1, codebooks=3, codebook_size=16, code_dim=6,
)  # fmt: skip


def write_codes(folder, codec, voices=("",)) -> None:
    """Six utterances of random codes, with two phones each; the voices take turns."""
    rng = np.random.default_rng(0)
    with CodesWriter(folder, CodecInfo.of(codec)) as writer:
        for number in range(6):
            frames = 6 + number % 2
            phones = [("n", 0.08, 0.2), ("O", 0.2, 0.3)]
            codes = rng.integers(0, codec.codebook_size, (codec.codebooks, frames))
            writer.add(Coded(str(number), f"t{number}", voices[number % len(voices)], phones=phones), codes)


@pytest.fixture
def task(tmp_path) -> TalkerTask:
    torch.manual_seed(0)
    MiniCodec(TINY).save_pretrained(tmp_path / "codec")
    write_codes(tmp_path / "codes", MiniCodec.from_pretrained(tmp_path / "codec"))
    data = dict(
        speech="", codec=str(tmp_path / "codec"), codes=str(tmp_path / "codes"), frames=30, depth_share=1.0,
        noise=0.1, joined=0.0, held_out=1,
    )  # fmt: skip
    return build_task(
        StageConfig(
            task="antiphon.train.tts.talker:TalkerTask", steps=1, out=str(tmp_path), model={"talker": SIZES}, data=data
        )
    )


def test_batches_repeat_and_nothing_past_the_end_is_a_target(task):
    one, again = task.batch(3), task.batch(3)
    assert all(torch.equal(one[name], again[name]) for name in one)
    grid, keep = one["grid"], one["keep"]
    frames = (grid[:, 0] >= 0).sum(1)
    for row, number in enumerate(frames.tolist()):
        assert (
            (grid[row, 0, number:] == -1).all()
            and (grid[row, 1:, 0] == -1).all()
            and (grid[row, 1:, number + 1 :] == -1).all()
        )
        assert keep[row].tolist() == [True] * (number + 1) + [False] * (grid.shape[-1] - number - 1)


def test_losses_by_hand(task):
    batch = task.batch(0)
    task.model.eval()
    losses = task.losses({**batch}, "model")
    logits, durations = task.model(**batch)
    targets = batch["grid"].transpose(1, 2)[batch["keep"]]
    there = targets[:, 0] >= 0
    slow = -torch.log_softmax(logits[0], -1)[there].gather(1, targets[there, :1]).mean()
    task.data.noise = 0.0
    torch.testing.assert_close(task.losses(batch, "model")["semantic"], slow)
    wanted = torch.log1p(torch.tensor([0.12, 0.10]) / 0.025)  # the two phonemes; the silences around them are not asked
    torch.testing.assert_close(losses["duration"], (durations[:, 1:3] - wanted).abs().mean())


def test_joined_utterances_share_a_clock():
    first = TimedCodes(np.array([0, 56, 0]), np.array([0.08, 0.2, 0.24]), np.zeros((2, 3), int), "a")
    second = TimedCodes(np.array([0, 31, 0]), np.array([0.1, 0.15, 0.16]), np.ones((2, 2), int), "b")
    both = join(first, second, 12.5)
    assert both.symbols.tolist() == [0, 56, alphabet()[" "], 31, 0]
    np.testing.assert_allclose(both.ends, [0.08, 0.2, 0.34, 0.39, 0.40])
    assert both.codes.tolist() == [[0, 0, 0, 1, 1]] * 2 and both.text == "a b"


def test_speakers_are_the_voices_of_the_recordings(task, tmp_path):
    assert not task.model.config.speakers and "speaker" not in task.batch(0)
    codec = MiniCodec.from_pretrained(tmp_path / "codec")
    write_codes(tmp_path / "two", codec, ("anna", "bert"))
    task.data.codes, task.data.joined = str(tmp_path / "two"), 1.0
    two = build_task(task.config)
    assert two.model.config.speakers == ["anna", "bert"]
    for step in range(8):
        batch, (examples, _) = two.batch(step), zip(*two._examples(np.random.default_rng((0, step))))
        assert batch["speaker"].tolist() == [two.model.config.speakers.index(each.voice) for each in examples]
        parts = [{int(part[1:]) % 2 for part in each.text.split()} for each in examples]
        assert all(part == {("anna", "bert").index(each.voice)} for part, each in zip(parts, examples))
    losses = two.losses(two.batch(1), "model")
    sum(loss for loss in losses.values() if loss.requires_grad).backward()
    assert two.model.encoder.speaker.weight.grad.abs().sum(-1).all()
    unknown = TimedCodes(np.array([0, 56, 0]), np.array([0.08, 0.2, 0.24]), np.zeros((3, 3), int), "a", "carl")
    assert collate([unknown], two.model.config)["speaker"].tolist() == [0]
    task.config.model = {"talker": {**SIZES, "speakers": ["anna"]}}
    with pytest.raises(ConfigError, match="doesn't name all voices of data.speech: bert"):
        build_task(task.config)


def test_every_parameter_of_the_talker_learns_but_the_thinkers_door(task):
    losses = task.losses(task.batch(1), "model")
    sum(loss for loss in losses.values() if loss.requires_grad).backward()
    for name, parameter in task.model.named_parameters():
        if name == "encoder.thinker.weight":
            assert parameter.grad is None  # nobody thought these texts
        else:
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


def test_states_belong_to_the_piece_that_set_the_phonemes_free():
    from antiphon.data.states import spelled_with

    spelled = spelled_with(["The", " capital", " of", " Italy", "."], Speller(Phonemizer()))
    assert "".join(phonemes for phonemes, _ in spelled) == Phonemizer()("The capital of Italy.")
    # How "the" is said depends on the word after it, and that one is over when the next begins.
    assert spelled[0] == ("ðə kˈæpəTᵊl", 2) and spelled[-1][1] == -1


@pytest.mark.parametrize(("held_out", "count"), [(0, 6), (2, 4), (24, 3)])
def test_no_more_than_half_is_held_out(task, held_out, count, tmp_path, capsys):
    task.data.held_out = held_out
    small = build_task(task.config)
    assert small.count == count and len(small.batch(0)["symbols"])
    if not held_out:
        small.sample(1, tmp_path / "samples")
        assert "nothing to speak, all 6 utterances train" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["mini/talker", "mini/talker-thinker", "mini/talker-manners", "omni-small/resync"])
def test_the_shipped_recipes_run(task, tmp_path, name):
    settings = {"data__codec": str(tmp_path / "codec"), "data__codes": str(tmp_path / "codes"), "data__frames": 30}
    if name != "mini/talker":
        task.export(tmp_path / "start")
        with ArrayWriter(tmp_path / "states", "states", {}) as writer:
            for number in range(6):
                writer.add({"id": str(number), "symbols": [0, 1, 2, -1]}, np.zeros((3, 4), np.float16))
        settings |= {"data__thinker__states": str(tmp_path / "states"), "init": str(tmp_path / "start")}
    sizes = {f"model__talker__{key}": value for key, value in SIZES.items()}
    folder = run_recipe(name, tmp_path / "run", **settings, **sizes)
    assert (folder / "model.safetensors").is_file()


def test_the_thinker_of_an_omni_can_be_the_one_that_is_read(task, tmp_path):
    backend = talking()
    backend.save(tmp_path / "omni")
    with CodesWriter(tmp_path / "said", CodecInfo.of(task.codec)) as writer:
        for number, text in enumerate(("Yes.", "The cat sat there.")):
            phones = [(phone, 0.01 * at, 0.01 * at + 0.01) for at, phone in enumerate(Phonemizer()(text))]
            writer.add(Coded(str(number), text, phones=phones), np.zeros((task.codec.codebooks, 8), np.int64))
    how = {"omni": str(tmp_path / "omni"), "states": str(tmp_path / "omni-states"), "count": 2}
    data = {**dataclasses.asdict(task.data), "codes": str(tmp_path / "said"), "thinker": how}
    sizes = {"talker": {**SIZES, "hidden": 32}}
    read = build_task(
        StageConfig(task="antiphon.train.tts.talker:TalkerTask", steps=1, out=str(tmp_path), model=sizes, data=data)
    )
    (pieces, states), *_ = omni_states(backend.model, backend.processor, ["The cat sat there."])
    hidden = read.states.hidden("1")
    assert "".join(pieces) == "The cat sat there." and hidden.shape[1] == 32
    rows = {tuple(np.round(row, 1)) for row in states.half().float().numpy()}
    assert rows >= {tuple(np.round(row, 1)) for row in hidden if row.any()} != set()
    read.data.thinker.drop = 0.0
    sum(each for each in read.losses(read.batch(0), "model").values() if each.requires_grad).backward()
    assert read.model.encoder.thinker.weight.grad.abs().sum() > 0


@torch.inference_mode()
def test_an_omnis_states_are_those_of_its_replies():
    backend, text = talking(), "the cat sat on the mat"
    model, processor = backend.model, backend.processor
    (pieces, hidden), other = omni_states(model, processor, [text, "the dog"])
    state = model.init_state()
    model.read(state, processor([*processor.opening(), {"role": "user", "content": ASKED}]))
    script = tuple(processor.plain.encode(text, add_special_tokens=False).ids)
    slow = [event.hidden for event in model.reply(state, None, ReplySettings(ends=backend.ends, script=script))]
    torch.testing.assert_close(hidden, torch.stack(slow[: len(script)]), atol=1e-4, rtol=1e-4)
    assert "".join(pieces) == text and len(other[1]) == len(other[0])


def test_who_has_a_context_always_reads_it(task, tmp_path):
    with CodesWriter(tmp_path / "said", CodecInfo.of(task.codec)) as writer:
        for number in range(6):
            context = [{"role": "user", "text": "Whisper."}] if number % 2 else []
            phones = [("n", 0.08, 0.2), ("O", 0.2, 0.3)]
            writer.add(
                Coded(str(number), "t", phones=phones, context=context), np.zeros((task.codec.codebooks, 6), np.int64)
            )
    with ArrayWriter(tmp_path / "states", "states", {}) as writer:
        for number in range(6):
            turns = 1 + number % 3
            states = np.full((turns, 4), 1.0 + number, np.float16) + 0.1 * np.arange(1 - turns, 1)[:, None]
            writer.add({"id": str(number), "symbols": []}, states.astype(np.float16))
    task.data.codes, task.config.model = str(tmp_path / "said"), {"talker": {**SIZES, "situation": 2}}
    task.data.thinker = ThinkerStates(states=str(tmp_path / "states"), count=6, drop=1.0)
    read = build_task(task.config)
    assert read.model.encoder.situation.mean[0] == pytest.approx(
        (1 + 1.9 + 2 + 2.8 + 2.9 + 3 + 4 + 4.9 + 5 + 17.7) / 12, 1e-3
    )
    batches = [read.batch(step)["hidden"] for step in range(20)]
    lasts = torch.cat([batch[:, -1, 0] for batch in batches])
    assert {0.0, 6.0} <= set(lasts.tolist()) <= {0.0, 2.0, 4.0, 6.0}
    whole = next(batch[row] for batch in batches for row in range(len(batch)) if batch[row, -1, 0] == 6.0)
    torch.testing.assert_close(whole[-3:, 0], torch.tensor([5.8, 5.9, 6.0]), atol=5e-3, rtol=0)
    losses = read.losses(read.batch(1), "model")
    sum(each for each in losses.values() if each.requires_grad).backward()
    assert read.model.encoder.situation.up.weight.grad.abs().sum() > 0
    read.data.thinker.drop = 0.0
    seen = torch.cat([read.batch(step)["hidden"][:, -1, 0] for step in range(20)])
    assert {1.0, 6.0} <= set(seen.tolist()) and seen.all()
