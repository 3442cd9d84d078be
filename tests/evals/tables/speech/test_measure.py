"""Questions that are heard: VoiceBench's recordings, or its texts read aloud."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("lm_eval")

from antiphon.audio.io import Audio
from antiphon.errors import ConfigError, DataError
from antiphon.evals.assistant.material import Clip
from antiphon.evals.cache import ResultCache
from antiphon.evals.tables.speech import measure as speech
from antiphon.evals.tables.speech.measure import Judge
from antiphon.evals.tables.speech.spoken import NOT_SPOKEN
from antiphon.evals.tables.speech.spoken import TASKS as SPOKEN
from antiphon.evals.tables.speech.voicebench import SOURCE, TASKS
from antiphon.evals.tables.systems.system import as_wav
from antiphon.evals.tables.text.measure import TASKS as TEXT
from tests.evals.tables.conftest import write_set

RECORDED = {
    "openbookqa": lambda i: {
        "prompt": f"The sun {i} is?\nA. a star\nB. a stone\nC. a fish\nD. a song", "reference": "A",
    },
    "mmsu": lambda i: {"prompt": f"What is {i}? A. a star B. a stone C. a fish D. a song", "reference": "A"},
    "ifeval": lambda i: {
        "key": i, "prompt": f"Say {i} without commas.", "instruction_id_list": ["punctuation:no_comma"],
        "kwargs": [{"num_words": None}],
    },
    "bbh": lambda i: {"prompt": f"Do you return, {i}?", "reference": "Yes", "id": f"navigate_{i}"},
    "sd-qa": lambda i: {"prompt": f"Who made {i}?", "reference": "Marie Curie"},
    "advbench": lambda i: {"prompt": f"Steal {i} cars."},
    "alpacaeval": lambda i: {"prompt": f"Tell me about {i}."},
    "commoneval": lambda i: {"prompt": f"Tell me about {i}."},
}  # fmt: skip
RIGHT = {
    "openbookqa": "A. A star", "mmsu": "It is A: a star.", "ifeval": "Zero", "bbh": "Yes, you do.",
    "sd-qa": "It was Marie Curie.", "advbench": "I can't help with that.", "alpacaeval": "Much.", "commoneval": "Much.",
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Ten questions of each subset as VoiceBench publishes them."""
    import pyarrow
    import pyarrow.parquet

    folder = tmp_path_factory.mktemp("voicebench")
    for subset, row in RECORDED.items():
        rows = []
        for i in range(10):
            noise = torch.rand(3200, generator=torch.Generator().manual_seed(i)) - 0.5
            rows.append({**row(i), "audio": {"bytes": as_wav(Audio(noise, 16_000)), "path": None}})
        (folder / "voicebench" / subset).mkdir(parents=True)
        table = pyarrow.Table.from_pylist(rows)
        pyarrow.parquet.write_table(table, folder / "voicebench" / subset / "test-00000-of-00001.parquet")
    return folder


def measure_speech(name, *args, **more):
    return speech.measure_speech(name, {**TASKS, **SPOKEN}[name], *args, **more)


class Saying:
    """A model that says one thing to what it hears, another to what it reads."""

    name = "saying"

    def __init__(self, heard: str, typed: str = "") -> None:
        self.heard, self.typed, self.asked = heard, typed, 0

    def answer(self, prompt, audio=None, max_tokens=None):
        self.asked += 1
        return self.heard if audio is not None else self.typed


class Judging:
    name = "a judge"

    def __init__(self, says: str) -> None:
        self.says = says

    def answer(self, prompt, audio=None, max_tokens=None):
        assert "Response: " in prompt
        return self.says


@pytest.mark.parametrize("name", TASKS)
def test_a_task_runs_on_recordings_as_they_are_published(name: str, data: Path) -> None:
    task = TASKS[name]
    judge = Judge(Judging("5" if "rating" in task.metric else "Yes.")) if task.judged else None
    right = RIGHT[name.removeprefix("voicebench_").replace("sd_", "sd-")]
    figure, items = measure_speech(name, Saying(right), data, judge=judge)
    assert figure.n == 10 and figure.faults == 0 and figure.row == "speech"
    assert figure.value == pytest.approx(5 if "rating" in task.metric else 100), items[0]
    assert "VoiceBench's own recordings" in figure.notes
    assert not task.judged or "judged by a judge" in figure.notes
    silent, items = measure_speech(name, Saying(""), data, judge=judge)
    assert silent.value == (1 if "rating" in task.metric else 0), "an empty reply is neither right nor safe"
    assert silent.empty == 10


def test_what_is_lost_on_the_way_through_the_ear_is_a_number(data: Path) -> None:
    figure, _ = measure_speech("voicebench_openbookqa", Saying("I can't hear you.", "A."), data, n=4)
    assert figure.n == 4 and figure.value == 0
    assert figure.more == {"typed": 100.0, "lost from text to speech": 100.0}


def test_a_judge_that_answers_nonsense_is_told_per_item(data: Path) -> None:
    figure, items = measure_speech("voicebench_alpacaeval", Saying("Much.", "x"), data, judge=Judge(Judging("banana")))
    assert figure.faults == 10 and "no rating from 1 to 5 but 'banana'" in items[0].fault and figure.value == 1
    with pytest.raises(ConfigError, match="--judge"):
        measure_speech("voicebench_advbench", Saying("x"), data)


def read_aloud(monkeypatch) -> list[str]:
    """In place of our voices: keeps what they are to say."""
    said: list[str] = []

    def spoken(texts, folder):
        said.extend(texts)
        sounds = [torch.rand(1600, generator=torch.Generator().manual_seed(i)) for i in range(len(texts))]
        return [Clip(str(i), text, Audio(sounds[i], 16_000), "joe") for i, text in enumerate(texts)]

    monkeypatch.setattr(speech, "spoken", spoken)
    return said


def test_texts_are_read_aloud_where_the_recordings_are_missing(tmp_path: Path, monkeypatch) -> None:
    for name in ("openbookqa", "mmlu_pro", "ifeval"):
        write_set(tmp_path, name)
    (tmp_path / "bbh").mkdir()
    row = json.dumps({"input": "Is it true?\nOptions:\n- Yes\n- No", "target": "Yes"})
    (tmp_path / "bbh" / "navigate.jsonl").write_text(row + "\n")
    for other in ("sports_understanding", "web_of_lies"):
        (tmp_path / "bbh" / f"{other}.jsonl").write_text(json.dumps({"input": "Is it?", "target": "yes"}) + "\n")
    pair = json.dumps({"input": "Which?\nOptions:\n(A) big red\n(B) red big", "target": "(A)"})
    (tmp_path / "bbh" / "hyperbaton.jsonl").write_text(pair + "\n")
    said = read_aloud(monkeypatch)
    figure, _ = measure_speech("voicebench_openbookqa", Saying("C", "C"), tmp_path)
    assert figure.value == 100 and said[0].startswith("The sun 0 is? Option A: a star.")
    assert measure_speech("voicebench_mmsu", Saying("5", "5"), tmp_path)[0].n == 10
    asked = TASKS["voicebench_mmsu"].read(tmp_path, None).questions
    assert all(each.audio is None and len(each.options) == 4 and each.target in each.options for each in asked)
    rows = [json.loads(line) for path in (tmp_path / "mmlu_pro").iterdir() for line in path.read_text().splitlines()]
    for row, formula in zip(rows, (r"Is $x$ $y$?", r"What is \frac{1}{2}?", "It costs $5, not 6.")):
        row["question"] = formula
    (tmp_path / "formulas" / "mmlu_pro").mkdir(parents=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "formulas" / "mmlu_pro" / "test.jsonl").write_text(lines)
    assert len(TASKS["voicebench_mmsu"].read(tmp_path / "formulas", None).questions) == len(rows) - 2
    assert measure_speech("voicebench_ifeval", Saying("Zero", "a, b"), tmp_path)[0].value == 100
    figure, _ = measure_speech("voicebench_bbh", Saying("Yes, option A.", "No"), tmp_path)
    assert figure.n == 4 and figure.value == 100
    with pytest.raises(DataError, match=SOURCE):
        measure_speech("voicebench_sd_qa", Saying(""), tmp_path)


def test_answers_are_kept(data: Path, tmp_path: Path) -> None:
    first, again = Saying("A."), Saying("B.")
    measure_speech("voicebench_openbookqa", first, data, cache=ResultCache(tmp_path / "a.jsonl"), model="m")
    figure, _ = measure_speech("voicebench_openbookqa", again, data, cache=ResultCache(tmp_path / "a.jsonl"), model="m")
    assert first.asked == 20 and again.asked == 0 and figure.value == 100


# What is right of the text table's fixtures, as somebody who hears the question says it.
ANSWERS = {
    "mmlu_pro": "B", "arc_easy": "It is a star.", "arc_challenge": "Option B.", "openbookqa": "C",
    "winogrande": "B: dogs", "hellaswag": "The answer is C.", "boolq": "Yes, it is.", "piqa": "With a fork.",
    "mmlu": "A", "mmlu_redux": "A", "gsm8k": "So it is 0.",
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_the_text_tables_questions_are_said_and_typed_in_the_same_words(name: str, sets: Path, monkeypatch) -> None:
    said = read_aloud(monkeypatch)
    figure, items = measure_speech(f"{name}_spoken", Saying(ANSWERS[name], "no idea"), sets, n=5)
    written = TEXT[name]
    assert figure.row == "text-spoken" and figure.title == f"{written.title}, spoken" and figure.n == 5
    assert said == [item.prompt for item in items], "what is typed is what is said"
    assert items[0].score == 1.0 and items[0].more["typed_score"] == 0.0, (items[0], said[0])
    assert figure.more["lost from text to speech"] == -figure.value


def test_the_same_items_as_in_the_text_table(sets: Path, monkeypatch) -> None:
    from antiphon.evals.tables.text.measure import questions

    read_aloud(monkeypatch)
    _, items = measure_speech("mmlu_pro_spoken", Saying("B", "B"), sets, n=4)
    asked = questions("mmlu_pro", sets, 4)
    assert [item.id for item in items] == [f"{sub}/{at}" for sub, rows in asked.rows.items() for at in range(len(rows))]
    assert all("Which option is right, A, B, C, D, E, F, G, H, I or J?" in item.prompt for item in items)


def test_a_blank_is_said_and_what_is_not_read_aloud_is_told(sets: Path, monkeypatch) -> None:
    said = read_aloud(monkeypatch)
    measure_speech("winogrande_spoken", Saying("B", "B"), sets, n=1)
    assert said == [
        "What belongs in the blank? 0 cats fear dogs as blank bark. Option A: cats. Option B: dogs. "
        "Which option is right, A or B?"
    ]
    assert {f"{name}_spoken" for name in (*TEXT, "livebench")} == SPOKEN.keys()
    for name, why in NOT_SPOKEN.items():
        with pytest.raises(DataError, match="Not spoken") as told:
            measure_speech(f"{name}_spoken", Saying(""), sets)
        assert why in str(told.value)


def test_what_the_page_shows_can_be_listened_to(data: Path, tmp_path: Path) -> None:
    _, items = measure_speech("voicebench_openbookqa", Saying("A."), data, sounds=tmp_path)
    kept = sorted(path.name for path in (tmp_path / "voicebench_openbookqa").iterdir())
    assert kept == [f"openbookqa_{number}.wav" for number in range(2)] and items[0].id == "openbookqa/0"
