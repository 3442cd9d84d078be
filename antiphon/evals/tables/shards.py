"""A report made by several at once: each makes its share of the answers, and whoever comes last puts them together.

    run_in_shards(config, 4)             # processes of this machine; on Ray with `ray=True`
    run(config)                          # the report: all answers are there

What is asked together is one shard's, by its key, so that whoever goes on after a stop knows without asking. A shard
that was started by hand (`--shard 2/4`) may have a GPU or a machine of its own, as long as all write into one folder.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

from antiphon.errors import ConfigError, EvalError
from antiphon.evals.machine import available_cores
from antiphon.evals.tables.run import TablesConfig, run_shard, wanted_of


def parsed_shard(text: str) -> tuple[int, int]:
    """(2, 4) of "2/4".

    Raises:
        ConfigError: no such thing.
    """
    number, _, count = text.partition("/")
    if not (number.isdigit() and count.isdigit() and 1 <= int(number) <= int(count)):
        raise ConfigError(f"--shard is a number of a count, such as 2/4, not {text!r}.")
    return int(number), int(count)


def run_in_shards(config: TablesConfig, count: int, ray: bool = False) -> None:
    """Has so many shards make their answers, and waits for them.

    Args:
        config: what to measure.
        count: shards.
        ray: on a Ray cluster, whose machines must see model, sets and report under the same paths; else in processes of
            this machine.

    Raises:
        ConfigError: what can't be measured by anybody.
        EvalError: Ray isn't installed.
    """
    wanted_of(config)
    own = [replace(config, shard=(number, count)) for number in range(1, count + 1)]
    if ray:
        _on_ray(own)
        return
    threads = max(1, available_cores() // count)
    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn")) as pool:
        for done in [pool.submit(_apart, each, threads) for each in own]:
            done.result()


def _apart(config: TablesConfig, threads: int) -> int:
    """A shard in a process with its share of the cores."""
    import torch

    torch.set_num_threads(threads)
    return run_shard(config)


def _on_ray(shards: list[TablesConfig]) -> None:
    try:
        import ray
    except ImportError as error:
        raise EvalError(f"--ray needs Ray ({error}). Install it: pip install 'antiphon[ray]'") from None
    ray.init(ignore_reinit_error=True, log_to_driver=False)
    work = ray.remote(run_shard)
    ray.get([work.remote(each) for each in shards])
