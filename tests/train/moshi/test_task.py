"""The duplex task: what is a target, the loss by hand, the stages' batches, recipes that run, resume."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from antiphon.codecs.mini.model import MiniCodec, MiniCodecConfig
from antiphon.data.codes import CodecInfo, Coded, CodesWriter
from antiphon.data.dialogue.codes import CodedDialogue, DialogueCodesWriter
from antiphon.data.dialogue.format import Word
from antiphon.errors import ConfigError
from antiphon.models.moshi.bundle import Duplex
from antiphon.models.moshi.config import MoshiConfig
from antiphon.models.moshi.weights import load
from antiphon.train import StageConfig, load_recipe, train
from antiphon.train.config import OptimConfig
from antiphon.train.engine import build_task
from antiphon.train.moshi.batches import speaking, swapped
from antiphon.train.moshi.task import DuplexTask, moments

CODEC = MiniCodecConfig(
    sample_rate=2400, hop=32, mels=10, mel_window=128, encoder_width=8, encoder_depth=1, decoder_widths=(8, 8, 8),
    decoder_depths=(1, 1, 1), latent=6, semantic_inner=4, inner=6, codebooks=3, codebook_size=16,
)  # fmt: skip
DEPTH = {"dim": 8, "heads": 2, "layers": 1, "inner": 8, "codebooks": 3}
MOSHI = {
    "dim": 16, "heads": 2, "layers": 1, "inner": 16, "context": 20, "text_card": 280, "codebooks": 3,
    "user_codebooks": 3, "card": 16, "delays": [0, 0, 1, 1, 0, 1, 1], "depth": DEPTH,
}  # fmt: skip
PAD, END_PAD = 3, 0
LENGTHS = [30, 12, 40, 25]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A codec, conversations, and a voice's codes, all tiny and random."""
    torch.manual_seed(0)
    codec = MiniCodec(CODEC)
    codec.save_pretrained(tmp_path / "codec")
    rng = np.random.default_rng(0)
    with DialogueCodesWriter(tmp_path / "talks", MiniCodec.from_pretrained(tmp_path / "codec")) as writer:
        for number, frames in enumerate(LENGTHS):
            codes = rng.integers(0, 16, (6, frames)).astype(np.int16)
            words = [Word("Yes.", 0.4, 0.6), Word("hello", 0.1, 0.3, "user"), Word("Well", 0.64, 0.8)]
            talk = CodedDialogue(codes, words, [], frames / 12.5, 12.5, f"talk-{number}")
            writer.add_coded(talk)
    return tmp_path


def write_voice(folder: Path, codec: MiniCodec) -> None:
    """Two utterances of a single voice."""
    phones = [("n", 0.2, 0.3), ("O", 0.3, 0.4), (" ", 0.4, 0.5), ("n", 0.5, 0.6)]
    with CodesWriter(folder, CodecInfo.of(codec)) as writer:
        for seed in range(2):
            codes = np.random.default_rng(seed).integers(0, codec.codebook_size, (codec.codebooks, 20))
            writer.add(Coded(str(seed), "Yes, well.", phones=phones), codes)


def make(folder: Path, moshi: dict | None = None, **data) -> DuplexTask:
    torch.manual_seed(0)
    fields = {"codec": str(folder / "codec"), "pieces": str(folder / "pieces"), "conversations": str(folder / "talks")}
    fields |= {"mix": {"conversations": 1.0}, "held_out": 1, "frames": 24}
    model = {"moshi": MOSHI | (moshi or {})}
    return build_task(
        StageConfig(
            task="antiphon.train.moshi.task:DuplexTask",
            steps=1,
            batch=4,
            out=str(folder),
            model=model,
            data=fields | data,
        )
    )


def test_batches_repeat_and_differ(folder):
    task = make(folder, noise=0.1, lost=0.1, depth_share=0.5)
    one, again, other = task.batch(3), task.batch(3), make(folder, noise=0.1, lost=0.1, depth_share=0.5).batch(4)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["target"], other["target"])


def test_no_target_past_the_end(folder):
    """The defect of moshi-finetune: positions past a clip's end trained as silence. Here: none."""
    task = make(folder, frames=60, from_start=1.0)
    for step in range(5):
        batch = task.batch(step)
        for row in range(4):
            text = batch["target"][row, 0]
            length = int((text >= 0).sum())
            assert length in LENGTHS[:3]  # the last is held out
            weight = batch["weight"][row]
            assert (weight[0, :length] > 0).all() and weight[0, length:].sum() == 0
            assert (weight[1, :length] > 0).all() and weight[1, length:].sum() == 0
            late = weight[2:]  # acoustic codes lag by one
            assert late[:, 0].sum() == 0 and (late[:, 1 : length + 1] > 0).all() and late[:, length + 1 :].sum() == 0
            assert not batch["keep"][row, length + 1 :].any() and batch["keep"][row, : length + 1].all()


def test_windows_are_drawn_by_length_and_reach_past_the_end_by_the_longest_delay_alone(folder):
    talks, frames = make(folder).talks, 20
    semantic = [talks.grid(i)[1] for i in range(4)]

    def place(row: torch.Tensor) -> tuple[int, int]:
        """Which conversation, from which frame on."""
        starts = ((i, start) for i, codes in enumerate(semantic) for start in range(len(codes)))
        return next((i, t) for i, t in starts if torch.equal(row, padded(semantic[i][t : t + frames], frames)))

    def draw(from_start: float) -> list[tuple[int, int]]:
        rng = np.random.default_rng(0)
        return [place(talks.window(rng, frames, 3, from_start, swap=0.0)[1]) for _ in range(500)]

    drawn = draw(0.0)
    assert drawn == draw(0.0)
    share = np.bincount([i for i, _ in drawn], minlength=4) / 500
    np.testing.assert_allclose(share, [30 / 82, 12 / 82, 40 / 82, 0], atol=0.05)  # the first three alone
    starts = [{start for which, start in drawn if which == i} for i in range(3)]
    assert starts == [set(range(30 + 1 - frames + 1)), {0}, set(range(40 + 1 - frames + 1))]
    assert {start for _, start in draw(1.0)} == {0}


def padded(codes: torch.Tensor, frames: int) -> torch.Tensor:
    return F.pad(codes, (0, frames - len(codes)), value=-1)


def test_loss_by_hand(folder):
    task = make(folder, depth_share=0.6, semantic=100.0, acoustic=1.0, padding=0.5)
    batch = task.batch(1)
    losses = task.losses(batch, "model")
    output = task.model(batch["delayed"], batch["keep"])
    total = weights = 0.0
    for row in range(4):
        for t in range(24):
            token = int(batch["target"][row, 0, t])
            if token >= 0:
                weight = 0.5 if token in (PAD, END_PAD) else 1.0
                total += weight * -torch.log_softmax(output.text[row, t], -1)[token]
                weights += weight
    torch.testing.assert_close(losses["text"], total / weights)
    total = weights = at = 0.0
    semantic = []
    kept = iter(output.codes)
    for row, t in batch["keep"].nonzero().tolist():
        logits = next(kept)
        for level in range(3):
            code = int(batch["target"][row, 1 + level, t])
            if code >= 0:
                weight, nats = 1.0 if level else 100.0, -torch.log_softmax(logits[level], -1)[code]
                total, weights, at = total + weight * nats, weights + weight, at + 1
                semantic += [nats] if level == 0 else []
    torch.testing.assert_close(losses["audio"], total / weights)
    torch.testing.assert_close(losses["semantic"], torch.stack(semantic).mean().detach())
    assert at > 0 and not losses["semantic"].requires_grad


def test_moments_by_hand():
    p, e, w = PAD, END_PAD, 50
    text = torch.tensor([[p, p, p, e, w, w, p, p, p, e, w, p, -1, -1]])
    found = moments(text, PAD, END_PAD, quiet=3)
    assert {name: mask[0].nonzero()[:, 0].tolist() for name, mask in found.items()} == {
        "words": [4, 5, 10], "onset": [3, 9], "end": [6], "quiet": [],
    }  # fmt: skip
    assert moments(torch.full((1, 6), p), PAD, END_PAD, quiet=3)["quiet"][0].tolist() == [False] * 3 + [True] * 3


def test_speaking_is_around_words():
    text = torch.full((1, 40), PAD)
    text[0, 20] = 50
    assert speaking(text, PAD, END_PAD)[0].nonzero()[:, 0].tolist() == list(range(18, 33))


def test_the_user_can_be_the_model(folder):
    task = make(folder, swap=1.0)
    talk = task.talks[0]
    other = swapped(talk)
    assert np.array_equal(other.codes[:3], talk.codes[3:]) and np.array_equal(other.codes[3:], talk.codes[:3])
    rows = task.talks.grid(0, swap=True)
    words = [token for token in rows[0].tolist() if token not in (PAD, END_PAD)]
    assert task.pieces.decode(words).strip() == "hello"
    assert torch.equal(rows[1:4], task.talks.grid(0)[4:])


def test_what_the_model_sees_is_disturbed_and_the_targets_are_not(folder):
    clean, task = make(folder).batch(2), make(folder, noise=0.3, lost=0.3)
    batch = task.batch(2)
    assert torch.equal(batch["target"], clean["target"]) and torch.equal(batch["weight"], clean["weight"])
    seen, target = batch["delayed"], batch["target"]
    assert torch.equal(seen[:, 0], target[:, 0])
    assert (seen[:, 1:4] != target[:, 1:4]).any() and ((seen[:, 1:4] < 0) == (target[:, 1:4] < 0)).all()
    lost = (seen[:, 4:] != target[:, 4:]).any(1)
    assert lost.any() and (seen[:, 4:].transpose(1, 2)[lost] == -1).all()


def test_text_alone_asks_for_no_codes(folder, monkeypatch):
    monkeypatch.setattr(DuplexTask, "_sentences", lambda self: ["Hello there.", "Yes, well, hello."] * 20)
    task = make(folder, mix={"text": 1.0}, text="texts", conversations=[])
    batch = task.batch(0)
    assert (batch["target"][:, 1:] == -1).all() and not batch["keep"].any()
    losses = task.losses(batch, "model")
    assert "audio" not in losses and float(losses["text"]) == pytest.approx(np.log(280), rel=0.1)


def test_listening_asks_for_the_users_words_a_little_later(folder):
    task = make(folder, {"text_card": 290}, from_start=1.0)
    listening = StageConfig(
        task="antiphon.train.moshi.task:DuplexTask",
        steps=1,
        batch=4,
        out="",
        data=task.data,
        model=dataclasses.replace(task.config.model, listen=0.32),
    )
    task = build_task(listening)
    batch = task.batch(0)
    assert batch["target"].shape[1] == 7 and batch["heard"].shape == (4, 1, 24)
    row = batch["heard"][0, 0].tolist()  # "hello" from 0.1 s on: frame 1, and 4 later
    assert row[:5] == [PAD] * 4 + [END_PAD] and row[5] > PAD
    states = []
    task.model.temporal.register_forward_hook(lambda module, given, made: states.append(made))
    losses, total, weights = task.losses(batch, "model"), 0.0, 0.0
    for logits, tokens in zip(task.model.listener(states[0]), batch["heard"][:, 0]):
        for scores, token in zip(logits, tokens.tolist()):
            if token >= 0:
                weight = 0.5 if token in (PAD, END_PAD) else 1.0
                total, weights = total - weight * torch.log_softmax(scores, -1)[token], weights + weight
    torch.testing.assert_close(losses["heard"], total / weights)
    task.export(folder / "model")  # the head isn't kept
    assert "listener" not in str(load(folder / "model").state_dict().keys())


def test_every_parameter_learns(folder):
    task = make(folder)
    losses = task.losses(task.batch(0), "model")
    assert float(losses["text"]) == pytest.approx(np.log(280), rel=0.1)
    assert float(losses["audio"]) == pytest.approx(np.log(16), rel=0.15)
    (losses["text"] + losses["audio"]).backward()
    for name, parameter in task.model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all() and parameter.grad.any(), name


def test_the_users_codes_can_be_predicted_too(folder):
    task = make(folder, {"depth": DEPTH | {"codebooks": 6}}, user=0.5, semantic=10.0)
    batch = task.batch(0)
    assert batch["weight"].shape[1] == 7 and set(batch["weight"][:, 4].unique().tolist()) == {0.0, 5.0}
    losses = task.losses(batch, "model")
    assert {"semantic", "acoustic", "user"} <= set(losses)
    output, targets = task.model(batch["delayed"], batch["keep"]), batch["target"].transpose(1, 2)[batch["keep"]]
    nats = F.cross_entropy(output.codes[:, 3:].transpose(1, 2), targets[:, 4:7], ignore_index=-1)
    torch.testing.assert_close(losses["user"], nats.detach())


def test_a_tiny_model_overfits_a_batch(folder):
    task = make(folder, {"dim": 32, "inner": 32, "depth": DEPTH | {"dim": 16}})
    optimizer, batch = torch.optim.AdamW(task.model.parameters(), 2e-2), task.batch(0)
    for _ in range(80):
        losses = task.losses(batch, "model")
        optimizer.zero_grad()
        (losses["text"] + losses["audio"]).backward()
        optimizer.step()
    assert float(losses["words"]) < 0.3 and float(losses["semantic"]) < 0.5 * np.log(16)


@pytest.mark.parametrize("stage", ["text", "audio", "post", "conversations", "instruct"])
def test_recipes_run(folder, stage, monkeypatch):
    """Each shipped recipe takes two steps with tiny sizes, on tiny data."""
    monkeypatch.setattr(DuplexTask, "_sentences", lambda self: ["Hello there.", "Yes, well, hello."] * 50)
    make(folder)  # the pieces
    write_voice(folder / "heart", MiniCodec.from_pretrained(folder / "codec"))
    lag = 2 if stage in ("text", "audio") else 1
    moshi = MOSHI | {"delays": [0, 0, lag, lag, 0, lag, lag]}
    recipe = load_recipe(f"recipes/duplex/{stage}.yaml", [f"out={folder}/run", "steps=2", "batch=2", "data.frames=16"])
    assert recipe.model.moshi.delays[2] == lag
    recipe.model.moshi, recipe.init = MoshiConfig.from_dict(moshi), None
    places = {"codec": "codec", "pieces": "pieces", "conversations": "talks", "speech": "heart"}
    for name, place in places.items():
        if was := getattr(recipe.data, name):
            setattr(recipe.data, name, [str(folder / place)] if isinstance(was, list) else str(folder / place))
    recipe.data.held_out = 1
    model = train(recipe)
    assert {path.name for path in model.iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}


def test_a_run_that_was_stopped_ends_as_one_that_was_not(folder):
    def config(out: str, steps: int) -> StageConfig:
        task = make(folder, noise=0.1, depth_share=0.5)
        optim = OptimConfig(warmup=2, schedule="constant", parts={"depth*": 0.5})
        return StageConfig(
            task="antiphon.train.moshi.task:DuplexTask", model=task.config.model, data=task.data, optim=optim,
            steps=steps, batch=2, precision="float32", sample_every=0, log_every=1, out=str(folder / out),
        )  # fmt: skip

    train(config("whole", 6))
    train(config("parts", 3))
    train(config("parts", 6))
    whole, parts = (torch.load(folder / name / "checkpoint.pt")["model"] for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_samples_are_written(folder):
    pytest.importorskip("matplotlib")
    task = make(folder, sample_seconds=2.0)
    task.model.eval()
    task.sample(7, folder / "samples")
    assert sorted(path.name for path in (folder / "samples").iterdir()) == [
        "000007-0.png", "000007-0.txt", "000007-0.wav",
    ]  # fmt: skip


def test_a_measure_is_asked(folder):
    task = make(folder, measure="tests.train.moshi.test_task:measured")
    assert task.measure(5, {}) == {"delay": 1.0} and make(folder).measure(5, {}) == {}
    assert make(folder, measure="known").measure(5, {"known": measured}) == {"delay": 1.0}
    with pytest.raises(ConfigError, match="data.measure"):
        make(folder, measure="nowhere:quick").measure(5, {})


def measured(duplex: Duplex) -> dict[str, float]:
    return {"delay": float(duplex.delay)}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"mix": {"conversation": 1.0}}, "data.mix"),
        ({"mix": {"audio": 1.0}}, "data.speech"),
        ({"held_out": 9}, "held_out"),
    ],
)
def test_recipes_that_cannot_be(folder, data, message):
    with pytest.raises(ConfigError, match=message):
        make(folder, **data)


@pytest.mark.parametrize("data", [{"held_out": 0}, {"samples": 0}, {"sample_seconds": 0.01}])
def test_where_there_is_nothing_to_sample_it_says_so(folder, capsys, data):
    task = make(folder, **data)
    task.model.eval()
    task.sample(7, folder / "samples")
    assert "sample 7: " in capsys.readouterr().err
