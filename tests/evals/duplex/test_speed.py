"""Time of a frame, alone, in a batch and after an hour."""

from antiphon.evals.duplex import evaluation as evaluations
from antiphon.evals.duplex import figures as duplex
from antiphon.evals.duplex import speed
from antiphon.evals.duplex.evaluation import DuplexConfig, DuplexEvaluation
from antiphon.evals.duplex.speed import batch_speedup, frame_times, talk
from tests.evals.duplex.actors import FRAME, RATE, Ideal, Stage, scenario, tone


class TestSpeed:
    def test_someone_who_talks_for_ever(self):
        sound = talk([tone(0.1), tone(0.2)], FRAME, RATE)
        first = [next(sound) for _ in range(300)]
        assert {len(frame) for frame in first} == {FRAME}
        loud = [i for i, frame in enumerate(first) if frame.abs().max() > 0.1]
        assert loud[:2] == [0, 1] and loud[2] * 0.08 >= 4.0

    def test_times_and_speedup(self):
        system = Stage(Ideal)
        sound = talk([tone(1)], FRAME, RATE)
        assert len(frame_times(system, sound, 7)) == 7
        assert batch_speedup(Stage(Ideal), system, sound, 3, rounds=3) > 0
        assert not system.live

    def test_groups(self, monkeypatch, tmp_path):
        monkeypatch.setattr(evaluations, "load_scenarios", lambda *_: [scenario("turn")])
        monkeypatch.setattr(DuplexEvaluation, "model", Stage(Ideal))
        monkeypatch.setattr(speed, "_count", lambda system, minutes: 5 * minutes)
        evaluation = DuplexEvaluation(DuplexConfig())
        found = {f.name: f for g in ("frame", "batch", "hour") for f in duplex.GROUPS[g].measure(evaluation, 8)}
        assert {f.name: f.bar for f in found.values()} == {
            "frame-p50-ms": "<= 60", "frame-p95-ms": "<= 80", "batch-8-speedup": ">= 3",
            "hour-frame-time-ratio": "<= 1.1", "hour-memory-ratio": "<= 1.02",
        }  # fmt: skip
        assert found["frame-p50-ms"].n == 40 and found["hour-memory-ratio"].value > 0.5
