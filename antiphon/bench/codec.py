"""How fast the codecs are: time over that of a named peer, same weights (random ones), see `compare`.

Each measure of memory has a process of its own, too.
"""

from __future__ import annotations

import statistics
import tempfile

from antiphon.bench.codec_worker import BESIDE, PEERS, BenchConfig, work
from antiphon.bench.compare import Progress, Times, add_ratios, on_threads, start_report
from antiphon.evals.machine import in_fresh_process
from antiphon.evals.report import Figure, Report


def bench_codec(config: BenchConfig, progress: Progress = lambda line: None) -> Report:
    """Runs the bench.

    Raises:
        EvalError: a process failed.
    """
    report = start_report(PEERS, config.threads, progress)
    with tempfile.TemporaryDirectory() as folder:

        def run(job: str, threads: int = 1) -> Times:
            progress(f"{job.replace('_', ' ')}, {on_threads(threads)}")
            fields = {**vars(config), "job": job, "folder": folder, "count": threads}
            return in_fresh_process(work, fields, job, threads)

        def on_each(job: str) -> dict[str, Times]:
            return {on_threads(count): run(job, count) for count in config.threads}

        if "streaming" in config.only and "mimi" in config.codecs:
            times = on_each("streaming")
            for peer in ("rustymimi", "moshi"):
                add_ratios(report, f"mimi-streaming-vs-{peer}", times, "ours", peer, "<= 1.0")
        for codec, peer in BESIDE.items():
            if codec not in config.codecs or peer in report.environment["skipped"]:
                continue
            if "offline" in config.only:
                name = f"{codec}-offline-vs-{peer}"
                add_ratios(report, name, on_each(f"offline_{codec}"), "ours", peer, "<= 0.8")
            if "memory" in config.only:
                ours, theirs = (run(f"memory_{codec}_{who}")["bytes"][0] for who in ("ours", peer))
                name = f"{codec}-offline-memory-vs-{peer}"
                report.add(Figure(name, ours / theirs, "peak bytes over theirs", "<= 1.0", None, 1))
        for codec in config.codecs if "long" in config.only else ():
            _long(report, codec, [run(f"long_{codec}_{part}") for part in (6, 1, 6)])
    return report


def _long(report: Report, codec: str, runs: list[Times]) -> None:
    """Figures of a sixth, the whole, and the sixth once more: a machine's own pace changes within minutes."""
    (before, long, after), name = runs, f"{codec}-long-encode"
    seconds, size = (statistics.mean((before[key][0], after[key][0])) for key in ("seconds", "bytes"))
    pace = long["seconds"][0] / seconds / 6
    report.add(Figure(f"{name}-time", pace, "CPU time a minute, whole over a sixth", "<= 1.2", None, 1))
    apart = before["seconds"][0] / after["seconds"][0]
    report.add(Figure(f"{name}-steadiness", apart, "CPU time of the sixth, before over after", None, None, 1))
    report.add(Figure(f"{name}-memory", long["bytes"][0] / size, "bytes beside audio and codes", "<= 1.2", None, 1))
    speed = long["audio"][0] / long["seconds"][0]
    report.add(Figure(f"{name}-speed", speed, "seconds of audio a second of CPU", None, None, 1))
    report.add(Figure(f"{name}-bytes", long["bytes"][0] / 2**20, "MB beside audio and codes", None, None, 1))
