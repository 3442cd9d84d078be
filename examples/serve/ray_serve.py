"""Many replicas behind Ray Serve, each a process with a model of its own.

    pip install 'antiphon[ray]'
    cd examples/serve && serve run ray_serve:app                # http://127.0.0.1:8000, as of `antiphon serve`

ANTIPHON_MODEL names the model, ANTIPHON_REPLICAS how many there are, ANTIPHON_THREADS the threads of each; these, and
ANTIPHON_TOKEN, are set where the replicas run. Ray gives a new connection to the replica with the fewest, and a
WebSocket stays with it. Each admits what it has measured and refuses the rest itself, so `max_ongoing_requests` is so
high that nobody is kept waiting at the door.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from fastapi import FastAPI
from ray import serve


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


def application(make: Callable[[], FastAPI], replicas: int) -> serve.Application:
    """Replicas of what `make` makes."""

    @serve.deployment(num_replicas=replicas, max_ongoing_requests=1000)
    @serve.ingress(make)
    class Replica:
        """Everything is in its application."""

    return Replica.bind()


app = application(voice, int(os.environ.get("ANTIPHON_REPLICAS", "2")))
