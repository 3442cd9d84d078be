"""Every task of the audio table runs end to end on ten recordings in the set's official layout."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from antiphon.audio.io import Audio
from antiphon.errors import DataError, EvalError
from antiphon.evals.cache import ResultCache
from antiphon.evals.tables.audio import CREMA_D, MELD, TASKS, VOCALSOUND, cases, measure_audio


def sound(path: Path, seconds: float = 0.2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = torch.rand(int(16_000 * seconds), generator=torch.Generator().manual_seed(zlib.crc32(path.name.encode())))
    Audio(0.3 * (noise - 0.5), 16_000).save(path)


def table(path: Path, head: str, rows: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*([head] if head else []), *rows]) + "\n", encoding="utf-8")


def meld(data: Path) -> None:
    head = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
    rows = [f'{i},"Oh, {i}!",Ross,{MELD[i % 7]},neutral,{i},0,1,1,"00:00:00,000","00:00:01,000"' for i in range(10)]
    table(data / "meld" / "test_sent_emo.csv", head, rows)
    for i in range(10):
        sound(data / "meld" / "output_repeated_splits_test" / f"dia{i}_utt0.wav")


def vocalsound(data: Path) -> None:
    table(data / "vocalsound" / "meta" / "te_meta.csv", "", ["f0001,20,female,x,y"])
    for i in range(10):
        sound(data / "vocalsound" / "audio_16k" / f"f0001_{i}_{VOCALSOUND[i % 6].replace(' ', '')}.wav")


def giantsteps(data: Path) -> None:
    for i in range(10):
        table(data / "giantsteps_tempo" / "annotations_v2" / "tempo" / f"{i}.LOFI.bpm", "", [f"{100 + i}.0"])
        sound(data / "giantsteps_tempo" / "audio" / f"{i}.LOFI.wav")


def musiccaps(data: Path) -> None:
    head = (
        "ytid,start_s,end_s,audioset_positive_labels,aspect_list,caption,author_id,is_balanced_subset,is_audioset_eval"
    )
    rows = [f'video{i:06},0,10,/m/04rlf,"[\'piano\']","A slow, sad piano {i}.",1,False,True' for i in range(10)]
    table(data / "musiccaps" / "musiccaps-public.csv", head, rows)
    for i in range(10):
        sound(data / "musiccaps" / f"video{i:06}.wav")


def esc50(data: Path) -> None:
    names = ["dog", "rain", "door_wood_knock"]
    rows = [f"1-{i}-A-0.wav,{i % 5 + 1},0,{names[i % 3]},False,{i},A" for i in range(10)]
    table(data / "esc50" / "meta" / "esc50.csv", "filename,fold,target,category,esc10,src_file,take", rows)
    for i in range(10):
        sound(data / "esc50" / "audio" / f"1-{i}-A-0.wav")


def crema_d(data: Path) -> None:
    for i in range(10):
        sound(data / "crema_d" / "AudioWAV" / f"10{i:02}_IEO_{list(CREMA_D)[i % 6]}_HI.wav")


def librispeech(part: str) -> Callable[[Path], None]:
    def make(data: Path) -> None:
        folder = data / "librispeech" / "LibriSpeech" / part / "61" / "70968"
        table(folder / "61-70968.trans.txt", "", [f"61-70968-{i:04} HE SAID {i + 1} THINGS" for i in range(10)])
        for i in range(10):
            sound(folder / f"61-70968-{i:04}.flac")

    return make


def common_voice(data: Path) -> None:
    rows = [f'client\tcommon_voice_en_{i}.mp3\tHe said "so {i}.' for i in range(10)]
    table(data / "common_voice" / "en" / "test.tsv", "client_id\tpath\tsentence", rows)
    for i in range(10):
        sound(data / "common_voice" / "en" / "clips" / f"common_voice_en_{i}.wav")


def fleurs(data: Path) -> None:
    rows = [f"{i}\t{i}.wav\tHe said {i}.\the said {i}\th e\t3200\tMALE" for i in range(10)]
    table(data / "fleurs" / "en_us" / "test.tsv", "", rows)
    for i in range(10):
        sound(data / "fleurs" / "en_us" / "audio" / "test" / f"{i}.wav")


def covost2(data: Path) -> None:
    rows = [f'common_voice_de_{i}.mp3\tEr sagte {i}.\tHe said the number {i} "again.\tclient' for i in range(10)]
    table(data / "covost2" / "covost_v2.de_en.test.tsv", "path\tsentence\ttranslation\tclient_id", rows)
    for i in range(10):
        sound(data / "covost2" / "clips" / f"common_voice_de_{i}.wav")


def mmau(data: Path) -> None:
    rows = [
        {
            "id": str(i), "audio_id": f"./test-mini-audios/{i}.wav", "question": "What barks?", "task": "sound",
            "choices": ["A dog", "A cat", "Rain", "Wind"], "answer": "A dog", "dataset": "made", "difficulty": "easy",
        }
        for i in range(10)
    ]  # fmt: skip
    table(data / "mmau" / "mmau-test-mini.json", "", [json.dumps(rows)])
    for i in range(10):
        sound(data / "mmau" / "test-mini-audios" / f"{i}.wav")


def air_bench(data: Path) -> None:
    rows = [
        {
            "path": f"{i}.wav", "question": "What is heard?", "choice_a": "dog", "choice_b": "cat", "choice_c": "rain",
            "choice_d": None, "answer_gt": "cat", "task_name": "Sound_AQA", "dataset_name": "made", "uniq_id": i,
        }
        for i in range(10)
    ]  # fmt: skip
    table(data / "air_bench" / "Foundation" / "Foundation_meta.json", "", [json.dumps(rows)])
    for i in range(10):
        sound(data / "air_bench" / "Foundation" / "Sound_AQA_made" / f"{i}.wav")


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "meld": meld, "vocalsound": vocalsound, "giantsteps_tempo": giantsteps, "musiccaps": musiccaps, "esc50": esc50,
    "crema_d": crema_d, "librispeech_clean": librispeech("test-clean"), "librispeech_other": librispeech("test-other"),
    "common_voice_en": common_voice, "fleurs_en": fleurs, "covost2_de_en": covost2, "mmau": mmau,
    "air_bench": air_bench,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("audio-sets")
    for make in LAYOUTS.values():
        make(folder)
    return folder


class Saying:
    """A model that says what it is given to say, or what is right."""

    name = "saying"

    def __init__(self, replies) -> None:
        self.replies, self.asked = list(replies), []

    def answer(self, prompt, audio=None, max_tokens=None):
        assert audio is not None and audio.duration > 0
        return self._next(prompt)

    def transcribe(self, audio, language="en", translate=False):
        return self._next((language, translate))

    def _next(self, asked):
        self.asked.append(asked)
        reply = self.replies[(len(self.asked) - 1) % len(self.replies)]
        if isinstance(reply, Exception):
            raise reply
        return reply


def test_each_task_has_a_layout_here() -> None:
    assert set(LAYOUTS) == set(TASKS)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_runs_end_to_end(name: str, data: Path) -> None:
    known = cases(name, data)
    assert len(known) == 10 and len({case.id for case in known}) == 10
    perfect, items = measure_audio(name, Saying([case.target for case in known]), data)
    assert perfect.n == 10 and perfect.row == "audio"
    assert perfect.value == pytest.approx(0 if perfect.metric == "WER" else 100)
    nothing, items = measure_audio(name, Saying([""]), data)
    assert nothing.value == pytest.approx(100 if nothing.metric == "WER" else 0), "an empty answer is wrong"
    assert nothing.empty == 10 and all(item.score == 0 for item in items)


def test_what_a_model_is_asked(data: Path) -> None:
    model = Saying(["angry"])
    figure, items = measure_audio("meld", model, data)
    assert "anger, disgust, fear, joy, neutral, sadness, surprise" in model.asked[0]
    assert [item.score for item in items if item.target == "anger"] == [1.0, 1.0], (
        "anger is named by its adjective, too"
    )
    assert figure.value == pytest.approx(20.0) and 0 < figure.more["weighted_f1"] < 20
    model = Saying(["ein Satz"])
    measure_audio("covost2_de_en", model, data)
    assert set(model.asked) == {("de", True)}


def test_tempo_an_octave_off_counts_for_accuracy_2_alone(data: Path) -> None:
    figure, _ = measure_audio("giantsteps_tempo", Saying(["about 208 beats a minute"]), data)
    assert figure.value < figure.more["accuracy_2"] and figure.more["accuracy_2"] > 60


def test_an_item_that_fails_is_told_and_counts_as_wrong(data: Path) -> None:
    figure, items = measure_audio("meld", Saying([EvalError("it is offline"), "joy"]), data)
    assert figure.faults == 5 and items[0].fault == "it is offline" and items[0].score == 0
    figure, _ = measure_audio("librispeech_clean", Saying([EvalError("it is offline")]), data)
    assert figure.value == pytest.approx(100), "what wasn't heard are errors, not a silent zero"


def test_answers_are_kept(data: Path, tmp_path: Path) -> None:
    first = Saying(["joy"])
    measure_audio("meld", first, data, cache=ResultCache(tmp_path / "answers.jsonl"), model="m")
    again = Saying(["fear"])
    _, items = measure_audio("meld", again, data, cache=ResultCache(tmp_path / "answers.jsonl"), model="m")
    assert len(first.asked) == 10 and not again.asked and {item.answer for item in items} == {"joy"}


def test_what_is_missing_is_told_with_where_it_is_to_be_had(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"meld: not here .*declare-lab/MELD"):
        cases("meld", tmp_path)
    (tmp_path / "meld").mkdir()
    with pytest.raises(DataError, match="isn't laid out as published"):
        cases("meld", tmp_path)
    table(tmp_path / "mmau" / "mmau-test-mini.json", "", [json.dumps([{"id": 1, "sound": "x"}])])
    with pytest.raises(DataError, match=r"isn't in the official layout .*MMAU"):
        cases("mmau", tmp_path)
    musiccaps(tmp_path)
    for path in (tmp_path / "musiccaps").glob("*.wav"):
        path.unlink()
    with pytest.raises(DataError, match="none of the recordings"):
        cases("musiccaps", tmp_path)
