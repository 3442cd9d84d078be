"""What a server may be told: where it listens, who may come in, and how much anyone may ask for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from antiphon.errors import ConfigError

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class ServeConfig:
    """A server.

    Attributes:
        host, port: where it listens.
        token: whoever calls must know it; "" lets in everyone who reaches the port, which only a loopback server may.
        origins: web origins ("https://example.org") whose pages may call; a page that the server gave may always.
        hosts: names it answers to besides `host` and those of the loopback, as the Host header gives them; "*" for any.
        certificate, key: PEM files for TLS; both or none.
        connections: of clients at once, in all, and `connections_per_address` of them from one address (IPv6: from one
            /64). When there are too many, a newcomer gets the place of who owes us the rest of a request.
        header_seconds: in which a request's head must have come, and the handshake of TLS before it.
        body_seconds: that a request's body may keep us waiting, and a second more for every `body_rate` bytes of it.
        private_candidates: by WebRTC, sends packets to a caller's private and loopback addresses, too, as its offer
            names them. A caller that can reach this server needs none of that.
        sessions: live conversations at once; None: as many as the machine was measured to keep up with.
        requests: HTTP requests that use the model, at once; others wait their turn or are refused.
        threads: that run the model; None: one, or where conversations share their steps, one for each.
        message_bytes: of one WebSocket message.
        body_bytes: of one HTTP request.
        decoded_seconds: of sound in one turn, after decoding; `file_seconds`: in a file that is written down.
        text_letters: of one text to be read aloud.
        text_bytes: of all text in one request or event; sound doesn't count.
        silent_seconds: in which a client must have sent something at all after its conversation began.
        idle_seconds: without a word from the client, after which a conversation is closed.
        session_seconds: of a conversation.
        send_bytes: that may wait for a client who reads slowly, and `stall_seconds` that a single message may wait;
            after that the client is dropped.
        ping_seconds: between two signs of life asked of a client; and as many for it to answer.
        drain_seconds: that conversations get to end in when the server is stopped.
        record: a folder in which conversations on /v1/realtime are kept; None keeps none.
        resume_seconds: in which a client whose connection broke may go on with its session, by `?resume=ID`; 0: never.
        vad: how speech is found: "silero", a network that tells voices from other sounds, or "loudness".
        log_words: put what is said into the log as well.
        wyoming: where Home Assistant's protocol is listened for, tcp://HOST:PORT, which lets in whoever reaches it.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str = ""
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    certificate: Path | None = None
    key: Path | None = None
    connections: int = 512
    connections_per_address: int = 64
    header_seconds: float = 10.0
    body_seconds: float = 20.0
    body_rate: int = 16 * 1024
    private_candidates: bool = False
    sessions: int | None = None
    requests: int = 8
    threads: int | None = None
    message_bytes: int = 8 * 1024 * 1024
    body_bytes: int = 26 * 1024 * 1024
    decoded_seconds: float = 120.0
    file_seconds: float = 4 * 3600.0
    text_letters: int = 4096
    text_bytes: int = 256 * 1024
    silent_seconds: float = 60.0
    idle_seconds: float = 600.0
    session_seconds: float = 3600.0
    send_bytes: int = 4 * 1024 * 1024
    stall_seconds: float = 10.0
    ping_seconds: float = 20.0
    drain_seconds: float = 20.0
    record: Path | None = None
    resume_seconds: float = 0.0
    vad: str = "silero"
    log_words: bool = False
    wyoming: str = ""
    page: Path = field(default_factory=lambda: Path(__file__).resolve().parent / "page")

    def __post_init__(self) -> None:
        if not self.loopback and not self.token:
            raise ConfigError(
                f"Listening on {self.host} lets others in: give a token (--token or ANTIPHON_TOKEN), or listen on "
                "127.0.0.1."
            )
        if (self.certificate is None) != (self.key is None):
            raise ConfigError("TLS needs both a certificate and its key.")
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"A port is 0 to 65535, not {self.port}.")
        if self.token and not (self.token.isascii() and self.token.isprintable() and " " not in self.token):
            raise ConfigError("A token is made of printable ASCII without spaces.")
        numbers = {
            name: getattr(self, name)
            for name in (
                "connections connections_per_address header_seconds body_seconds body_rate requests threads "
                "message_bytes body_bytes decoded_seconds text_letters text_bytes silent_seconds idle_seconds "
                "session_seconds send_bytes stall_seconds ping_seconds"
            ).split()
        }
        for name, value in numbers.items():
            if value is not None and value <= 0:
                raise ConfigError(f"{name} is above 0, not {value}.")
        if self.sessions is not None and self.sessions < 1:
            raise ConfigError(f"sessions is at least 1, not {self.sessions}.")

    @property
    def loopback(self) -> bool:
        """Only this machine can reach it."""
        return self.host in LOOPBACK
