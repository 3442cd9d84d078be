"""The task that trains any codec: gradients where they should be, one batch overfits, processes agree, recipes load."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from antiphon.data.speech.utterances import SpeechWriter, Utterance
from antiphon.errors import ConfigError
from antiphon.nn.quantize import Quantized, SplitQuantizer
from antiphon.train import StageConfig, train
from antiphon.train.codec.task import TokenizerTask, TrainableCodec
from antiphon.train.config import OptimConfig
from antiphon.train.engine import build_task, freeze

RATE = 8000


@dataclass
class TinyConfig:
    """Sizes of the stand-in."""

    width: int = 16
    strides: tuple[int, ...] = (8, 10)
    codebooks: int = 3
    codebook_size: int = 8


class Tiny(nn.Module):
    """The smallest codec that has everything: two convolutions each way around Mimi's quantizer."""

    sample_rate, channels = RATE, 1

    def __init__(self, config: TinyConfig):
        super().__init__()
        self.config, (a, b), w = config, config.strides, config.width
        self.frame_rate = RATE / (a * b)
        self.codebooks, self.codebook_size = config.codebooks, config.codebook_size
        self.encoder = nn.Sequential(nn.Conv1d(1, w, a, a), nn.ELU(), nn.Conv1d(w, w, b, b))
        self.decoder = nn.Sequential(nn.ConvTranspose1d(w, w, b, b), nn.ELU(), nn.ConvTranspose1d(w, 1, a, a))
        self.quantizer = SplitQuantizer(w, 8, 1, config.codebooks - 1, config.codebook_size)

    def latents(self, audio: Tensor) -> Tensor:
        return self.encoder(audio).transpose(1, 2)

    def quantized(self, latents: Tensor, used: Tensor | None = None) -> Quantized:
        return self.quantizer.quantized(latents, used)

    def synthesize(self, latents: Tensor) -> Tensor:
        return self.decoder(latents.transpose(1, 2))

    def encode(self, audio: Tensor, codebooks: int | None = None) -> Tensor:
        return self.quantizer.encode(self.latents(audio))[:, :codebooks]

    def decode(self, codes: Tensor) -> Tensor:
        return self.synthesize(self.quantizer.decode(codes))

    def save_pretrained(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(dataclasses.asdict(self.config)))
        save_file(self.state_dict(), folder / "model.safetensors")


class Hearing(nn.Module):
    """A teacher: the loudness of each frame of 20 ms, in a few random directions."""

    sample_rate, frame_rate, width = 16000, 50.0, 4

    def __init__(self):
        super().__init__()
        self.directions = nn.Parameter(torch.randn(1, 4))

    def forward(self, audio: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        loud = audio.unfold(1, 320, 320).square().mean(-1, keepdim=True).log1p()
        return loud @ self.directions, torch.full((len(audio),), loud.shape[1])


@pytest.fixture
def folder(tmp_path):
    """Four utterances of two seconds: chords that change."""
    rng, time = np.random.default_rng(0), np.arange(RATE // 2) / RATE
    with SpeechWriter(tmp_path / "speech", RATE) as writer:
        for index in range(4):
            pitches = rng.uniform(100, 900, (4, 3))
            sound = np.concatenate([np.sin(2 * np.pi * pitch[:, None] * time).sum(0) for pitch in pitches])
            writer.add(Utterance(id=str(index), text="", voice="chord"), 0.2 * sound)
    return tmp_path / "speech"


STFT = {"windows": [64, 128], "channels": 2}
PERIOD = {"periods": [2, 3], "channels": [2, 4]}
ALL = {"mel": 1.0, "convergence": 0.5, "wave": 0.1, "adversarial": 1.0, "matching": 1.0, "commitment": 0.5}


def config(folder, out="unused", model=None, data=None, **fields) -> StageConfig:
    tiny = {"family": "tests.train.codec.test_task:Tiny", "mel_windows": [128, 256], "mel_bins": [10, 20]}
    model = {**tiny, "stft": STFT, "period": PERIOD, **(model or {})}
    data = {"speech": [str(folder)], "seconds": 0.5, "check": 1, **(data or {})}
    defaults = dict(
        objective=ALL, steps=4, batch=3, precision="float32", log_every=2, sample_every=100, threads=1,
        optim=OptimConfig(lr=2e-3, warmup=0, schedule="constant", clip=10.0),
    )  # fmt: skip
    return StageConfig(
        task="antiphon.train.codec.task:TokenizerTask", model=model, data=data, out=str(out), **defaults | fields
    )


def step(task: TokenizerTask, batch, group: str) -> dict[str, Tensor]:
    """One group's losses, weighed as the engine weighs them, and their gradients."""
    task.model.train()
    task.model.zero_grad()
    losses = task.losses(batch, group)
    weights = task.config.objective
    sum(weights.get(name, 1.0) * loss for name, loss in losses.items() if loss.requires_grad).backward()
    return losses


def with_teacher(monkeypatch, folder, weight=1.0, **model) -> TokenizerTask:
    monkeypatch.setattr("antiphon.train.codec.task.load_features", lambda name, layer: Hearing())
    return build_task(config(folder, model={"teacher": {}, **model}, objective={**ALL, "distillation": weight}))


@pytest.mark.parametrize("balance", [True, False])
def test_each_player_has_the_gradients_it_should_have(folder, monkeypatch, balance):
    torch.manual_seed(0)
    task = with_teacher(monkeypatch, folder, balance=balance)
    assert isinstance(task.model.codec, TrainableCodec)
    batch = task.batch(0)
    losses = step(task, batch, "model")
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert {"mel", "matching", "adversarial", "commitment", "distillation", "audio"} <= set(losses)
    for name, parameter in task.model.named_parameters():
        if name.startswith("adversary"):  # the codec's loss goes through the judges without moving them
            assert parameter.grad is None, name
        else:
            assert torch.isfinite(parameter.grad).all() and parameter.grad.abs().sum() > 0, name
    step(task, batch, "adversary")
    for name, parameter in task.model.named_parameters():
        if name.startswith("adversary"):
            assert parameter.grad is not None and (parameter.ndim < 2 or parameter.grad.abs().sum() > 0), name
        else:
            assert parameter.grad is None, name
    assert task.teacher.directions.grad is None


@pytest.mark.parametrize(
    ("objective", "falls"),
    [({"mel": 1.0, "commitment": 0.5}, "mel"), ({"adversarial": 1.0, "matching": 2.0, "commitment": 0.5}, "matching")],
    ids=["reconstruction", "adversarial only"],
)
def test_one_batch_overfits(folder, objective, falls):
    torch.manual_seed(0)
    task = build_task(config(folder, objective=objective, data={"seconds": 0.25}, batch=2))
    batch, values = task.batch(0), []
    optimizers = {
        name: torch.optim.Adam([p for n, p in task.model.named_parameters() if n.startswith(globs[0][:-1])], lr=rate)
        for (name, globs), rate in zip(task.optimizer_groups.items(), (1e-2, 1e-4))
    }
    for _ in range(40):
        for group, optimizer in optimizers.items():
            losses = step(task, batch, group)
            optimizer.step()
            if group == "model":
                values.append({name: float(loss.detach()) for name, loss in losses.items()})
    assert ("adversary" in optimizers) == ("adversarial" in objective)
    start, end = (np.mean([each[falls] for each in part]) for part in (values[:3], values[-3:]))
    assert end < 0.75 * start, (start, end)
    assert values[-1]["mel"] < values[0]["mel"]


def test_distillation_reaches_the_first_codebook_alone(folder, monkeypatch):
    torch.manual_seed(0)
    task = with_teacher(monkeypatch, folder)
    losses = task.losses(task.batch(0), "model")
    losses["distillation"].backward()
    quantizer = task.model.codec.quantizer
    assert quantizer.semantic.inward.weight.grad.abs().sum() > 0
    assert quantizer.acoustic.inward.weight.grad is None
    assert all(parameter.grad is None for parameter in task.model.codec.decoder.parameters())


def test_a_codec_may_keep_the_map_to_its_teacher(folder, monkeypatch):
    monkeypatch.setattr(
        Tiny, "project_to_teacher", lambda self, first: first[..., : self.config.codebooks + 1], raising=False
    )
    task = with_teacher(monkeypatch, folder)
    assert not list(task.model.distillation.parameters())
    step(task, task.batch(0), "model")
    assert task.model.codec.quantizer.semantic.inward.weight.grad.abs().sum() > 0
    monkeypatch.setattr(Tiny, "project_to_teacher", lambda self, first: first, raising=False)
    with pytest.raises(ConfigError, match="teacher of width 16"):
        with_teacher(monkeypatch, folder)


def test_rows_that_skip_quantization_go_round_it(folder):
    torch.manual_seed(0)
    task = build_task(config(folder, data={"skip": 0.5}))
    batch = next(batch for batch in map(task.batch, range(20)) if batch["skip"].tolist() == [True, False, True])
    seen, codec = [], task.model.codec
    codec.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].transpose(1, 2)))
    codec.eval()
    task.losses(batch, "model")
    latents = codec.latents(batch["audio"])
    torch.testing.assert_close(seen[0][[0, 2]], latents[[0, 2]])
    assert (seen[0][1] - latents[1]).abs().max() > 1e-3


def test_batches_follow_the_step_and_the_settings(folder):
    task = build_task(config(folder, data={"dropout": 0.5, "skip": 0.3}, batch=100))
    batch, again = task.batch(7), task.batch(7)
    assert all(torch.equal(batch[key], again[key]) for key in ("audio", "used", "skip"))
    assert not torch.equal(batch["audio"], task.batch(8)["audio"])
    assert batch["audio"].shape == (100, 1, RATE // 2)
    assert 0.2 < (batch["used"] < 3).float().mean() < 0.47 and batch["used"].min() == 1
    assert 0.15 < batch["skip"].float().mean() < 0.45


def test_other_throats_levels_and_rooms(folder):
    def strongest(rows: Tensor) -> Tensor:
        return torch.fft.rfft(rows[:, 0] * torch.hann_window(rows.shape[-1])).abs().argmax(-1).unique()

    plain = build_task(config(folder, batch=40)).batch(0)["audio"]
    task = build_task(
        config(folder, data={"speed": (0.7, 1.4), "peak": (-20.0, -6.0), "noisy": 0.5, "dropout": 0.3}, batch=40)
    )
    batch = task.batch(0)
    assert all(torch.equal(value, task.batch(0)[name]) for name, value in batch.items() if name != "step")
    assert batch["audio"].shape == batch["given"].shape == (40, 1, RATE // 2)
    assert len(strongest(batch["audio"])) > len(strongest(plain))  # more pitches than the set has
    peaks = 20 * batch["audio"].abs().amax((1, 2)).log10()
    assert -20.5 < peaks.min() < -17 and -9 < peaks.max() < -5.5
    noisy = (batch["given"] != batch["audio"]).any(-1)[:, 0]
    assert 8 < noisy.sum() < 32
    seen = []
    task.model.codec.latents, was = lambda audio: seen.append(audio) or was(audio), task.model.codec.latents
    clean = task.losses({**batch, "given": batch["audio"]}, "model")["wave"]
    assert task.losses(batch, "model")["wave"] != clean and torch.equal(seen[-1], batch["given"])


def test_codebooks_learn_only_while_the_encoder_does(folder):
    task = build_task(config(folder))
    codes = task.model.codec.quantizer.semantic.codebooks[0].codes
    step(task, task.batch(0), "model")
    before = codes.clone()
    step(task, task.batch(1), "model")
    assert not torch.equal(before, codes)
    freeze(task.model, ["codec.decoder.*"])
    before = codes.clone()
    step(task, task.batch(2), "model")
    assert torch.equal(before, codes)


def test_judges_wait_as_long_as_they_are_told(folder):
    task = build_task(config(folder, model={"patience": 1}))
    assert "adversarial" not in step(task, task.batch(0), "model")
    assert (
        task.skips_update(0, "adversary")
        and not task.skips_update(0, "model")
        and not task.skips_update(1, "adversary")
    )
    assert "adversarial" in step(task, task.batch(1), "model")
    assert float(step(task, task.batch(1), "adversary")["discriminator"].detach()) > 0


def test_judges_learn_in_as_many_steps_as_they_are_told(folder, tmp_path):
    """Alone for two steps, then in two of three; what they hold of the steps in which they rest moves nothing."""
    task = build_task(config(folder, model={"patience": 1, "ahead": 2, "learn": 2 / 3}))
    assert [task.skips_update(n, "adversary") for n in range(9)] == [True, False, False, *[True, False, False] * 2]

    def judged(steps: int) -> dict[str, Tensor]:
        model = {"patience": 1, "learn": 0.5}
        train(config(folder, tmp_path / str(steps), model=model, steps=steps, accumulate=2, optim=constant))
        return torch.load(tmp_path / str(steps) / "checkpoint.pt", weights_only=True)["model"]

    constant = OptimConfig(lr=1e-3, warmup=0, schedule="constant")
    names = [name for name in judged(3) if name.startswith("adversary.")]
    runs = {steps: judged(steps) for steps in (3, 4, 5)}
    assert all(torch.equal(runs[3][name], runs[4][name]) for name in names)
    assert not any(torch.equal(runs[4][name], runs[5][name]) for name in names if "original1" in name)


def test_all_that_a_loss_needs_moves_with_the_model(folder):
    task = build_task(config(folder))
    task.model.to("meta")
    for name, value in vars(task).items():
        if isinstance(value, nn.Module):
            assert all(tensor.is_meta for tensor in (*value.parameters(), *value.buffers())), name
    assert all(buffer.is_meta for buffer in task.model.mel.buffers())


def test_a_codec_that_was_stopped_ends_as_one_that_was_not(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("antiphon.train.codec.task.load_features", lambda name, layer: Hearing())
    monkeypatch.setattr(Hearing, "__init__", still(Hearing.__init__))
    batch, stop_at = TokenizerTask.batch, []

    def stopping(self, step: int):
        if step in stop_at:
            stop_at.clear()
            os.kill(os.getpid(), signal.SIGTERM)
        return batch(self, step)

    def run(name: str) -> dict[str, Tensor]:
        model = {"teacher": {}, "patience": 1, "ahead": 2, "learn": 0.5}
        more = {"data": {"dropout": 0.5, "skip": 0.5}, "objective": {**ALL, "distillation": 1.0}, "accumulate": 2}
        train(config(folder, tmp_path / name, model=model, steps=8, **more))
        return torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["model"]

    monkeypatch.setattr(TokenizerTask, "batch", stopping)
    whole = run("whole")
    stop_at.append(9)
    run("parts")
    assert torch.load(tmp_path / "parts" / "checkpoint.pt", weights_only=True)["step"] == 5
    parts = run("parts")
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


def still(make):
    """A constructor whose random numbers are always the same."""

    def made(self, *args):
        with torch.random.fork_rng():
            torch.manual_seed(5)
            make(self, *args)

    return made


def test_a_run_writes_the_codec_its_sound_and_scores(folder, tmp_path):
    pytest.importorskip("pystoi")
    out = train(config(folder, tmp_path / "run", sample_every=2, accumulate=2))
    assert "quantizer.semantic.codebooks.0.codes" in load_file(out / "model.safetensors")
    scores = [json.loads(line) for line in (tmp_path / "run" / "samples" / "scores.jsonl").open()]
    assert [score["step"] for score in scores] == [2, 4] and len(scores[0]["codes"]) == 3
    assert (tmp_path / "run" / "samples" / "000004-0.wav").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"family": "antiphon.nowhere:Codec"}}, "no codec"),
        ({"model": {"family": "antiphon.nn.conv:ConvNeXtBlock"}}, "no codec"),
        ({"model": {"codec": {"widht": 4}}}, "widht"),
        ({"model": {"teachers": 1}}, "teachers"),
        ({"data": {"speech": []}}, "names no recordings"),
        ({"objective": {"mels": 1.0}}, "mels"),
        ({"model": {"stft": None, "period": None}}, "are null"),
        ({"objective": {"distillation": 1.0}}, "teacher is null"),
    ],
)
def test_bad_recipes_say_what_is_wrong(folder, changes, message):
    with pytest.raises(ConfigError, match=message):
        build_task(config(folder, **changes))


@pytest.mark.slow
def test_two_processes_have_the_same_codebooks(folder, tmp_path):
    """Under torchrun, on different batches, with dead codes on the way; judges come in at the same step."""
    script = tmp_path / "go.py"
    script.write_text(f"""
import os, torch
from antiphon.train import engine
from tests.train.codec.test_task import config
made = {{}}
build = engine.build_task
engine.build_task = lambda c: made.setdefault("task", build(c))
from antiphon.nn.quantize import Codebook
start = Codebook.__init__
Codebook.__init__ = lambda self, size, dim, decay=0.5, dead=0.6: start(self, size, dim, 0.5, 0.6)
data = {{"dropout": 0.5, "skip": 0.5}}
model = {{"codec": {{"codebook_size": 64}}, "patience": 3, "ahead": 2, "learn": 0.5}}
engine.train(config({str(folder)!r}, {str(tmp_path / "run")!r}, steps=12, data=data, model=model))
torch.save(made["task"].model.state_dict(), {str(tmp_path)!r} + "/rank" + os.environ["RANK"] + ".pt")
""")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29541", str(script)]
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1))
    assert any(name.endswith("codes") for name in first)
    for name in first:
        torch.testing.assert_close(first[name], second[name], atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("data", [{"hours": 8.0}, {"check": 12}, {"hours": 8.0, "seconds": 5.0}])
def test_a_small_set_trains_and_tells_what_it_cannot_sample(folder, tmp_path, capsys, data):
    model = train(config(folder, tmp_path / "run", data=data, sample_every=2, steps=2))
    assert (model / "model.safetensors").is_file()
    assert ("nothing to listen to" in capsys.readouterr().out) == ("hours" in data)


def test_a_single_utterance_trains_and_none_is_refused(folder, tmp_path):
    for name, count in (("one", 1), ("none", 0)):
        with SpeechWriter(tmp_path / name, RATE) as writer:
            for index in range(count):
                writer.add(Utterance(id=str(index), text="", voice="noise"), np.linspace(-0.1, 0.1, RATE // 4))
    assert train(config(tmp_path / "one", tmp_path / "run", sample_every=2, steps=2)).is_dir()
    with pytest.raises(ConfigError, match="none holds no utterance to train on"):
        build_task(config(tmp_path / "none"))
