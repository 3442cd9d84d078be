"""One run of `antiphon eval duplex`: the model, its dialogues, and what came of each."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from antiphon.audio.io import Audio
from antiphon.evals.duplex.metrics import WORD_LEAD_SECONDS, Outcome
from antiphon.evals.duplex.recordings import recorded
from antiphon.evals.duplex.scenarios import load_scenarios
from antiphon.evals.duplex.simulate import RecordedDialogue, Scenario, simulate
from antiphon.evals.duplex.systems import duplex_of, system_under_test
from antiphon.evals.harness import EvalConfig, Evaluation

MAX_EXAMPLES = 3  # dialogues of each task that are drawn


@dataclass(frozen=True)
class DuplexConfig(EvalConfig):
    """How to measure; see also `EvalConfig`. `n` is also the minutes of the long dialogue.

    Attributes:
        recordings: dialogues that were recorded; then only these are measured, and no model is loaded.
        texts: folder of the text sources, to make the scenarios from.
        material: the scenarios; None is a folder in the cache.
        batch: dialogues at once.
        mode: of a model that takes turns, see `system_under_test`.
        sounds: recordings of sounds, to make the conversations with noises from.
        meetings: recordings whose manifest says who speaks when, for `turn-change`.
    """

    model: str = "mini-duplex"
    recordings: Path | None = None
    texts: Path | None = None
    material: Path | None = None
    batch: int = 8
    mode: str = "full-duplex"
    sounds: Path | None = None
    meetings: Path | None = None


@dataclass
class Result:
    """What came of one dialogue.

    Attributes:
        id, task, voice: of its scenario.
        outcome: measured.
        said: the model's words in its answer.
        intent: what it was asked last.
        cut: the dialogue ended before the answer did.
        answer: its sound; None if there is none.
    """

    id: str
    task: str
    voice: str
    outcome: Outcome
    said: str = ""
    intent: str = ""
    cut: bool = False
    answer: Audio | None = None

    @classmethod
    def of(cls, dialogue: RecordedDialogue) -> Result:
        """A dialogue, measured."""
        outcome, scenario = dialogue.outcome(), dialogue.scenario
        result = cls(scenario.id, scenario.task, scenario.voice, outcome, intent="".join(scenario.intents[-1:]))
        if outcome.reply is not None:
            start, end = outcome.reply
            lead = start - WORD_LEAD_SECONDS
            result.said = " ".join(word.text for word in dialogue.words if lead <= word.start < end)
            result.cut = end > dialogue.seconds - 0.1
            first, last = (round(t * scenario.sample_rate) for t in (max(0.0, start - 0.1), end + 0.1))
            result.answer = Audio(torch.from_numpy(dialogue.model[first:last].copy()), scenario.sample_rate)
        return result

    def row(self) -> dict[str, Any]:
        """For JSON."""
        outcome = {name: value for name, value in asdict(self.outcome).items() if value is not None}
        return {"id": self.id, "voice": self.voice, "intent": self.intent, "said": self.said, **outcome}


class DuplexEvaluation(Evaluation):
    """What the figures of turn taking share.

    Args:
        config: how to measure.
    """

    config: DuplexConfig

    def __init__(self, config: DuplexConfig) -> None:
        super().__init__(config)
        self._results: dict[tuple[str, int], list[Result]] = {}
        self.examples: list[RecordedDialogue] = []

    @cached_property
    def recorded(self) -> list[Result]:
        """The cases in the recordings."""
        assert self.config.recordings is not None
        return [Result(identity, found.task, "", found) for identity, found in recorded(self.config.recordings)]

    def scenarios(self, task: str, n: int) -> list[Scenario]:
        """The first `n` of a task."""
        folder = self.config.material or self.cached("duplex")
        return load_scenarios(folder, task, n, self.config.texts, self.config.seed, self.config.sounds)

    def results(self, task: str, n: int) -> list[Result]:
        """Of `n` dialogues of a task, held and measured once."""
        if self.config.recordings is not None:
            return [each for each in self.recorded if each.task == task][:n]
        if (task, n) not in self._results:
            results = sorted(self._hold(task, self.scenarios(task, n)), key=lambda each: each.id)
            self.save_items(f"duplex-{task}", (each.row() for each in results))
            self._results[task, n] = results
        return self._results[task, n]

    def _hold(self, task: str, scenarios: Sequence[Scenario]) -> Iterator[Result]:
        shown = {scenario.id for scenario in scenarios[:MAX_EXAMPLES]}
        with tqdm(total=len(scenarios), desc=f"  {task}", unit="talk", file=sys.stderr, leave=False) as bar:
            for dialogue in hold(self.model, scenarios, self.config, bar.update):
                scenario = dialogue.scenario
                if scenario.id in shown:
                    self.examples.append(dialogue)
                both = torch.stack((torch.from_numpy(dialogue.model), torch.from_numpy(dialogue.user)))
                self.save_sound(scenario.id, Audio(both, scenario.sample_rate))
                yield Result.of(dialogue)

    def fingerprints(self) -> dict[str, Any]:
        """What the figures are of: sha256 (first 12 digits) of the weights, or of all that the recordings gave."""
        config = self.config
        if config.recordings is not None:
            rows = json.dumps([(each.id, each.row()) for each in self.recorded])
            return {"recordings": hashlib.sha256(rows.encode()).hexdigest()[:12]}
        duplex = duplex_of(self.model)
        if duplex is None:
            return {"model": config.model, "mode": config.mode, **config.parts}
        found = {}
        for name in ("moshi", "codec"):
            digest = hashlib.sha256()
            for key, value in sorted(getattr(duplex, name).state_dict().items()):
                digest.update(key.encode() + value.detach().cpu().contiguous().numpy().tobytes())
            found[name] = digest.hexdigest()[:12]
        return found


def hold(
    model: Any, scenarios: Sequence[Scenario], config: DuplexConfig, progress: Callable[[], Any] = lambda: None
) -> Iterator[RecordedDialogue]:
    """`simulate` with a model of any kind, as many dialogues at once as it can hold, at most `config.batch`."""
    system, at_once = system_under_test(model, config.batch, config.mode)
    return simulate(system, scenarios, at_once, config.seed, progress)
