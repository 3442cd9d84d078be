"""Short answers to spoken questions, URO-Bench and seed-tts-eval: their layouts, and scores."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("lm_eval")

from antiphon.audio.io import Audio
from antiphon.errors import ConfigError, DataError, EvalError
from antiphon.evals.cache import ResultCache
from antiphon.evals.tables.speech import seed_tts
from antiphon.evals.tables.speech.measure import Judge, measure_speech
from antiphon.evals.tables.speech.open_answers import OPEN_AUDIO, TASKS, URO
from tests.evals.tables.speech.test_measure import Saying, read_aloud

CSVS = {
    "llama_questions": {"Questions": "What is the capital of France?", "Answer": "Paris"},
    "web_questions": {"question": "what do jamaicans speak?", "answers": "Jamaican Creole;Patois"},
    "trivia_qa": {
        "question": "Who wrote Dracula?", "answer_normalized_value": "bram stoker",
        "answer_normalized_aliases": "abraham stoker,stoker",
    },
}  # fmt: skip
RIGHT = {"llama_questions": "It is Paris.", "web_questions": "They speak patois.", "trivia_qa": "By Stoker."}
SETS = {
    "uro_repeat": "Repeat", "uro_summary": "Summary", "uro_gaokao": "GaokaoEval", "uro_storal": "StoralEval",
    "uro_truthful": "TruthfulEval", "uro_gsm8k": "gsm8k_test", "uro_mlc": "MLC", "uro_alpaca": "AlpacaEval",
    "uro_common": "CommonEval", "uro_wildchat": "WildchatEval",
}  # fmt: skip


class Judging:
    name = "a judge"

    def __init__(self, says: str) -> None:
        self.says, self.asked = says, []

    def answer(self, prompt, audio=None, max_tokens=None):
        self.asked.append(prompt)
        return self.says


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Ten questions of each set as they are published."""
    data = tmp_path_factory.mktemp("open")

    def sound(path: Path, seed: int) -> None:
        noise = torch.rand(1600, generator=torch.Generator().manual_seed(seed)) - 0.5
        Audio(noise, 16_000).save(path)

    for name, row in CSVS.items():
        folder = data / "openaudiobench" / "eval_datas" / name
        (folder / "audios").mkdir(parents=True)
        rows = [{**row, "audio_filename": f"{number}.wav"} for number in range(10)]
        with (folder / f"{name}.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
        for number in range(10):
            sound(folder / "audios" / f"{number}.wav", number)
    for name in SETS.values():
        folder = data / "uro_bench" / name
        (folder / "audio").mkdir(parents=True)
        rows = []
        for number in range(10):
            sound(folder / "audio" / f"{number}.wav", number)
            row = {"source_wav": f"audio/{number}.wav", "source_text": "Please say: I like the sea."}
            rows.append({**row, "target_text": ["I like the sea."] if number % 2 else "I like the sea."})
        (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (data / "seed_tts_eval" / "en" / "prompt-wavs").mkdir(parents=True)
    lines = []
    for number in range(10):
        sound(data / "seed_tts_eval" / "en" / "prompt-wavs" / f"{number}.wav", number)
        lines.append(f"utt-{number}|Words of the prompt.|prompt-wavs/{number}.wav|It's only me, nobody else.\n")
    (data / "seed_tts_eval" / "en" / "meta.lst").write_text("".join(lines))
    return data


@pytest.mark.parametrize("name", CSVS)
def test_questions_are_read_as_open_audio_bench_publishes_them(name: str, data: Path) -> None:
    figure, items = measure_speech(name, TASKS[name], Saying(RIGHT[name], "No idea"), data)
    assert figure.n == figure.size == 10 and figure.value == 100 and not figure.faults, items[0]
    assert figure.more == {"typed": 0.0, "lost from text to speech": -100.0}
    assert items[0].prompt == next(iter(CSVS[name].values()))


@pytest.mark.parametrize("name", SETS)
def test_uro_bench_is_read_as_it_is_published(name: str, data: Path) -> None:
    judging = Judging("Yes" if TASKS[name].metric == "accuracy" else "4")
    figure, items = measure_speech(name, TASKS[name], Saying("I like the sea."), data, judge=Judge(judging))
    assert figure.n == 10 and not figure.faults, items[0]
    assert figure.value == pytest.approx(80 if "rating" in TASKS[name].metric else 100)
    if name != "uro_repeat":
        assert "I like the sea." in judging.asked[0] and "judged by a judge" in figure.notes
        with pytest.raises(ConfigError, match="--judge"):
            measure_speech(name, TASKS[name], Saying(""), data)
    silent, _ = measure_speech(name, TASKS[name], Saying(""), data, judge=Judge(judging))
    assert silent.value == 0


def test_what_is_repeated_with_more_than_half_of_it_wrong_counts_nothing(data: Path) -> None:
    near, items = measure_speech("uro_repeat", TASKS["uro_repeat"], Saying("I like the sun."), data, n=2)
    assert near.value == pytest.approx(75) and items[0].more["wer"] == 0.25
    far, _ = measure_speech("uro_repeat", TASKS["uro_repeat"], Saying("You saw the sun."), data, n=2)
    assert far.value == 0


def test_web_questions_are_read_aloud_where_there_are_no_recordings(tmp_path: Path, monkeypatch) -> None:
    said = read_aloud(monkeypatch)
    (tmp_path / "webquestions").mkdir()
    row = {"qId": "wqs000001", "answers": ["Lawyer"], "qText": "what did polk do?"}
    (tmp_path / "webquestions" / "test.jsonl").write_text(json.dumps(row))
    figure, items = measure_speech("web_questions", TASKS["web_questions"], Saying("A lawyer."), tmp_path)
    assert said == ["what did polk do?"] and figure.value == 100 and items[0].id == "web_questions/wqs000001"


def test_what_is_missing_is_told_with_where_it_is_to_be_had(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=OPEN_AUDIO):
        measure_speech("llama_questions", TASKS["llama_questions"], Saying(""), tmp_path)
    with pytest.raises(DataError, match=URO):
        measure_speech("uro_mlc", TASKS["uro_mlc"], Saying(""), tmp_path)
    (tmp_path / "uro_bench" / "Repeat").mkdir(parents=True)
    (tmp_path / "uro_bench" / "Repeat" / "test.jsonl").write_text('{"text": "x"}')
    with pytest.raises(DataError, match="isn't laid out as published"):
        measure_speech("uro_repeat", TASKS["uro_repeat"], Saying(""), tmp_path)
    with pytest.raises(DataError, match="seed-tts-eval"):
        seed_tts.texts(tmp_path)


# seed-tts-eval.


def needs_voices() -> None:
    """Only the weights in the package are used, which can't be imported without a compiler's work."""
    if importlib.util.find_spec("resemblyzer") is None:
        pytest.skip("speaker similarity needs resemblyzer's weights")


class Hears:
    def __init__(self, text: str) -> None:
        self.text, self.clips = text, 0

    def transcribe(self, clips):
        self.clips += len(clips)
        return [self.text] * len(clips)


class Voice:
    name = "a voice"

    def say(self, text: str) -> Audio:
        return Audio(torch.rand(24_000, generator=torch.Generator().manual_seed(len(text))) - 0.5, 24_000)


@pytest.mark.parametrize(
    "said, heard, errors",
    [
        ("It's only me, nobody else.", "its only me nobody else", 1 / 5),
        ("Well - then, “go”!", "well then go", 0.0),
        ("One two three four", "one three four five six", 3 / 4),
        ("...", "anything", 1.0),
    ],
)
def test_words_are_compared_as_its_script_does(said: str, heard: str, errors: float) -> None:
    assert seed_tts.word_errors(said, heard) == pytest.approx(errors)


def test_texts_are_read_aloud_and_heard(data: Path, tmp_path: Path) -> None:
    needs_voices()
    hears, cache = Hears("it's only me nobody"), ResultCache(tmp_path / "a.jsonl")
    options = {"cache": cache, "known_as": "m", "sounds": tmp_path, "judge": hears}
    figure, items = seed_tts.measure_seed_tts("seed_tts_en", Voice(), data, **options)
    assert figure.n == 10 and figure.value == pytest.approx(20) and -1 <= figure.more["similarity"] <= 1
    assert "utmos" not in figure.more and seed_tts.NOT_RATED in figure.notes
    assert (tmp_path / "seed_tts_en" / "utt-0.wav").is_file() and items[0].target == "It's only me, nobody else."
    again, _ = seed_tts.measure_seed_tts("seed_tts_en", Voice(), data, **options)
    assert hears.clips == 10 and again.value == figure.value


def test_utmos_rates_what_is_spoken_where_its_weights_are_given(data: Path, tmp_path: Path) -> None:
    needs_voices()

    class Rates(torch.nn.Module):
        def forward(self, wave: torch.Tensor) -> torch.Tensor:
            return 4.0 + 0.0 * wave.mean()

    torch.jit.script(Rates()).save(str(tmp_path / "utmos.pt"))
    figure, _ = seed_tts.measure_seed_tts(
        "seed_tts_en", Voice(), data, n=2, utmos=tmp_path / "utmos.pt", judge=Hears("")
    )
    assert figure.more["utmos"] == pytest.approx(4.0) and seed_tts.NOT_RATED not in figure.notes
    (tmp_path / "none.pt").write_text("nothing")
    with pytest.raises(EvalError, match="TorchScript"):
        seed_tts.measure_seed_tts("seed_tts_en", Voice(), data, n=2, utmos=tmp_path / "none.pt")
