"""How fast a thinker thinks: tokens a second, prompts, loading and memory, beside named peers of the same weights.

The peers are `transformers` in float32 and, where it is installed, llama.cpp (`llama-cpp-python`). Both read what the
thinker was packed from, a GGUF file; `transformers` reads a folder as well. In each process ours and the peers take
turns (see `compare`): a step is one token read behind a prompt, with its logits; a prompt is read at once.

Torch's kernels for AVX2 are measured with `ATEN_CPU_CAPABILITY=avx2` in the environment, which the report notes.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from antiphon import hub
from antiphon.bench.compare import (
    Progress,
    Times,
    add_worst,
    check_known,
    in_turns,
    missing,
    on_threads,
    start_report,
)
from antiphon.evals.machine import in_fresh_process, memory_bytes
from antiphon.evals.report import Figure, Report
from antiphon.models.llm.load import load_causal_lm

GROUPS = ("step", "rows", "prompt", "load")
PEERS = ("transformers", "llama_cpp")
# Tokens a second, seconds for 64 tokens of a prompt, and the speed of a step over the peers'.
BARS: dict[str, dict[str, str]] = {
    "base": {"step": ">= 18", "64": "<= 0.6", "transformers": ">= 5", "llama_cpp": ">= 0.6"},
    "small": {"step": ">= 45", "transformers": ">= 5", "llama_cpp": ">= 0.6"},
}
PROMPTS = (64, 256)
ROWS = 4
BEFORE = 64  # tokens that a step has before it
Side = Callable[[int], object]


@dataclass(frozen=True)
class ThinkerBenchConfig:
    """What to measure.

    Attributes:
        model: a preset, a folder, or a GGUF file.
        reference: what a packed folder was made from, for the peers: a GGUF file or a folder of `transformers`; None:
            the model itself, where they can read it.
        only: groups, see `GROUPS`.
        threads: numbers of threads; where there are several, a figure is the worst of them.
        steps: tokens that are timed, after a few that aren't.
        rounds: prompts of each length, likewise.
    """

    model: str = "mini"
    reference: Path | None = None
    only: tuple[str, ...] = GROUPS
    threads: tuple[int, ...] = (1, 2)
    steps: int = 30
    rounds: int = 3

    def __post_init__(self) -> None:
        check_known(self.only, GROUPS, "group")


def bench_thinker(
    config: ThinkerBenchConfig, progress: Progress = lambda line: None, json: Path | None = None
) -> Report:
    """Runs the bench.

    Args:
        config: what to measure.
        progress: is told what is done.
        json: where the report is written after each measurement; None writes none.

    Raises:
        EvalError: a process failed.
        HubError: the model can't be had.
    """
    report = start_report(PEERS, config.threads, progress)
    report.environment["ATEN_CPU_CAPABILITY"] = os.environ.get("ATEN_CPU_CAPABILITY")
    folder, reference = _places(config)
    peers = [peer for peer in PEERS if can_read(peer, reference) and not missing([peer])]
    for peer in [peer for peer in PEERS if peer not in peers and not missing([peer])]:
        progress(f"{peer} can't read {reference}: what is measured against it is skipped (--reference GGUF)")
    found: dict[str, dict[str, Any]] = {group: {} for group in GROUPS}
    for group in config.only:
        for threads in config.threads:
            progress(f"{group}, {on_threads(threads)}")
            fields = {"group": group, "folder": str(folder), "reference": str(reference), "threads": threads}
            fields |= {"steps": config.steps, "rounds": config.rounds}
            if group == "load":
                sides = {side: fields | {"side": side} for side in ("ours", *peers)}
                measured = {
                    side: in_fresh_process(load, each, f"Loading {side}", threads) for side, each in sides.items()
                }
            else:
                measured = in_fresh_process(work, fields | {"peers": peers}, group, threads)
            found[group][on_threads(threads)] = measured
            report.figures.clear()
            _report(report, found, BARS.get(config.model, {}))
            if json is not None:
                report.save(json)
    return report


def _places(config: ThinkerBenchConfig) -> tuple[Path, Path]:
    """The thinker's folder (of a GGUF file: what it is packed into), and what peers read."""
    presets = {preset.name: preset for preset in hub.PRESETS}
    if config.model in presets:
        folder = hub.folder(presets[config.model].parts["thinker"])
        return folder, config.reference or folder
    return hub.folder(config.model), config.reference or Path(config.model)


def can_read(peer: str, reference: Path) -> bool:
    """Whether a peer can read these weights: llama.cpp reads GGUF alone, and nobody our packed folders."""
    if reference.suffix == ".gguf":
        return True
    return peer == "transformers" and "quantization_config" not in (reference / "config.json").read_text("utf-8")


def work(fields: dict[str, Any]) -> Times | dict[str, Times]:
    """One job, in a process of its own: seconds of the sides' rounds; of prompts, by length."""
    torch.set_num_threads(fields["threads"])
    with torch.inference_mode():
        sides = {side: OPENERS[side](fields) for side in ("ours", *fields["peers"])}
        if fields["group"] == "prompt":
            lengths = {str(n): {name: side.prompt(n) for name, side in sides.items()} for n in PROMPTS}
            return {n: in_turns(each, fields["rounds"], 1) for n, each in lengths.items()}
        rows = ROWS if fields["group"] == "rows" else 1
        steps = {name: side.step(rows) for name, side in sides.items() if rows == 1 or side.batches}
        return in_turns(steps, fields["steps"], 3)


def load(fields: dict[str, Any]) -> tuple[float, float]:
    """In a process of its own: seconds until a side has the model in memory, with its library's import but
    not PyTorch's, and the most gigabytes that the process held until it had read a prompt."""
    torch.set_num_threads(fields["threads"])
    start = time.perf_counter()
    side = OPENERS[fields["side"]](fields)
    seconds = time.perf_counter() - start
    with torch.inference_mode():
        side.prompt(BEFORE)(0)
    return seconds, memory_bytes("VmHWM") / 1e9


class Ours:
    """The thinker's language model."""

    batches = True

    def __init__(self, fields: Mapping[str, Any]):
        self.model = load_causal_lm(fields["folder"])

    def prompt(self, length: int) -> Side:
        """Reads so many tokens, and gives the logits after them."""
        return lambda i: self._read(_tokens(1, length, i), self.model.init_cache(1))

    def step(self, rows: int) -> Side:
        """Reads one more token in each row."""
        cache = self.model.init_cache(rows)
        self._read(_tokens(rows, BEFORE, 0), cache)
        return lambda i: self._read(_tokens(rows, 1, i), cache)

    def _read(self, tokens: torch.Tensor, cache: Any) -> torch.Tensor:
        return self.model.logits(self.model(self.model.embed(tokens), cache)[:, -1])


class Transformers:
    """`transformers` in float32, as its `generate` calls it."""

    batches = True

    def __init__(self, fields: Mapping[str, Any]):
        from antiphon.evals.assistant.packed import Reference

        self.model = Reference(Path(fields["reference"])).model
        gc.collect()

    def prompt(self, length: int) -> Side:
        """See `Ours`."""
        return lambda i: self.model(_tokens(1, length, i), use_cache=True, logits_to_keep=1).logits

    def step(self, rows: int) -> Side:
        """See `Ours`."""
        cache = self.model(_tokens(rows, BEFORE, 0), use_cache=True, logits_to_keep=1).past_key_values
        return lambda i: self.model(_tokens(rows, 1, i), past_key_values=cache, use_cache=True).logits


class LlamaCpp:
    """llama.cpp, by `llama-cpp-python`, on as many threads; one row."""

    batches = False

    def __init__(self, fields: Mapping[str, Any]):
        from llama_cpp import Llama

        threads = {"n_threads": fields["threads"], "n_threads_batch": fields["threads"]}
        self.model = Llama(fields["reference"], n_ctx=2048, verbose=False, **threads)

    def prompt(self, length: int) -> Side:
        """See `Ours`."""

        def read(i: int) -> None:
            self.model.reset()
            self.model.eval(_tokens(1, length, i)[0].tolist())

        return read

    def step(self, rows: int) -> Side:
        """See `Ours`."""
        self.model.eval(_tokens(1, BEFORE, 0)[0].tolist())
        return lambda i: self.model.eval(_tokens(1, 1, i)[0].tolist())


OPENERS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "ours": Ours, "transformers": Transformers, "llama_cpp": LlamaCpp,
}  # fmt: skip


def _tokens(rows: int, count: int, seed: int) -> torch.Tensor:
    """Ids [rows, count] that every vocabulary has."""
    return torch.randint(10, 250, (rows, count), generator=torch.Generator().manual_seed(seed))


def _report(report: Report, found: dict[str, dict[str, Any]], bars: Mapping[str, str]) -> None:
    """The figures: of the steps in tokens a second, of prompts in seconds, each beside the peers'."""
    for group, rows, bar in (("step", 1, bars.get("step")), ("rows", ROWS, None)):
        name = "thinker-tokens-per-s" if rows == 1 else f"thinker-tokens-per-s-{rows}-rows"
        # The machine has as many cores as the most threads: that is the speed that is asked for.
        for label, times in found[group].items():
            speed = {side: rows / statistics.median(seconds) for side, seconds in times.items()}
            asked = bar if label == list(found[group])[-1] else None
            report.add(_figure(name, label, speed["ours"], "tokens/s", asked, speed.get("transformers"), times))
    for label, by_length in found["prompt"].items():
        for length, times in by_length.items():
            took = {side: statistics.median(seconds) for side, seconds in times.items()}
            asked = bars.get(length) if label == list(found["prompt"])[-1] else None
            name = f"thinker-prompt-{length}-s"
            report.add(_figure(name, label, took["ours"], "s", asked, took.get("transformers"), times))
    for peer in PEERS:
        title = peer.replace("_", "-")
        _speedups(report, f"thinker-step-vs-{title}", found["step"], peer, bars.get(peer))
        _speedups(report, f"thinker-rows-vs-{title}", found["rows"], peer, None)
        for length in map(str, PROMPTS):
            lengths = {label: by_length[length] for label, by_length in found["prompt"].items()}
            _speedups(report, f"thinker-prompt-{length}-vs-{title}", lengths, peer, None)
    for label, sides in found["load"].items():
        for at, (what, unit) in enumerate((("load-s", "s"), ("memory-gb", "GB"))):
            reference = sides["transformers"][at] if "transformers" in sides else None
            report.add(_figure(f"thinker-{what}", label, sides["ours"][at], unit, None, reference, {"ours": [0.0]}))
            if "llama_cpp" in sides:
                name = f"llama-cpp-{what}"
                report.add(_figure(name, label, sides["llama_cpp"][at], unit, None, None, {"ours": [0.0]}))


def _figure(
    name: str, label: str, value: float, unit: str, bar: str | None, reference: float | None, times: Times
) -> Figure:
    return Figure(f"{name}-{label.replace(' ', '-')}", value, unit, bar, reference, len(times["ours"]))


def _speedups(report: Report, name: str, found: Mapping[str, Times], peer: str, bar: str | None) -> None:
    """Our speed over a peer's, the worst of them first."""
    ratios = {}
    for label, times in found.items():
        if peer in times:
            mine, theirs = statistics.median(times["ours"]), statistics.median(times[peer])
            ratios[label] = (theirs / mine, f"{1000 * theirs:.0f} / {1000 * mine:.0f} ms", len(times["ours"]))
    add_worst(report, name, ratios, "speed over theirs", bar, min)
