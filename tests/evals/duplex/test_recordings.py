"""Recorded dialogues, labelled or not, as cases to measure."""

import numpy as np
import pytest
import torch

from antiphon.audio.io import Audio
from antiphon.data.dialogue.format import Dialogue, DialogueWriter, Event
from antiphon.errors import AntiphonError, DataError
from antiphon.evals.duplex import figures as duplex
from antiphon.evals.duplex.evaluation import DuplexConfig
from antiphon.evals.duplex.recordings import recorded
from antiphon.evals.duplex.scenarios import TASKS
from tests.evals.duplex.actors import RATE, Ideal, dialogues, quiet, tone


class TestRecordings:
    def test_labelled_ones(self, tmp_path):
        talks = {task: dialogues(Ideal, task)[0] for task in TASKS}
        with DialogueWriter(tmp_path) as writer:
            for task, dialogue in talks.items():
                writer.add(task, Dialogue(dialogue.model, dialogue.user, RATE, dialogue.words, dialogue.events))
        found = dict(recorded(tmp_path))
        assert list(found) == ["pause-0", "turn-0", "interruption-0", "interruption-1", "backchannel-0"]
        assert found["turn-0"].latency == pytest.approx(0.96) and not found["pause-0"].takeover
        assert found["interruption-1"].stop == pytest.approx(0.24)
        assert talks["interruption"].outcome().latency == pytest.approx(found["interruption-1"].latency)
        report = duplex.run(DuplexConfig(recordings=tmp_path), tmp_path / "f.json")
        assert report.get("turn-takeover").n == 2 and report.get("stop-latency-s").value == pytest.approx(0.24)
        with pytest.raises(AntiphonError, match="hour"):
            duplex.run(DuplexConfig(recordings=tmp_path, only=("hour",)))

    def test_unlabelled_ones_by_who_speaks_when(self, tmp_path):
        user = np.concatenate((quiet(1), tone(2), quiet(3), tone(1.5), quiet(2.5), tone(0.4), quiet(1.6)))
        model = np.concatenate((quiet(3.5), tone(2.7), quiet(1.8), tone(2.5), quiet(1.5)))
        with DialogueWriter(tmp_path) as writer:
            writer.add("a", Dialogue(model, user, RATE))
        (one, two) = [outcome for _, outcome in recorded(tmp_path)]
        assert (one.task, one.latency) == ("turn", pytest.approx(0.5))
        assert (two.task, two.stop, two.latency) == ("interruption", pytest.approx(0.2), pytest.approx(0.5))

    def test_full_duplex_bench_s_own_folders(self, tmp_path):
        for name, notes in (
            ("pause", '[{"timestamp": [2.0, 3.0]}]'),
            ("turn_taking", '[{"timestamp": [4.0, 4.0]}]'),
            ("interrupt", '[{"timestamp": [1.0, 4.0]}]'),
        ):
            folder = tmp_path / name
            for file, wave in (("input", tone(4)), ("output", np.concatenate((quiet(4.5), tone(0.8), quiet(1))))):
                Audio(torch.from_numpy(wave), RATE).save(folder / f"{file}.wav")
            (folder / f"{name}.json").write_text(notes)
            chunks = ", ".join(f'{{"text": " a", "timestamp": [{4.5 + i / 10}, null]}}' for i in range(4))
            (folder / "output.json").write_text(f'{{"chunks": [{chunks}]}}')
        found = {outcome.task: outcome for _, outcome in recorded(tmp_path)}
        assert not found["pause"].takeover
        assert found["turn"].takeover and found["turn"].latency == pytest.approx(0.5)  # four words in 0.8 s
        assert found["interruption"].stop is None and found["interruption"].latency == pytest.approx(0.5)

    @pytest.mark.parametrize("notes", ["[]", "{}", '[{"timestamp": 4.0}]', '[{"start": 4.0}]', '["a"]'])
    def test_notes_of_another_form_are_told_with_their_folder(self, tmp_path, notes):
        for file in ("input", "output"):
            Audio(torch.from_numpy(tone(1)), RATE).save(tmp_path / "seven" / f"{file}.wav")
        (tmp_path / "seven" / "turn_taking.json").write_text(notes)
        with pytest.raises(DataError, match="seven: its notes"):
            list(recorded(tmp_path))

    def test_nothing_to_read(self, tmp_path):
        with pytest.raises(DataError, match="index.jsonl"):
            list(recorded(tmp_path))
        with DialogueWriter(tmp_path) as writer:
            writer.add("a", Dialogue(tone(2), quiet(2), RATE, events=[Event("turn", 0, 1, "model")]))
        with pytest.raises(DataError, match="right way round"):
            list(recorded(tmp_path))
