"""Many replicas behind Ray Serve, each a process with a model of its own.

    pip install 'antiphon[ray]'
    cd examples/serve && serve run ray_serve:app                # http://127.0.0.1:8000, as of `antiphon serve`

ANTIPHON_MODEL names the model, ANTIPHON_REPLICAS how many there are, ANTIPHON_THREADS the threads of each; these, and
ANTIPHON_TOKEN, are set where the replicas run. Ray gives a new connection to the replica with the fewest, and a
WebSocket stays with it. Each admits what it has measured and refuses the rest itself, so `max_ongoing_requests` is so
high that nobody is kept waiting at the door.

With ANTIPHON_MOST there are as many replicas as are needed, from ANTIPHON_REPLICAS to ANTIPHON_MOST: more when those
that there are hold more than ANTIPHON_EACH conversations on average. Let that be half of what a replica has room for,
as a new one takes a minute to load its model. One that isn't needed any more is given nobody new, and ends with the last
of its conversations.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from ray import serve

LONGEST = 3600.0  # seconds that a conversation may last, so that none is cut off where a replica goes


def voice() -> FastAPI:
    """A replica's application; called in its process."""
    import torch

    import antiphon
    from antiphon.dialogue.duplex.batched import BatchedEngine
    from antiphon.dialogue.turn_ends import turn_detector
    from antiphon.dialogue.turn_taking.default import network_turns
    from antiphon.model import DuplexModel
    from antiphon.serve.app import create_app
    from antiphon.serve.settings import ServeConfig
    from antiphon.serve.state import LiveOnly
    from antiphon.serve.work.admission import measure

    torch.set_num_threads(int(os.environ.get("ANTIPHON_THREADS", "2")))
    name, token = os.environ.get("ANTIPHON_MODEL", "mini"), os.environ.get("ANTIPHON_TOKEN", "")
    hosts = ("*",) if token else ()  # without a token it answers to the loopback's names alone
    model = antiphon.load(name)
    if isinstance(model, DuplexModel):
        engine = BatchedEngine(model.duplex)
        return create_app(LiveOnly(name), ServeConfig(token=token, hosts=hosts, sessions=engine.pace()), engine=engine)
    config, pace = ServeConfig(token=token, hosts=hosts), measure(model.backend)
    return create_app(model.backend, config, pace, turns=network_turns, turn_detector=turn_detector())


def scaling(least: int, most: int, each: float) -> dict[str, Any]:
    """How many replicas there are to be: for so many conversations on each."""
    return {
        "min_replicas": least,
        "max_replicas": most,
        "target_ongoing_requests": each,  # a conversation is one, from its beginning to its end
        "upscale_delay_s": 5,
        "downscale_delay_s": 300,
    }


def application(make: Callable[[], FastAPI], replicas: int, scaled: dict[str, Any] | None = None) -> serve.Application:
    """Replicas of what `make` makes: so many of them, or as many as `scaling` says."""
    count: dict[str, Any] = {"num_replicas": replicas} if scaled is None else {"autoscaling_config": scaled}

    @serve.deployment(max_ongoing_requests=1000, graceful_shutdown_timeout_s=LONGEST, **count)
    @serve.ingress(make)
    class Replica:
        """Everything is in its application."""

    return Replica.bind()


REPLICAS, MOST = int(os.environ.get("ANTIPHON_REPLICAS", "2")), int(os.environ.get("ANTIPHON_MOST", "0"))
app = application(
    voice, REPLICAS, scaling(REPLICAS, MOST, float(os.environ.get("ANTIPHON_EACH", "0.5"))) if MOST else None
)
