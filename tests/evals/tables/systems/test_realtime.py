"""A model behind OpenAI's Realtime as a peer, against a server of our own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from antiphon.audio.io import Audio
from antiphon.errors import EvalError
from antiphon.evals.duplex.simulate import Scenario, simulate
from antiphon.evals.duplex.systems import system_under_test
from antiphon.evals.tables.systems.opening import open_system
from antiphon.evals.tables.systems.realtime import RealtimeSystem
from antiphon.serve.settings import ServeConfig
from tests.serve.scripted import Scripted, serving

LOUD = Audio(0.25 * torch.ones(12_000), 24_000)


@pytest.fixture(scope="module")
def address():
    with serving(Scripted(), ServeConfig(port=0, sessions=4)) as (host, _):
        yield f"ws://{host}/v1/realtime"


def test_it_hears_and_reads_and_answers_in_writing(address: str) -> None:
    peer = open_system(f"{address}#default", {})
    assert isinstance(peer, RealtimeSystem) and peer.name.endswith("#default")
    assert peer.answer("say good morning") == "good morning"
    assert peer.answer("say one two three", None, 2) == "one two"
    heard = peer.answer("", LOUD)
    assert heard == open_system(address, {}).answer("", LOUD) and heard


def test_functions_are_called_and_their_results_read(address: str) -> None:
    with serving(
        Scripted(hears='say Well. call weather {"city": "Rome"}', calls_functions=True), ServeConfig(port=0)
    ) as (host, _):
        shown = [{"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": {
            "type": "object", "properties": {"city": {"type": "string"}}}}}]  # fmt: skip
        asked = []

        def run(name, arguments):
            asked.append((name, arguments))
            return "sunny"

        said, calls = RealtimeSystem(f"ws://{host}/v1/realtime").calls(LOUD, shown, run, 32)
    assert calls[0] == {"function": "weather", "args": {"city": "Rome"}} and asked[0] == ("weather", {"city": "Rome"})
    assert isinstance(said, str)


def test_a_live_talk_is_held_in_real_time(address: str) -> None:
    system, at_once = system_under_test(RealtimeSystem(address), 8)
    assert at_once == 1
    user = np.concatenate((np.zeros(4800), 0.25 * np.ones(16_000), np.zeros(60_000))).astype(np.float32)
    (talk,) = simulate(system, [Scenario("a", "turn", user, (), 24_000, after=(0, 0))], at_once)
    (start, _), *_ = talk.speech()
    assert start > 20_800 / 24_000, "it answers when the turn is over"
    assert np.abs(talk.model).max() == pytest.approx(0.25, abs=0.01) and talk.words


def test_who_is_not_there_or_refuses_is_told(address: str, tmp_path: Path) -> None:
    with pytest.raises(EvalError, match="Is it running"):
        RealtimeSystem("ws://127.0.0.1:9/v1/realtime").answer("hello")
    with pytest.raises(EvalError, match="function"):
        peer = RealtimeSystem(address)
        peer.calls(LOUD, [{"type": "function", "function": {"name": "no name"}}], lambda *_: "", 8)
    with serving(Scripted(), ServeConfig(port=0, token="secret")) as (host, _):
        with pytest.raises(EvalError):
            RealtimeSystem(f"ws://{host}/v1/realtime", key="wrong").answer("say hello")
        assert RealtimeSystem(f"ws://{host}/v1/realtime", key="secret").answer("say hello") == "hello"


def test_the_command_measures_it(address: str, tmp_path: Path) -> None:
    from antiphon.evals.tables.run import TablesConfig, run
    from tests.evals.tables.duplex.test_measure import TASK_NOTES

    place, (name, notes) = next(item for item in TASK_NOTES.items() if "turn_taking" in item[0])
    folder = tmp_path / "data" / "full_duplex_bench" / place / "1"
    folder.mkdir(parents=True)
    wave = torch.cat((0.25 * torch.ones(16_000), torch.zeros(40_000)))
    Audio(wave, 16_000).save(folder / "input.wav")
    (folder / f"{name}.json").write_text(json.dumps(notes))
    config = TablesConfig(address, tmp_path / "r", rows=("duplex",), tasks=("fdb_turn_taking",), data=tmp_path / "data")
    figure = run(config).figures["fdb_turn_taking"]
    assert figure.n == 1 and not figure.faults and (tmp_path / "r" / "talks" / "fdb_turn_taking" / "1").is_dir()
