"""Shards: each makes its share, and together they make the same report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("lm_eval")

from antiphon.errors import ConfigError, EvalError
from antiphon.evals.cache import NotOurs, ResultCache, key_of
from antiphon.evals.tables.duplex.full_duplex_bench import TASKS as TALKS
from antiphon.evals.tables.duplex.measure import measure_duplex
from antiphon.evals.tables.run import TablesConfig, run, run_shard
from antiphon.evals.tables.shards import parsed_shard, run_in_shards
from tests.evals.tables.duplex.test_measure import Speaking, write_talks
from tests.evals.tables.speech.test_measure import Saying, measure_speech, read_aloud
from tests.evals.tables.test_run import items_of

FEW = ("gsm8k", "arc_easy", "mmlu_pro")


def test_a_cache_makes_what_is_its_shards_and_nothing_else(tmp_path: Path) -> None:
    keys = [key_of(str(number)) for number in range(40)]
    made: list[str] = []
    for number in range(3):
        cache = ResultCache(tmp_path / f"{number}.jsonl", shard=(number, 3))
        for key in keys:
            try:
                cache.get([key], lambda _, key=key: made.append(key) or [key])
            except NotOurs:
                assert key not in cache.values
    assert sorted(made) == sorted(keys) and all((tmp_path / f"{number}.jsonl").is_file() for number in range(3))
    whole = ResultCache(tmp_path / "all.jsonl", [tmp_path / f"{number}.jsonl" for number in range(3)])
    assert whole.get(keys, lambda _: pytest.fail("all of it is known")) == keys
    own = ResultCache(shard=(int(keys[0][:8], 16) % 3, 3))
    assert own.get([key_of("other")], lambda _: [1], of=keys[0]) == [1], "what belongs to something goes with it"


def test_shards_make_the_same_report(llm_folder: Path, sets: Path, tmp_path: Path, monkeypatch) -> None:
    config = TablesConfig(str(llm_folder), tmp_path / "one", tasks=FEW, data=sets, n=6, max_tokens=6)
    whole = run(config)
    shared = replace(config, output=tmp_path / "three")
    for number in (3, 1, 2):
        assert run_shard(replace(shared, shard=(number, 3))) == len(FEW)
        assert not (tmp_path / "three" / "results.json").exists()
    files = sorted(path.name for path in (tmp_path / "three").glob("*.jsonl"))
    assert files and all(name.startswith("answers-of-shard-") and name.endswith("-of-3.jsonl") for name in files)
    from antiphon.evals.tables.text import lm

    monkeypatch.setattr(lm, "read_shared", lambda *_: pytest.fail("it was answered before"))
    again = run(shared)
    assert items_of(tmp_path / "three") == items_of(tmp_path / "one")
    for name, figure in again.figures.items():
        assert replace(figure, seconds=0.0) == replace(whole.figures[name], seconds=0.0)
    assert not (tmp_path / "three" / "answers.jsonl").exists(), "nothing was left to be made"


def test_what_is_said_is_shared_too(sets: Path, tmp_path: Path, monkeypatch) -> None:
    read_aloud(monkeypatch)
    asked = []
    for number in range(2):
        model = Saying("A star", "A")
        measure_speech(
            "arc_easy_spoken", model, sets, cache=ResultCache(tmp_path / f"{number}", shard=(number, 2)), model="m"
        )
        asked.append(model.asked)
    assert sum(asked) == 20 and all(asked)
    last = Saying("?", "?")
    cache = ResultCache(None, [tmp_path / "0", tmp_path / "1"])
    figure, _ = measure_speech("arc_easy_spoken", last, sets, cache=cache, model="m")
    assert last.asked == 0 and figure.value == 100 and not figure.faults


def test_live_talks_are_shared_by_batches(tmp_path: Path) -> None:
    talk_sets = write_talks(tmp_path / "data")
    task, name, joined = TALKS["fdb_turn_taking"], "fdb_turn_taking", []
    for number in range(2):
        model, cache = Speaking(), ResultCache(tmp_path / f"{number}", shard=(number, 2))
        measure_duplex(name, task, model, talk_sets, cache=cache, known_as="m", talks=tmp_path / "t")
        joined.append(model.joined)
    assert sum(joined) == 10
    last, cache = Speaking(), ResultCache(None, [tmp_path / "0", tmp_path / "1"])
    figure, _ = measure_duplex(name, task, last, talk_sets, cache=cache, known_as="m", talks=tmp_path / "t")
    assert last.joined == 0 and figure.value == 100 and not figure.faults


@pytest.mark.parametrize("text", ["2", "0/2", "3/2", "a/b", "1/2/3", ""])
def test_what_is_no_shard_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match="2/4"):
        parsed_shard(text)
    assert parsed_shard("2/4") == (2, 4)


def test_processes_share_a_report(llm_folder: Path, sets: Path, tmp_path: Path) -> None:
    config = TablesConfig(str(llm_folder), tmp_path, tasks=("arc_easy",), data=sets, n=6)
    run_in_shards(config, 2)
    assert run(config).figures["arc_easy"].n == 6 and not (tmp_path / "answers.jsonl").exists()
    with pytest.raises(ConfigError, match="no task"):
        run_in_shards(replace(config, tasks=("arc_eazy",)), 2)


@pytest.mark.slow
def test_a_ray_cluster_shares_a_report(llm_folder: Path, sets: Path, tmp_path: Path) -> None:
    config = TablesConfig(str(llm_folder), tmp_path, tasks=("arc_easy",), data=sets, n=6)
    try:
        import ray
    except ImportError:
        with pytest.raises(EvalError, match="antiphon\\[ray\\]"):
            run_in_shards(config, 2, ray=True)
        return
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        run_in_shards(config, 2, ray=True)
        assert run(config).figures["arc_easy"].n == 6 and not (tmp_path / "answers.jsonl").exists()
    finally:
        ray.shutdown()
