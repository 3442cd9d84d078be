"""Full-Duplex-Bench v2 (Lin et al. 2025, arXiv 2510.07838): conversations that an examiner held with the model.

Its orchestrator holds them: its adapter for OpenAI's Realtime talks to `antiphon serve`, too. What it leaves lies in
`full_duplex_bench/v2/` of the data's folder as it writes it: for each task A.json and B.json, the words of examiner and
model with their times, in a folder that is named by the task (Safety.privacy.026); beside them its eval_prompts.json
and prompts_staged_*.json. A judge reads what its scripts give theirs, and what it says is scored as scoring/score.py
does; where NAME_processed.json of its own judge is there, that is taken.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from antiphon.errors import AntiphonError, ConfigError, DataError, EvalError
from antiphon.evals.cache import ResultCache, key_of
from antiphon.evals.rows import spread
from antiphon.evals.tables.items import Item, Measured, measured
from antiphon.evals.tables.speech.measure import Judge

SOURCE = "https://github.com/DanielLin94144/Full-Duplex-Bench/tree/main/v2"
EVENTS, TASK = "Turn-taking event and score", "Task-specific score"
SUBSETS = {"daily": "", "correction": "correction", "entitytracking": "entity_tracking", "safety": "safety"}
TOKENS = 2000  # of what the judge says


# What its scripts compute.


def parsed(said: str) -> dict[str, Any]:
    """The scores in what a judge says: JSON, perhaps between fences.

    Raises:
        EvalError: there are none.
    """
    start, decoder = said.find("{"), json.JSONDecoder()
    while start >= 0:
        try:
            found, _ = decoder.raw_decode(said, start)
        except ValueError:
            found = None
        if isinstance(found, dict) and (EVENTS in found or TASK in found):
            return {EVENTS: list(_events(found.get(EVENTS))), TASK: _number(found.get(TASK))}
        start = said.find("{", start + 1)
    raise EvalError(f"the judge gives no scores but {said[:60]!r}")


def _events(rows: Any) -> Iterator[list[Any]]:
    """[[start, end], turn taking, instruction following] of each event; several intervals with one score are as many
    events."""
    for row in rows if isinstance(rows, list) else ():
        if not isinstance(row, list) or len(row) < 3:
            continue
        for interval in _intervals(row[:-2]):
            yield [interval, _number(row[-2]), _number(row[-1])]


def _intervals(of: Any) -> Iterator[list[float]]:
    if isinstance(of, list) and len(of) == 2 and all(isinstance(one, (int, float, str)) for one in of):
        times = [_seconds(one) for one in of]
        if None not in times:
            yield times
        return
    for one in of if isinstance(of, list) else ():
        yield from _intervals(one)


def _seconds(told: Any) -> float | None:
    """Seconds of 83.5, "83.5" or "1:23.5"."""
    total = 0.0
    for part in str(told).strip().strip("\"'").split(":"):
        try:
            total = 60 * total + float(part)
        except ValueError:
            return None
    return total


def _number(told: Any) -> int | None:
    try:
        return int(float(told))
    except (TypeError, ValueError):
        return None


def means(judged: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Mean turn taking and instruction following over all events, mean task score over the conversations that have
    one; each 1 to 5."""
    events = [row for one in judged for row in one[EVENTS] if row[1] is not None and row[2] is not None]
    tasks = [one[TASK] for one in judged if one.get(TASK) is not None]
    found = {}
    if events:
        found["turn taking"] = sum(row[1] for row in events) / len(events)
        found["instruction following"] = sum(row[2] for row in events) / len(events)
    if tasks:
        found["task"] = sum(tasks) / len(tasks)
    return found


# Its conversations.


def prompt(prompts: dict[str, Any], subset: str, stages: dict[str, str], examiner: Any, model: Any) -> str:
    """What the judge is asked, of the benchmark's own prompts."""
    parts = {"SYSTEM INSTRUCTION": prompts["system_prompt"]}
    parts["TURN-TAKING FLUENCY RUBRIC"] = prompts["turn_taking_fluency_prompt"]
    parts["MULTI-TURN INSTRUCTION-FOLLOWING RUBRIC"] = prompts["multi_turn_instruction_following_prompt"]
    special = {one["id"]: one["prompt"] for one in prompts["task_specific_prompts"]}
    if SUBSETS[subset]:
        parts["TASK-SPECIFIC RUBRIC"] = special[SUBSETS[subset]]
    parts["OUTPUT FORMAT"] = prompts["output_format_prompt"]
    goals = "\n".join(f"{stage}: {stages.get(stage, '')}" for stage in ("T1", "T2", "T3", "T4"))
    timed = "\n".join(f"[{start:.2f}, {end:.2f}]: {chunk['text']}" for chunk in model["chunks"]
                      for start, end in [chunk["timestamp"]])  # fmt: skip
    texts = "\n\n".join(f"{head}:\n{text.strip()}" for head, text in parts.items())
    return (
        f"{texts}\n\nDataset staged goals (T1-T4):\n{goals}\n\nChannel A (Examiner):\n{examiner['text']}\n\n"
        f"Channel B (Examinee):\n{model['text']}\n\nChannel B (Examinee) segments with timestamps:\n{timed}\n\n"
        "Use time ranges from the timestamps of Channel B, and answer with the JSON alone."
    )


def _staged(folder: Path) -> dict[str, dict[str, str]]:
    """The goals of each task, wherever in the files of prompts they stand."""
    found: dict[str, dict[str, str]] = {}

    def walk(node: Any) -> None:
        if isinstance(node, dict) and isinstance(node.get("staged_reveal"), dict):
            found[str(node.get("id"))] = node["staged_reveal"]
        for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            walk(child)

    for path in sorted(folder.glob("**/prompts_staged*.json")):
        walk(json.loads(path.read_text(encoding="utf-8")))
    return found


def measure_examined(
    name: str,
    data: Path,
    n: int | None = None,
    seed: int = 0,
    cache: ResultCache | None = None,
    judge: Judge | None = None,
) -> tuple[Measured, list[Item]]:
    """Scores conversations that the benchmark's orchestrator held.

    Args:
        name: of the task.
        data: folder of the sets.
        n: conversations at most, at even distances over all.
        seed: kept with the items.
        cache: of what the judge said.
        judge: needed where the benchmark's own hasn't judged.

    Raises:
        DataError: there are none, or not as they are published.
        ConfigError: a judge is needed and isn't there.
    """
    folder, cache, start = data / "full_duplex_bench" / "v2", cache or ResultCache(), time.perf_counter()
    talks = sorted({path.parent for path in folder.glob("**/B.json")})
    if not talks:
        raise DataError(f"{name}: no conversations here ({folder}); {SOURCE} holds them, with antiphon serve.")
    items, results = [], []
    for place in spread(talks, n or len(talks)):
        task, fault, said, prompted, found = place.name, "", "", "", {EVENTS: [], TASK: None}
        try:
            own = next((path for path in sorted(place.glob("*_processed.json"))), None)
            if own is not None:
                said = own.read_text(encoding="utf-8")
            elif judge is None:
                raise ConfigError(f"{name} needs a judge: --judge with an endpoint's address, or self.")
            else:
                prompted = _prompted(folder, place, task)
                key = key_of(judge.system.name, name, prompted)
                said = cache.get([key], lambda _, asked=prompted: [judge.says(asked, TOKENS)])[0]
            found = parsed(said)
        except ConfigError:
            raise
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise DataError(f"{place} isn't as the orchestrator leaves it ({error!r}): see {SOURCE}.") from error
        except AntiphonError as error:
            fault = str(error)
        results.append(found)
        score = means([found]).get("turn taking", 1.0)
        more = {"judged": found, "subset": task.partition(".")[0]}
        items.append(Item(task, prompted[:200], said, "5", (score - 1) / 4, seed, more, fault))

    def turn_taking(these: Sequence[Item]) -> float:
        return means([item.more["judged"] for item in these]).get("turn taking", 1.0)

    by = f"judged by {judge.system.name}" if judge else "judged by the benchmark's own judge"
    figure = measured(
        items, turn_taking, task=name, title="Full-Duplex-Bench v2", row="duplex", metric="turn taking, 1 to 5",
        size=len(talks), seconds=time.perf_counter() - start, notes=(by, "held by the benchmark's orchestrator"),
    )  # fmt: skip
    return replace(figure, more={key: value for key, value in means(results).items() if key != "turn taking"}), items


def _prompted(folder: Path, place: Path, task: str) -> str:
    subset = re.sub(r"[^a-z]", "", task.partition(".")[0].lower())
    if subset not in SUBSETS:
        raise KeyError(f"no subset {subset}")
    files = sorted(folder.glob("**/eval_prompts*.json"))
    stages = _staged(folder).get(task)
    if not files or stages is None:
        raise KeyError(f"no {'eval_prompts.json' if not files else 'goals of ' + task} in {folder}")
    prompts, examiner, model = (
        json.loads(path.read_text(encoding="utf-8")) for path in (files[-1], place / "A.json", place / "B.json")
    )
    return prompt(prompts, subset, stages, examiner, model)
