"""How many tokens a second training learns from, beside `transformers`' Trainer and TRL's DPOTrainer.

Same sizes, same examples, same arithmetic, in one process, in turns: ours learns from packed rows by the engine, the
peers from rows padded to the longest of a batch, as they do by default, and by their own loops. Tokens are those of the
examples, without padding. Before anything is timed, both must give the same loss on the same examples.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from antiphon.bench.compare import Progress, check_known, missing, start_report
from antiphon.data.formats.example import Example
from antiphon.data.packing import pack, stack
from antiphon.errors import EvalError
from antiphon.evals.machine import in_fresh_process
from antiphon.evals.report import Figure, Report
from antiphon.models.llm.llama import Llama, LlamaConfig, own_key
from antiphon.train.config import OptimConfig, StageConfig
from antiphon.train.engine import Trainer
from antiphon.train.objectives.preference import answer_log_probabilities, dpo

GROUPS = ("lm", "dpo")
PEERS = {"lm": "transformers", "dpo": "trl"}
BAR = ">= 1.2"
Side = Callable[[int], float]
"""Takes a round's steps; returns tokens a second."""


@dataclass(frozen=True)
class TrainBenchConfig:
    """What to measure.

    Attributes:
        only: groups, see `GROUPS`.
        width, layers, vocabulary: of the model.
        batch: examples (or pairs) of a batch.
        shortest, longest: lengths of examples, in tokens; all in between are as frequent.
        learnt: share of an example's tokens, at its end, that are learnt, as those of replies and formats are.
        steps: of a round.
        rounds: of each side, after one that isn't counted.
        threads: of the processor.
    """

    only: tuple[str, ...] = GROUPS
    width: int = 256
    layers: int = 4
    vocabulary: int = 8192
    batch: int = 8
    shortest: int = 20
    longest: int = 300
    learnt: float = 0.6
    steps: int = 5
    rounds: int = 5
    threads: int = 1

    def __post_init__(self) -> None:
        check_known(self.only, GROUPS, "group")
        object.__setattr__(self, "only", tuple(self.only))

    @property
    def sizes(self) -> LlamaConfig:
        """Of our model."""
        return LlamaConfig(
            hidden_size=self.width, intermediate_size=8 * self.width // 3 // 32 * 32, num_hidden_layers=self.layers,
            num_attention_heads=self.width // 64, num_key_value_heads=self.width // 64, head_dim=64,
            vocab_size=self.vocabulary, rope_theta=10000.0, max_position_embeddings=4096,
        )  # fmt: skip

    def example(self, number: int, fixed: int = 0) -> Example:
        """An example; the first `fixed` tokens of those of a number are the same."""
        rng, shared = np.random.default_rng(number), np.random.default_rng(number // 2)
        length = int(rng.integers(max(self.shortest, fixed + 2), self.longest + 1))
        tokens = np.concatenate(
            [shared.integers(self.vocabulary, size=fixed), rng.integers(self.vocabulary, size=length)]
        )
        weights = np.zeros(fixed + length, np.float32)
        weights[fixed or -max(1, int(self.learnt * length)) :] = 1.0
        return Example(tokens, weights)


@dataclass
class BenchModel:
    """No choice but the bench's own."""

    bench: TrainBenchConfig = dataclasses.field(default_factory=TrainBenchConfig)
    """See there."""


@dataclass
class BenchData:
    """Nothing."""


def token_losses(llama: Llama, batch: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Nats of the tokens that have weight [n], and where they stand [rows, length - 1]."""
    tokens, weights, segments = batch
    wanted = weights[:, 1:] != 0
    hidden = llama(llama.embed(tokens[:, :-1]), segments=segments[:, :-1])
    return F.cross_entropy(llama.logits(hidden[wanted]), tokens[:, 1:][wanted], reduction="none"), wanted


class BenchTask:
    """A language model's loss on made examples, packed."""

    Model, Data = BenchModel, BenchData

    def __init__(self, config: StageConfig):
        self.config, self.bench = config, config.model.bench
        self.model = Llama(self.bench.sizes)

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        examples = [self.bench.example(step * self.bench.batch + place) for place in range(self.bench.batch)]
        return stack(pack(examples, 2 * self.bench.longest))

    def tokens(self, batch: tuple[Tensor, ...]) -> int:
        return int((batch[2] > 0).sum())

    def weights(self, batch: tuple[Tensor, ...]) -> dict[str, float]:
        return {"loss": float(batch[1][:, 1:].sum())}

    def losses(self, batch: tuple[Tensor, Tensor, Tensor], group: str) -> dict[str, Tensor]:
        return {"loss": token_losses(self.model, batch)[0].mean()}

    def sample(self, step: int, folder: Path) -> None:
        """Has nothing to show."""

    def export(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {name: each.contiguous() for name, each in self.model.state_dict().items()}, folder / "model.safetensors"
        )


class PairTask(BenchTask):
    """DPO on made pairs that share their prompts, the reference's log-probabilities kept, as the tasks that learn from
    preferences have it (`antiphon.train.objectives`)."""

    def batch(self, step: int) -> tuple[Tensor, ...]:
        chosen, rejected = pairs(self.bench, range(step * self.bench.batch, (step + 1) * self.bench.batch))
        return stack([*chosen, *rejected])

    def losses(self, batch: tuple[Tensor, Tensor, Tensor], group: str) -> dict[str, Tensor]:
        return {"preference": pair_loss(self.model, batch, self.reference(batch))}

    def reference(self, batch: tuple[Tensor, ...]) -> Tensor:
        """Made numbers: what they are costs nothing, as those that were kept."""
        return torch.zeros(2, len(batch[0]) // 2)


def pairs(config: TrainBenchConfig, numbers: Sequence[int]) -> tuple[list[Example], list[Example]]:
    """The better and the worse sides."""
    prompt = config.longest // 3
    return [config.example(2 * n, prompt) for n in numbers], [config.example(2 * n + 1, prompt) for n in numbers]


def pair_loss(llama: Llama, batch: tuple[Tensor, Tensor, Tensor], reference: Tensor) -> Tensor:
    """The loss of DPO, all better sides first."""
    tokens, weights, _ = batch
    wanted = weights[:, 1:] != 0
    scores = llama.logits(llama(llama.embed(tokens[:, :-1]))[wanted])
    rows, targets = wanted.nonzero()[:, 0], tokens[:, 1:][wanted]
    logs, _ = answer_log_probabilities(scores, targets, torch.ones(len(rows)), rows, len(tokens))
    return dpo(*logs.view(2, -1), *reference).mean()


def bench_train(config: TrainBenchConfig, progress: Progress = lambda line: None) -> Report:
    """Runs the bench.

    Raises:
        EvalError: a process failed, or two sides don't compute the same.
    """
    report = start_report([PEERS[group] for group in config.only], [config.threads], progress)
    for group in config.only:
        if missing([PEERS[group]]):
            continue
        fields = {"group": group, "config": dataclasses.asdict(config)}
        for name, (ours, theirs) in in_fresh_process(measure, fields, f"training, {group}", config.threads).items():
            mine, peer = statistics.median(ours), statistics.median(theirs)
            progress(f"{name}: {mine:.0f} tokens/s, {peer:.0f} by {PEERS[group]}")
            bar = BAR if name == group else None
            report.add(Figure(f"train-{name}-over-{PEERS[group]}", mine / peer, "tokens/s", bar, None, len(ours)))
            report.add(Figure(f"train-{name}-tokens-per-second", mine, "tokens/s", None, peer, len(ours)))
    return report


def measure(fields: dict[str, Any]) -> dict[str, tuple[list[float], list[float]]]:
    """Tokens a second of ours and of the peer, round by round, of each comparison of a group."""
    from antiphon.bench import train_peers

    config = TrainBenchConfig(**fields["config"])
    torch.set_num_threads(config.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours, theirs = Llama(config.sizes), train_peers.llama(config.sizes)
        weights = {own_key(key): each for key, each in theirs.state_dict().items() if not key.startswith("lm_head")}
        ours.load_state_dict(weights)
        if fields["group"] == "lm":
            examples = [config.example(number) for number in range(config.batch)]
            one = token_losses(ours, stack(pack(examples, 2 * config.longest)))[0].mean()
            _same(one, train_peers.lm_loss(theirs, examples))
            every = [config.example(number) for number in range(config.batch * config.steps)]
            peer = train_peers.trainer(theirs, every, config.batch, folder)
            sides = {"lm": (_engine("BenchTask", config, folder), peer)}
        else:
            chosen, rejected = pairs(config, range(config.batch * config.steps))
            few = stack([*chosen[: config.batch], *rejected[: config.batch]])
            held = train_peers.answer_logs(theirs, few).view(2, -1)
            with torch.no_grad():
                own = pair_loss(ours, few, torch.zeros_like(held))
            _same(own, dpo(*held, *torch.zeros_like(held)).mean())
            engine = _engine("PairTask", config, folder)
            sides = {
                name: (engine, train_peers.dpo_trainer(theirs, chosen, rejected, config.batch, folder, kept))
                for name, kept in (("dpo", False), ("dpo-reference-kept", True))
            }
        return {name: _in_turns(*pair, config.rounds) for name, pair in sides.items()}


def _same(ours: Tensor, theirs: Tensor) -> None:
    if not torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4):
        raise EvalError(
            f"the two sides don't compute the same: a loss of {float(ours.detach())} against {float(theirs)}"
        )


def _in_turns(ours: Side, theirs: Side, rounds: int) -> tuple[list[float], list[float]]:
    found: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for which in (0, 1) if number % 2 else (1, 0):
            speed = (ours, theirs)[which](number)
            if number:
                found[which].append(speed)
    return found


def _engine(task: str, config: TrainBenchConfig, folder: Path) -> Side:
    def run(number: int) -> float:
        stage = StageConfig(
            task=f"antiphon.bench.train:{task}", model=BenchModel(config), steps=config.steps, batch=config.batch,
            precision="float32", optim=OptimConfig(lr=1e-4, warmup=0), sample_every=0, log_every=1_000_000,
            out=str(folder / f"ours-{number}"), threads=config.threads,
        )  # fmt: skip
        trainer = Trainer(stage, torch.device("cpu"))
        trainer.run()
        return trainer.spent.tokens / trainer.spent.seconds

    return run
