"""`antiphon eval duplex`: does it wait, answer, stop and say "mhm" when it should, and does it keep up?

    report = run(DuplexConfig(texts=Path("../shared/data/text")), Path("figures.json"))
    figures = quick(duplex, n=8)                                  # a dict, for training to look at now and then

Measured on any model whose session can be driven (full-duplex ones on a simulated clock, half-duplex ones in real
time), or on recordings alone. The definitions are those of `duplex_measures`, the conversations those of
`duplex_material`, and `duplex_drive` holds them.
"""

from __future__ import annotations

import hashlib
import json as jsonlib
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from antiphon.audio.io import Audio
from antiphon.data.dialogue.phrases import read_phrases
from antiphon.data.text.corpora import normalise
from antiphon.errors import EvalError
from antiphon.evals.assistant import run as mini
from antiphon.evals.assistant.run import Group
from antiphon.evals.duplex import speed as duplex_speed
from antiphon.evals.duplex.metrics import SLACK, Outcome, Vad
from antiphon.evals.duplex.recordings import recorded
from antiphon.evals.duplex.scenes import AFTER, TASKS, duplex_scenes
from antiphon.evals.duplex.simulate import Scene, Take, judge, play
from antiphon.evals.duplex.systems import duplex_of, room_of
from antiphon.evals.harness import Bench
from antiphon.evals.metrics.text import word_error_rate
from antiphon.evals.report import Figure, Report

JUDGED = 50  # answers that Whisper hears
EXAMPLES = 3  # conversations of each task that are drawn


@dataclass(frozen=True)
class DuplexConfig:
    """How to measure.

    Attributes:
        model: a preset, a folder or a hub id.
        parts: parts of it to replace.
        recordings: conversations that were recorded; then only these are measured, and no model is loaded.
        texts: folder of the text sources, to make the test conversations from.
        material: the test conversations; None is a folder in the cache.
        only: groups or figures to measure; empty measures all.
        n: most conversations a task (and minutes of the long one); None is each group's own number.
        keep: folder for every single outcome and the conversations' sound.
        seed: of everything sampled.
        batch: conversations at once.
    """

    model: str = "mini-duplex"
    parts: dict[str, str] = field(default_factory=dict)
    recordings: Path | None = None
    texts: Path | None = None
    material: Path | None = None
    only: tuple[str, ...] = ()
    n: int | None = None
    keep: Path | None = None
    seed: int = 0
    batch: int = 8


@dataclass
class Held:
    """A conversation that was held, and what came out.

    Attributes:
        id, task, voice: of its scene.
        outcome: measured.
        said: the model's words in its answer.
        intent: what it was asked last.
        cut: the conversation ended before the answer did.
        answer: its sound; None if there is none.
        take: both channels, kept of a few only.
    """

    id: str
    task: str
    voice: str
    outcome: Outcome
    said: str = ""
    intent: str = ""
    cut: bool = False
    answer: Audio | None = None
    take: Take | None = None

    def row(self) -> dict[str, Any]:
        """For JSON."""
        outcome = {key: _rounded(value) for key, value in asdict(self.outcome).items() if value is not None}
        return {"id": self.id, "voice": self.voice, "intent": self.intent, "said": self.said, **outcome}


def held(take: Take, vad: Vad = Vad()) -> Held:
    """A take, measured."""
    outcome, scene = judge(take, vad), take.scene
    intent = scene.intents[-1] if scene.intents else ""
    if outcome.reply is None:
        return Held(scene.id, scene.task, scene.voice, outcome, intent=intent, take=take)
    start, end = outcome.reply
    said = " ".join(word.text for word in take.words if start - SLACK <= word.start < end)
    first, last = (round(t * scene.sample_rate) for t in (max(0.0, start - 0.1), end + 0.1))
    answer = Audio(torch.from_numpy(take.model[first:last].copy()), scene.sample_rate)
    return Held(scene.id, scene.task, scene.voice, outcome, said, intent, end > take.seconds - 0.1, answer, take)


class DuplexBench(Bench):
    """One run: the model, its conversations and the judge, each made when first asked for.

    Args:
        config: how to measure.
    """

    config: DuplexConfig

    def __init__(self, config: DuplexConfig) -> None:
        super().__init__(config)
        self._held: dict[tuple[str, int], list[Held]] = {}
        self.examples: list[Take] = []

    @cached_property
    def recorded(self) -> list[Held]:
        """The cases in the recordings."""
        return [Held(identity, found.task, "", found) for identity, found in recorded(self.config.recordings)]

    def conversations(self, task: str, n: int) -> list[Held]:
        """`n` conversations of a task, held and measured (once)."""
        if self.config.recordings is not None:
            return [each for each in self.recorded if each.task == task][:n]
        if (task, n) not in self._held:
            folder = self.config.material or self.cached("duplex")
            scenes = duplex_scenes(folder, task, n, self.config.texts, self.config.seed)
            self._held[task, n] = self._hold(task, scenes)
            self.save_items(f"duplex-{task}", (each.row() for each in self._held[task, n]))
        return self._held[task, n]

    def _hold(self, task: str, scenes: Sequence[Scene]) -> list[Held]:
        from tqdm import tqdm

        room, at_once = room_of(self.model, self.config.batch)
        shown = {scene.id for scene in scenes[:EXAMPLES]}
        found = []
        with tqdm(total=len(scenes), desc=f"  {task}", unit="talk", file=sys.stderr, leave=False) as bar:
            for take in play(room, scenes, at_once, self.config.seed, lambda: bar.update(1)):
                one = held(take)
                if take.scene.id in shown:
                    self.examples.append(take)
                both = torch.from_numpy(take.model), torch.from_numpy(take.user)
                self.save_sound(take.scene.id, Audio(torch.stack(both), take.scene.sample_rate))
                one.take = None
                found.append(one)
        return sorted(found, key=lambda each: each.id)


def task_figures(task: str, found: Sequence[Held]) -> list[Figure]:
    """The figures of one task. Where no conversation has a latency, it is as long as the user waits: 10 s."""
    outcomes, n = [each.outcome for each in found], len(found)
    if not n:
        raise EvalError(f"There is no {task} to measure.")

    def share(name: str, field_name: str, bar: str | None, published: float | None) -> Figure:
        return Figure(name, statistics.fmean(getattr(o, field_name) for o in outcomes), "share", bar, published, n)

    def seconds(
        name: str, field_name: str, bar: str | None, mean: bool = False, published: float | None = None
    ) -> Figure:
        values = [v for o in outcomes if (v := getattr(o, field_name)) is not None]
        value = (statistics.fmean if mean else statistics.median)(values) if values else AFTER[1]
        return Figure(name, value, "s, mean" if mean else "s, median", bar, published, len(values))

    if task == "pause":
        return [
            share("pause-takeover", "takeover", "<= 0.4", 0.985),
            share("pause-takeover-published", "takeover_published", None, 0.985),
        ]
    if task == "turn":
        return [
            share("turn-takeover", "takeover", ">= 0.9", 0.941),
            share("turn-takeover-published", "takeover_published", None, 0.941),
            seconds("response-latency-s", "latency", "<= 0.8", published=0.265),
            seconds("response-latency-clipped-s", "latency_clipped", None, mean=True, published=0.265),
        ]
    if task == "interruption":
        return [
            share("interruption-takeover", "takeover", ">= 0.9", 1.0),
            share("interruption-takeover-published", "takeover_published", None, 1.0),
            seconds("interruption-latency-s", "latency", None),
            seconds("interruption-latency-clipped-s", "latency_clipped", None, mean=True),
            seconds("stop-latency-s", "stop", "<= 0.8"),
            seconds("stop-latency-published-s", "stop_published", None, mean=True),
        ]
    distances = [o.jsd for o in outcomes if o.jsd is not None]
    figures = [
        share("backchannel-takeover", "takeover", None, None),
        share("backchannel-takeover-published", "takeover_published", None, None),
        Figure("backchannel-frequency", statistics.fmean(o.frequency for o in outcomes), "1/s", None, None, n),
    ]
    if distances:
        figures.append(Figure("backchannel-jsd", statistics.fmean(distances), "distance", None, None, len(distances)))
    return figures


def _task(task: str) -> Callable[[DuplexBench, int], list[Figure]]:
    return lambda bench, n: task_figures(task, bench.conversations(task, n))


def fits(one: Held, replies: dict[str, tuple[str, ...]]) -> bool:
    """Whether the model's answer is one of the replies to what was asked; its beginning, where the end was cut off."""
    said = normalise(one.said)
    wanted = [normalise(reply) for reply in replies.get(one.intent, ())]
    return any(said == reply or (one.cut and said and reply.startswith(said)) for reply in wanted)


def fitness(bench: DuplexBench, n: int) -> list[Figure]:
    """The share of answers, after turns and after interruptions, that are replies to what was asked."""
    replies = read_phrases().by_intent
    figures = []
    for name, task in (("reply-intent-accuracy", "turn"), ("interruption-intent-accuracy", "interruption")):
        answers = [each for each in bench.conversations(task, n) if each.outcome.takeover]
        value = statistics.fmean(fits(each, replies) for each in answers) if answers else 0.0
        figures.append(Figure(name, value, "share", None, None, len(answers)))
    return figures


def spoken_words(bench: DuplexBench, n: int) -> list[Figure]:
    """Word error rate of the model's answers against its own inner monologue, as Whisper hears them."""
    answers = [each for each in bench.conversations("turn", n) if each.said and each.answer is not None][:JUDGED]
    if not answers:
        raise EvalError("The model gave no answer in words.")
    transcripts = bench.judged("its answers", [each.answer for each in answers])
    bench.save_items(
        "say-wer-duplex",
        [{"id": a.id, "said": a.said, "heard": heard} for a, heard in zip(answers, transcripts, strict=True)],
    )
    value = word_error_rate([each.said for each in answers], transcripts)
    return [Figure("say-wer-duplex", value, "WER", None, None, len(answers))]


GROUPS: dict[str, Group] = {
    "frame": Group(duplex_speed.frames, 5, ("frame-p50-ms", "frame-p95-ms"), alone=True),
    "batch": Group(duplex_speed.batch, 8, ("batch-8-speedup",), alone=True),
    "pause": Group(_task("pause"), 100, ("pause-takeover", "pause-takeover-published")),
    "turn": Group(
        _task("turn"), 100,
        ("turn-takeover", "turn-takeover-published", "response-latency-s", "response-latency-clipped-s"),
    ),
    "interruption": Group(
        _task("interruption"), 100,
        ("interruption-takeover", "interruption-takeover-published", "interruption-latency-s",
         "interruption-latency-clipped-s", "stop-latency-s", "stop-latency-published-s"),
    ),
    "backchannel": Group(
        _task("backchannel"), 100,
        ("backchannel-takeover", "backchannel-takeover-published", "backchannel-frequency", "backchannel-jsd"),
    ),
    "fitness": Group(fitness, 100, ("reply-intent-accuracy", "interruption-intent-accuracy")),
    "say": Group(spoken_words, 100, ("say-wer-duplex",)),
    "hour": Group(duplex_speed.hour, 60, ("hour-frame-time-ratio", "hour-memory-ratio"), alone=True),
}  # fmt: skip


def run(config: DuplexConfig, json: Path | None = None, resume: bool = False, picture: Path | None = None) -> Report:
    """Measures, telling stderr what is going on.

    Args:
        config: how and what.
        json: where the report is written after each group.
        resume: keep the figures of an earlier report at `json`, if it is of the same weights, and measure the others.
        picture: where a few of the conversations are drawn (.png).

    Raises:
        ConfigError: `only` names what there is not.
        EvalError: the JSON cannot be written, or (with `resume`) read.
        AntiphonError: not one group could be measured.
    """
    bench, groups = DuplexBench(config), GROUPS
    if config.recordings is not None:  # all that is in them
        there = {each.task for each in bench.recorded}
        groups = {task: replace(GROUPS[task], n=len(bench.recorded)) for task in TASKS if task in there}
    report = mini.run(config, json, resume, 1, groups, fingerprints, bench)
    if picture is not None and bench.examples:
        draw_examples(bench.examples, picture)
    return report


def fingerprints(bench: DuplexBench) -> dict[str, Any]:
    """What the figures are of: sha256 (first 12 digits) of the weights, or of all that the recordings gave."""
    config = bench.config
    if config.recordings is not None:
        rows = jsonlib.dumps([(each.id, each.row()) for each in bench.recorded])
        return {"recordings": hashlib.sha256(rows.encode()).hexdigest()[:12]}
    duplex = duplex_of(bench.model)
    if duplex is None:
        return {"model": config.model, **config.parts}
    found = {}
    for name in ("moshi", "codec"):
        digest = hashlib.sha256()
        for key, value in sorted(getattr(duplex, name).state_dict().items()):
            digest.update(key.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        found[name] = digest.hexdigest()[:12]
    return found


def draw_examples(takes: Sequence[Take], path: Path) -> Path:
    """Who speaks when in a few conversations."""
    from antiphon.evals.duplex.picture import draw

    order = {task: i for i, task in enumerate(TASKS)}
    return draw(sorted(takes, key=lambda take: (order[take.scene.task], take.scene.id)), path)


def quick(
    model: Any,
    n: int = 8,
    folder: Path | None = None,
    texts: Path | None = None,
    tasks: Sequence[str] = TASKS,
    seed: int = 0,
) -> dict[str, float]:
    """The figures of a few conversations of each task: for a look during training, a minute or so on two cores.

    Args:
        model: as `antiphon.evals.duplex.systems.room_of` takes it.
        n: conversations of each task, all in one batch.
        folder: the test conversations; None is the folder in the cache.
        texts: to make those that are missing from.
        tasks: some of `TASKS`.
        seed: of what the model draws.

    Returns:
        Figure name -> value; with "turn", "reply-intent-accuracy" too.

    Raises:
        DataError: test conversations are missing and there are no texts.
    """
    from antiphon import hub

    folder = folder or hub.cache_dir() / "eval" / "duplex"
    replies, figures = read_phrases().by_intent, {}
    moshi = getattr(model, "moshi", None)
    training = moshi is not None and moshi.training
    if training:
        moshi.eval()
    try:
        for task in tasks:
            room, at_once = room_of(model, n)
            found = [held(take) for take in play(room, duplex_scenes(folder, task, n, texts), at_once, seed)]
            figures |= {figure.name: figure.value for figure in task_figures(task, found)}
            if task == "turn":
                answers = [fits(each, replies) for each in found if each.outcome.takeover]
                figures["reply-intent-accuracy"] = statistics.fmean(answers) if answers else 0.0
    finally:
        if training:
            moshi.train()
    return figures


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 3)
    return [round(t, 3) for t in value] if isinstance(value, tuple) else value
