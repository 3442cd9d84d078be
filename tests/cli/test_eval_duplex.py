"""`antiphon eval duplex` as a user meets it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from antiphon.data.dialogue.format import Conversation, ConversationWriter
from tests.evals.duplex.actors import RATE, Ideal, Stage, scenario

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_recordings_are_measured_without_a_model(antiphon: Run, tmp_path: Path) -> None:
    from antiphon.evals.duplex.simulate import simulate

    with ConversationWriter(tmp_path / "talks") as writer:
        for dialogue in simulate(Stage(Ideal), [scenario("turn"), scenario("interruption")]):
            writer.add(
                dialogue.scenario.id, Conversation(dialogue.model, dialogue.user, RATE, dialogue.words, dialogue.events)
            )
    figures = tmp_path / "figures.json"
    done = antiphon("eval", "duplex", "--recordings", tmp_path / "talks", "--json", figures)
    assert done.returncode == 0, done.stderr
    assert "turn-takeover" in done.stdout and "stop-latency-s" in done.stdout and "pause" not in done.stdout
    found = {figure["name"]: figure for figure in json.loads(figures.read_text())["figures"]}
    assert found["response-latency-s"]["value"] == 0.96 and found["response-latency-s"]["reference"] == 0.265
    assert figures.with_suffix(".png").is_file()


def test_wrong_settings_get_one_line(antiphon: Run, assert_one_line_error: Callable, tmp_path: Path) -> None:
    assert_one_line_error(antiphon("eval", "duplex", "--resume"), "--json")
    assert_one_line_error(antiphon("eval", "duplex", "--recordings", tmp_path / "no"), "no recordings")
    assert_one_line_error(antiphon("eval", "duplex", "--recordings", tmp_path), "index.jsonl")
