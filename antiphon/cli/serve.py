"""`antiphon serve`: a page to talk to, and the OpenAI clients' endpoints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from antiphon.cli.common import Device, Dtype, ModelThatFits, Parts, load_model, progress, results
from antiphon.errors import AntiphonError, ConfigError


def serve(
    model: ModelThatFits = None,
    part: Parts = None,
    device: Device = "cpu",
    dtype: Dtype = None,
    host: Annotated[str, typer.Option(help="Where to listen; anything but the loopback needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8000,
    token: Annotated[
        str, typer.Option(envvar="ANTIPHON_TOKEN", help="What callers must know.", show_default=False)
    ] = "",
    origin: Annotated[
        list[str] | None, typer.Option(help="A web origin whose pages may call, https://example.org. May be repeated.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A name this server answers to; '*' for any. May be repeated.")
    ] = None,
    certificate: Annotated[Path | None, typer.Option(help="For TLS: certificate chain, PEM.", exists=True)] = None,
    key: Annotated[Path | None, typer.Option(help="For TLS: its key, PEM.", exists=True)] = None,
    sessions: Annotated[
        int | None, typer.Option(help="Live conversations at once. [as many as this machine keeps up with]", min=1)
    ] = None,
    connections: Annotated[int, typer.Option(help="Open connections at once, of all clients.", min=1)] = 512,
    connections_per_address: Annotated[
        int, typer.Option(help="Of those, from one address; behind a proxy, all come from the proxy's.", min=1)
    ] = 64,
    private_candidates: Annotated[
        bool, typer.Option("--private-candidates", help="WebRTC: send packets to callers' private addresses, too.")
    ] = False,
    threads: Annotated[
        int | None, typer.Option(help="Threads that run the model. [one a conversation where those share steps]", min=1)
    ] = None,
    idle: Annotated[float, typer.Option(help="Seconds of silence from a client before it is let go.", min=1)] = 600.0,
    longest: Annotated[float, typer.Option(help="Seconds that a conversation may last.", min=1)] = 3600.0,
    drain: Annotated[float, typer.Option(help="Seconds to end what is being said when stopped.", min=0)] = 20.0,
    hear: Annotated[bool, typer.Option("--hear", help="With a duplex model: write down what the user says.")] = False,
    record: Annotated[Path | None, typer.Option(help="Keep conversations in this folder.", file_okay=False)] = None,
    resume: Annotated[
        float, typer.Option(help="Seconds in which a broken connection may go on with its session. [never]", min=0)
    ] = 0.0,
    wyoming: Annotated[
        str,
        typer.Option(
            help="Serve Home Assistant, too: tcp://0.0.0.0:10300. Its protocol knows no token. [no]", show_default=False
        ),
    ] = "",
    log_words: Annotated[bool, typer.Option("--log-words", help="Put what is said into the log as well.")] = False,
) -> None:
    """Serve a model: talk to it in the browser, or with the clients of OpenAI."""
    with results() as stdout:
        from antiphon.dialogue.duplex.batched import BatchedEngine
        from antiphon.dialogue.turn_ends import turn_detector
        from antiphon.dialogue.turn_taking.default import network_turns
        from antiphon.model import DuplexModel
        from antiphon.serve.app import create_app
        from antiphon.serve.run import listen, make_server
        from antiphon.serve.settings import ServeConfig
        from antiphon.serve.state import LiveOnly
        from antiphon.serve.work.admission import measure

        config = ServeConfig(
            host=host,
            port=port,
            token=token,
            origins=tuple(origin or ()),
            hosts=tuple(allow_host or ()),
            certificate=certificate,
            key=key,
            sessions=sessions,
            connections=connections,
            connections_per_address=connections_per_address,
            private_candidates=private_candidates,
            threads=threads,
            idle_seconds=idle,
            session_seconds=longest,
            drain_seconds=drain,
            record=record,
            resume_seconds=resume,
            log_words=log_words,
            wyoming=wyoming,
        )
        try:
            listening = listen(config)
        except OSError as error:
            raise ConfigError(
                f"{host}:{port} can't be listened on: {error.strerror or error}. Choose --port."
            ) from error
        loaded, _ = load_model(model, part, device, dtype)
        progress("Warming up ...")
        if isinstance(loaded, DuplexModel):
            engine = BatchedEngine(loaded.duplex)
            config = config if sessions else replace(config, sessions=engine.pace())
            app = create_app(LiveOnly(str(model), loaded.recognizer if hear else None), config, engine=engine)
        else:
            pace, ends = measure(loaded.backend), turn_detector()
            app = create_app(loaded.backend, config, pace, turns=network_turns, turn_detector=ends)
        server = make_server(app)
        scheme, shown = "https" if certificate else "http", f"[{host}]" if ":" in host else host
        url = f"{scheme}://{shown}:{listening.getsockname()[1]}"
        print(f"talk:     {url}/", file=stdout)
        print(f"clients:  {url}/v1", file=stdout)
        if wyoming:
            print(f"wyoming:  {wyoming}", file=stdout)
        print(f"at once:  {app.state.served.admission.sessions} live conversations", file=stdout, flush=True)
        server.run(sockets=[listening])
        if not server.started:
            raise AntiphonError("The server couldn't start; see above.")
