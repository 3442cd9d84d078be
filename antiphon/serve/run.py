"""Runs the application under uvicorn: TLS, sizes, bounds, signs of life, and an end in two steps.

The first SIGTERM (or Ctrl-C) drains: nobody new is let in, answers that are under way are finished, and every
conversation is closed with 1001 as it falls silent, at the latest after `drain_seconds`. The second ends at once.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from antiphon.serve.access.connections import Acceptor, Connection
from antiphon.serve.access.protocols import HttpProtocol, WebSocketProtocol
from antiphon.serve.settings import ServeConfig
from antiphon.serve.state import Served

log = logging.getLogger(__name__)

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain", "stream": "ext://sys.stderr"}},
    "loggers": {
        "antiphon.serve": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
        "uvicorn": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
    },
}


class Server(uvicorn.Server):
    """uvicorn's, which counts its connections, and drains first.

    Args:
        config: of uvicorn.
        served: the server's own state.
    """

    def __init__(self, config: uvicorn.Config, served: Served):
        super().__init__(config)
        self.served = served
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        sockets = sockets or [listen(self.served.config)]
        for listening in sockets:
            listening.setblocking(False)
            listening.listen(self.config.backlog)  # before it is said that the server has started
        await super().startup([])
        config, connections = self.served.config, self.served.connections

        def make(connection: Connection) -> HttpProtocol:
            how = {"config": self.config, "server_state": self.server_state, "app_state": self.lifespan.state}
            return HttpProtocol(connection, connections, config, **how)

        self.servers = [
            Acceptor(listening, connections, make, self.config.ssl, config.header_seconds) for listening in sockets
        ]

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.served.admission.draining:
            super().handle_exit(sig, frame)
            return
        self.served.admission.draining = True
        asyncio.get_running_loop().call_soon_threadsafe(self._start_draining)

    def _start_draining(self) -> None:
        self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        log.info("stopping: %d conversations may end what they say", self.served.admission.live)
        until = loop.time() + self.served.config.drain_seconds
        while (self.served.admission.live or self.served.admission.asked) and loop.time() < until:
            await asyncio.sleep(0.1)
        self.should_exit = True


def make_server(app: FastAPI) -> Server:
    """A server for an application that `create_app` made."""
    served: Served = app.state.served
    config: ServeConfig = served.config
    settings = uvicorn.Config(
        app,
        host=config.host,
        port=config.port,
        ws=WebSocketProtocol,
        ws_max_size=config.message_bytes,
        ws_ping_interval=config.ping_seconds,
        ws_ping_timeout=config.ping_seconds,
        ws_per_message_deflate=False,  # sound doesn't get smaller, and a bomb would grow
        ssl_certfile=config.certificate,
        ssl_keyfile=config.key,
        log_config=LOGGING,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
        h11_max_incomplete_event_size=65536,
    )
    return Server(settings, served)


def listen(config: ServeConfig) -> socket.socket:
    """The listening socket: bound before anything long is done, so that a taken port is told at once.

    Raises:
        OSError: the port is taken, or may not be had.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((config.host, config.port))
    except OSError:
        listening.close()
        raise
    return listening
