"""The duplex row: the benchmarks' layouts, and their scripts' scores on recorded outputs."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from antiphon.audio.io import Audio
from antiphon.data.dialogue.format import Word
from antiphon.errors import ConfigError, DataError
from antiphon.evals.cache import ResultCache
from antiphon.evals.tables.duplex import eot_bench, examined, tool_talks
from antiphon.evals.tables.duplex.full_duplex_bench import TASKS, distance, latency, listens, takes_turn
from antiphon.evals.tables.duplex.measure import measure_duplex
from antiphon.evals.tables.speech.measure import Judge

RATE = 24_000
TASK_NOTES = {
    "v1.0/synthetic_pause_handling": ("pause", [{"timestamp": [0.5, 1.0]}]),
    "v1.0/candor_pause_handling": ("pause", [{"timestamp": [0.5, 1.0]}]),
    "v1.0/icc_backchannel": ("transcription", {"text": "", "chunks": []}),
    "v1.0/candor_turn_taking": ("turn_taking", [{"timestamp": [1.0, 1.0]}]),
    "v1.0/synthetic_user_interruption": (
        "interrupt", [{"context": "Tell me of Rome.", "interrupt": "No, of Athens.", "timestamp": [0.4, 1.0]}],
    ),
    **{
        f"v1.5/{name}": ("metadata", {"timestamps": [0.8, 1.4], "current_turn_text": "Wait", "context_text": "Go on"})
        for name in ("user_interruption", "user_backchannel", "talking_to_other", "background_speech")
    },
}  # fmt: skip


class Speaking:
    """A model that is silent for a second, says two words, and listens again; or says what it is given."""

    sample_rate, frame_samples = RATE, 1920

    def __init__(self, begins: float = 1.2, ends: float = 2.4) -> None:
        self.begins, self.ends, self.frames, self.joined = begins, ends, {}, 0

    def join(self, seed: int) -> int:
        self.joined += 1
        self.frames[self.joined] = 0
        return self.joined

    def step(self, frames):
        found = {}
        for handle in frames:
            self.frames[handle] += 1
            time = self.frames[handle] * 0.08
            found[handle] = 0.3 * torch.ones(1920) * (self.begins <= time < self.ends)
        return found

    def leave(self, handle: int) -> list[Word]:
        said = ["I", "see", "what", "you", "mean"] if self.ends - self.begins > 1 else ["Mm"]
        return [Word(text, self.begins + 0.1 * at, self.begins + 0.1 * at + 0.1) for at, text in enumerate(said)]


def write_talks(data: Path) -> Path:
    """Ten talks of each task as they are published, 3 s each."""
    tone = torch.sin(torch.arange(3 * 16_000) * 0.1) * 0.2
    for place, (name, notes) in TASK_NOTES.items():
        for number in range(1, 11):
            folder = data / "full_duplex_bench" / place / str(number)
            folder.mkdir(parents=True)
            Audio(tone, 16_000).save(folder / "input.wav")
            if place.startswith("v1.5"):
                Audio(tone, 16_000).save(folder / "clean_input.wav")
            (folder / f"{name}.json").write_text(json.dumps(notes))
    listeners = {str(number): [0.1, 0.5, 0.3, 0.1] for number in range(1, 11)}
    (data / "full_duplex_bench" / "icc_gt_distribution.json").write_text(json.dumps(listeners))
    return data


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> Path:
    return write_talks(tmp_path_factory.mktemp("duplex"))


class Saying:
    name = "a judge"

    def __init__(self, says: str) -> None:
        self.says = says

    def answer(self, prompt, audio=None, max_tokens=None):
        return self.says


@pytest.mark.parametrize("name", TASKS)
def test_a_task_runs_on_talks_as_they_are_published(name: str, sets: Path, tmp_path: Path) -> None:
    judge = Judge(Saying("4")) if name == "fdb_interruption" else Judge(Saying("respond"))
    figure, items = measure_duplex(name, TASKS[name], Speaking(), sets, judge=judge, talks=tmp_path)
    assert figure.n == figure.size == 10 and not figure.faults and figure.row == "duplex", items[0]
    assert len({item.id for item in items}) == 10
    kept = tmp_path / name / "1"
    assert (kept / "output.wav").is_file() and json.loads((kept / "output.json").read_text())["chunks"]
    expected = {
        "fdb_pause_synthetic": (100, {}), "fdb_pause_candor": (100, {}), "fdb_turn_taking": (100, {"latency": 0.2}),
        "fdb_interruption": (100, {"latency": 0.2, "rating": 4.0}),
    }  # fmt: skip
    if name in expected:
        value, more = expected[name]
        assert figure.value == value and figure.more == pytest.approx(more, abs=0.01)
    if name == "fdb_backchannel":
        assert figure.value == 100 and figure.more["frequency"] == pytest.approx(1 / 3, abs=0.01)
        assert 0 < figure.more["jsd"] < 0.84
    if name.startswith("fdb15"):
        assert (kept / "clean_output.wav").is_file()
        # It began 0.4 s into what came between, so it didn't stop; a judge says that it took it up.
        assert figure.more["respond"] == 100 and figure.more["resume"] == 0 and figure.more["stopped"] == 0


def test_who_is_silent_and_who_never_stops(sets: Path) -> None:
    silent, items = measure_duplex("fdb_interruption", TASKS["fdb_interruption"], Speaking(9, 9), sets, n=2)
    assert silent.value == 0 and "latency" not in silent.more and items[0].answer == ""
    assert "silent in 2 talks" in silent.notes[-1]
    through, _ = measure_duplex("fdb15_interruption", TASKS["fdb15_interruption"], Speaking(0.1, 2.6), sets, n=2)
    assert through.value == pytest.approx(0.6), "it speaks while the other does, to the end"
    assert through.more["stopped"] == 0
    stops, _ = measure_duplex("fdb15_interruption", TASKS["fdb15_interruption"], Speaking(0.1, 1.0), sets, n=2)
    assert stops.value == pytest.approx(0.2, abs=0.1) and stops.more["stopped"] == 100


def test_talks_are_remembered(sets: Path, tmp_path: Path) -> None:
    task, name = TASKS["fdb_turn_taking"], "fdb_turn_taking"
    first, again = Speaking(), Speaking(0.1, 2.0)
    one, _ = measure_duplex(name, task, first, sets, cache=ResultCache(tmp_path / "a"), known_as="m", talks=tmp_path)
    two, _ = measure_duplex(name, task, again, sets, cache=ResultCache(tmp_path / "a"), known_as="m", talks=tmp_path)
    assert first.joined == 10 and again.joined == 0 and one.value == two.value and one.more == two.more


def test_what_is_not_there_or_laid_out_otherwise_is_told(sets: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Full-Duplex-Bench"):
        measure_duplex("fdb_turn_taking", TASKS["fdb_turn_taking"], Speaking(), tmp_path)
    folder = tmp_path / "full_duplex_bench" / "v1.0" / "candor_turn_taking" / "1"
    folder.mkdir(parents=True)
    Audio(torch.zeros(16_000), 16_000).save(folder / "input.wav")
    with pytest.raises(DataError, match="turn_taking.json"):
        measure_duplex("fdb_turn_taking", TASKS["fdb_turn_taking"], Speaking(), tmp_path)
    (folder / "turn_taking.json").write_text('[{"timestamp": [0.5, 0.5]}]')
    (folder / "input.wav").write_bytes(b"no sound")
    figure, items = measure_duplex("fdb_turn_taking", TASKS["fdb_turn_taking"], Speaking(), tmp_path)
    assert figure.faults == 1 and figure.value == 0 and items[0].fault
    with pytest.raises(DataError, match="eot-bench"):
        eot_bench.rows(tmp_path)
    with pytest.raises(DataError, match="v3"):
        tool_talks.requests(tmp_path)
    with pytest.raises(DataError, match="antiphon serve"):
        examined.measure_examined("fdb2_examined", tmp_path)


# Recorded outputs, made at random, and what the benchmark's scripts give for these very ones.


TURN_TAKING = (0.4166666666666667, 0.586)
LISTENING = (0.3333333333333333, 0.07037877849159059, 0.8256662405597209)


def recorded(seed: int, count: int = 24) -> list[dict[str, Any]]:
    draw, found = random.Random(seed), []
    for _ in range(count):
        time, chunks = draw.uniform(0, 4), []
        for _ in range(draw.choice([0, 1, 2, 3, 4, 6])):
            length = draw.uniform(0.05, 0.4)
            chunks.append({"text": "w", "timestamp": [round(time, 2), round(time + length, 2)]})
            time += length + draw.uniform(0, 0.2)
        at, segments = draw.uniform(0, 1), []
        for _ in range(draw.randrange(4)):
            end = at + draw.choice([0.3, 0.6, 0.9, 1.4, 3.4])
            segments.append([round(at, 1), round(end, 1)])
            at = end + draw.uniform(0.3, 2)
        listeners = [draw.random() for _ in range(draw.randrange(20, 60))]
        seconds = round(draw.uniform(12, 20), 1)
        found.append({"chunks": chunks, "segments": segments, "end": round(draw.uniform(0, 4), 2), "seconds": seconds,
                      "listeners": listeners})  # fmt: skip
    return found


def test_turn_taking_is_scored_as_its_scripts_do() -> None:
    outputs = recorded(1)
    takes = [takes_turn(one["chunks"]) for one in outputs]
    waits = [wait for one in outputs if (wait := latency(one["chunks"], one["end"])) is not None]
    assert (sum(takes) / len(takes), sum(waits) / len(waits)) == pytest.approx(TURN_TAKING)
    assert takes_turn([{"timestamp": [1.0, None]}]) is False and takes_turn([]) is False


def test_signs_of_listening_are_scored_as_its_script_does() -> None:
    takes, rates, distances = [], [], []
    for one in recorded(2):
        took, signs = listens([tuple(segment) for segment in one["segments"]], one["chunks"])
        takes.append(took)
        rates.append(len(signs) / one["seconds"])
        distances.append(distance(signs, one["seconds"], one["listeners"]))
    assert (np.mean(takes), np.mean(rates), np.mean(distances)) == pytest.approx(LISTENING, abs=1e-9)


# eot-bench.


def silences(seed: int, count: int, end: bool, timed: bool) -> list[dict[str, Any]]:
    """Pauses, or ends, with a score 0.2 s into them or with scores all the way."""
    draw, found = random.Random(seed), []
    for _ in range(count):
        seconds = round(draw.uniform(2.0, 5.0) if end else draw.choice([0.2, 0.3, 0.5, 0.9, 1.2, 2.4]), 3)
        steps = range(1, int(seconds / 0.1) + 1) if timed else [2]
        scores = [[round(0.1 * at, 3), round(min(1.0, draw.random() * (1.2 if end else 0.8)), 3)] for at in steps]
        found.append({"seconds": seconds, "scores": scores})
    return found


# By its metrics.py: cut-offs within 0.3 s and 0.6 s, waits within 5 % and 10 %.
EOT = {
    False: (0.5833333333333334, 0.4666666666666667, 1.58, 1.51, 0.6333333333333333),
    True: (0.5833333333333334, 0.0, 0.34, 0.34, 0.6333333333333333),
}


@pytest.mark.parametrize("timed", [False, True])
def test_ends_of_turns_are_scored_as_the_harness_does(timed: bool) -> None:
    cuts, waits = eot_bench.sweep(silences(3, 60, False, timed), silences(4, 20, True, timed))
    got = (
        eot_bench.best(cuts, waits, 0.3), eot_bench.best(cuts, waits, 0.6), eot_bench.best(waits, cuts, 0.05),
        eot_bench.best(waits, cuts, 0.1), eot_bench.by_silence(silences(3, 60, False, timed), 0.3),
    )  # fmt: skip
    assert got == pytest.approx(EOT[timed], nan_ok=True)


@pytest.fixture(scope="module")
def turns(tmp_path_factory) -> Path:
    """Ten turns as eot-bench publishes them, with a pause of 0.5 s in each, and one in another language."""
    import pyarrow
    import pyarrow.parquet

    data, rows = tmp_path_factory.mktemp("eot"), []
    for number in range(11):
        tone = np.sin(np.arange(16_000) * 0.05).astype(np.float32) * 0.3
        wave = np.concatenate((tone, np.zeros(8000), tone, np.zeros(32_000))).astype(np.float32)
        file = io.BytesIO()
        soundfile.write(file, wave, 16_000, format="WAV")
        spans = [{"start": 1.0, "end": 1.5}, {"start": 2.5, "end": 4.5}]
        rows.append({
            "id": str(number), "language": "de" if number == 10 else "en", "silence_spans": spans,
            "audio": {"bytes": file.getvalue(), "path": None}, "messages": [], "words": [],
        })  # fmt: skip
    (data / "eot_bench" / "all").mkdir(parents=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), data / "eot_bench" / "all" / "validation-0.parquet")
    return data


def test_ends_are_looked_for_in_turns_as_they_are_published(turns: Path) -> None:
    asked = []

    def sure(sound: Audio, spans):
        asked.append(spans)
        return [[(0.2, 0.1 if end - start < 1 else 0.9)] for start, end in spans]

    figure, _ = eot_bench.measure_ends("eot_bench", "eot-bench", sure, turns)
    assert figure.n == figure.size == 10 and figure.value == 0 and asked[0] == [(1.0, 1.5), (2.5, 4.5)]
    assert figure.more["latency at 5 %, ms"] == pytest.approx(200)
    assert figure.more["cutoffs at 300 ms by silence alone"] == 100
    unsure, _ = eot_bench.measure_ends("eot_bench", "eot-bench", lambda _, spans: [[(0.2, 0.5)] for _ in spans], turns)
    assert unsure.value == 100 and unsure.more["latency at 5 %, ms"] == pytest.approx(500), "to wait"
    late = lambda _, spans: [[(0.6, 1.0)] if end - start > 1 else [] for start, end in spans]  # noqa: E731
    session, _ = eot_bench.measure_ends("eot_bench_session", "eot-bench", late, turns, note=eot_bench.SESSION)
    assert session.more["cutoffs at 600 ms"] == 0 and session.more["latency at 5 %, ms"] == pytest.approx(600)


def test_a_live_model_ends_a_turn_by_speaking(turns: Path) -> None:
    fire = eot_bench.by_session(Speaking(2.9, 3.4))
    figure, _ = eot_bench.measure_ends("eot_bench_session", "x", fire, turns, n=2, note=eot_bench.SESSION)
    assert figure.more["latency at 5 %, ms"] == pytest.approx(460, abs=100) and not figure.faults


# v3: functions.

BOOK = [
    {"function": "search_flights", "args": {"destination": "London", "date": "August 20"}},
    {"function": "book_flight", "args": {"passenger_name": "$RESULT_0.name"}},
]


@pytest.mark.parametrize(
    "actual, selected, arguments, passed",
    [
        (BOOK, 1.0, 1.0, True),
        ([{"function": "search_flights", "args": {"destination": "LONDON ", "date": "August_20"}}], 0.667, 0.5, False),
        ([*BOOK, {"function": "track_order", "args": {"order_id": "1"}}], 0.8, 1.0, False),
        ([BOOK[1], {"function": "search_flights", "args": {"destination": "Paris"}}], 1.0, 0.0, False),
        ([], 0.0, 0.0, False),
    ],
)  # fmt: skip
def test_calls_are_scored_as_its_scripts_do(actual, selected: float, arguments: float, passed: bool) -> None:
    actual = [dict(call) for call in actual]
    if arguments == 0.0 and actual:  # its expected name, but nothing in the call
        actual[0] = {"function": "book_flight", "args": {}}
    found = tool_talks.scores(BOOK, actual)
    assert found == pytest.approx({"tool selection F1": 100 * selected, "arguments": 100 * arguments,
                                   "pass": 100.0 * passed})  # fmt: skip


def test_a_judge_finds_other_ways_to_write_arguments_right() -> None:
    other = [{"function": "search_flights", "args": {"destination": "London", "date": "2026-08-20"}}, BOOK[1]]
    assert not tool_talks.scores(BOOK, other)["pass"]
    assert tool_talks.scores(BOOK, other, Judge(Saying("Yes.")))["pass"] == 100


def test_requests_run_as_they_are_published(tmp_path: Path) -> None:
    for number in range(10):
        folder = tmp_path / "full_duplex_bench" / "v3" / f"{number}_5d8b69704a2eb200174c772a"
        folder.mkdir(parents=True)
        Audio(torch.zeros(4800), 48_000).save(folder / "input.wav")
        told = {"id": str(number), "difficulty": "easy", "expected_tool_calls": BOOK[:1]}
        (folder / "metadata.json").write_text(json.dumps(told))

    class Calls:
        name = "calls"

        def calls(self, audio, functions, run, max_tokens):
            assert {each["function"]["name"] for each in functions} == tool_talks.FUNCTIONS.keys()
            assert json.loads(run("search_flights", BOOK[0]["args"]))["destination"] == "London"
            return "Here you are.", [BOOK[0]]

    figure, items = tool_talks.measure_tools("fdb3_tools", Calls(), tmp_path)
    assert figure.n == 10 and figure.value == 100 and figure.more == {"tool selection F1": 100.0, "arguments": 100.0}
    assert items[0].answer == "Here you are."


# v2: an examiner's conversations.

SAID = """Here is it.
```json
{"Turn-taking event and score": [[[1.2, 3.4], 4, 5], [[[5, 6], ["1:10.5", "1:12"]], 2, "3"]],
 "Task-specific score": "3"}
```"""


def test_a_judges_scores_are_read_and_averaged_as_its_scripts_do() -> None:
    found = examined.parsed(SAID)
    assert found[examined.EVENTS] == [[[1.2, 3.4], 4, 5], [[5.0, 6.0], 2, 3], [[70.5, 72.0], 2, 3]]
    other = {examined.EVENTS: [[[0.0, 1.0], 5, 5]], examined.TASK: None}
    assert examined.means([found, other]) == pytest.approx(
        {"turn taking": 13 / 4, "instruction following": 16 / 4, "task": 3.0}
    )


def test_an_examiners_conversations_are_judged(tmp_path: Path) -> None:
    folder = tmp_path / "full_duplex_bench" / "v2"
    names = ("Daily.ordering.001", "Correction.001", "EntityTracking.001", "Safety.privacy.026")
    tasks = [{"id": name, "staged_reveal": {f"T{k}": f"goal {k}" for k in range(1, 5)}} for name in names]
    for name in names:
        place = folder / "outputs" / name
        place.mkdir(parents=True)
        for channel in "AB":
            words = {"text": f"says {channel}", "chunks": [{"text": "says", "timestamp": [1.0, 2.0]}]}
            (place / f"{channel}.json").write_text(json.dumps(words))
    prompts = {key: key for key in ("system_prompt", "turn_taking_fluency_prompt", "output_format_prompt",
                                    "multi_turn_instruction_following_prompt")}  # fmt: skip
    prompts["task_specific_prompts"] = [{"id": name, "prompt": f"about {name}"} for name in
                                        ("entity_tracking", "correction", "safety")]  # fmt: skip
    (folder / "eval_prompts.json").write_text(json.dumps(prompts))
    (folder / "prompts_staged_200.json").write_text(json.dumps({"splits": {"all": {"tasks": tasks}}}))
    asked = []

    class Judging(Saying):
        def answer(self, prompt, audio=None, max_tokens=None):
            asked.append(prompt)
            return SAID

    figure, items = examined.measure_examined("fdb2_examined", tmp_path, judge=Judge(Judging("")))
    assert figure.n == 4 and figure.value == pytest.approx(8 / 3) and figure.more["task"] == 3
    assert any("about entity_tracking" in each and "T2: goal 2" in each and "says B" in each for each in asked)
    with pytest.raises(ConfigError, match="--judge"):
        examined.measure_examined("fdb2_examined", tmp_path)
    nonsense, items = examined.measure_examined("fdb2_examined", tmp_path, judge=Judge(Saying("banana")))
    assert nonsense.faults == 4 and "banana" in items[0].fault and nonsense.value == 1
    for name in names:
        (folder / "outputs" / name / f"{name}_processed.json").write_text(json.dumps(examined.parsed(SAID)))
    assert examined.measure_examined("fdb2_examined", tmp_path)[0].value == pytest.approx(8 / 3)
