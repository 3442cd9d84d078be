"""Who is connected: so many at once, in all and from one address, counted before a byte is read.

When there are too many, a newcomer gets the place of a client that owes us something, the rest of a request or its
first byte, whoever has kept us waiting for longest first. So those who merely hold connections keep nobody out, not
even others at their own address. A client whose request is being answered, and a WebSocket, stay.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)

PAUSE_SECONDS = 0.5  # after the system had no room for another connection
LOG_SECONDS = 60.0  # between two lines of the log about connections that weren't taken


@dataclass(eq=False)
class Connection:
    """One of them.

    Attributes:
        socket: non-blocking; the event loop's from now on.
        source: whose it is, see `source_of`.
    """

    socket: socket.socket
    source: str


class Connections:
    """Those that are open.

    Args:
        max_open: at once.
        max_per_source: at once from one address.
    """

    def __init__(self, max_open: int, max_per_source: int):
        self.max_open, self.max_per_source = max_open, max_per_source
        self.open: set[Connection] = set()
        self.each: Counter[str] = Counter()
        self.waiting: dict[Connection, None] = {}  # of those, who owe us something; who did for longest comes first
        self._told = -LOG_SECONDS

    def admit(self, new: socket.socket, address: str) -> Connection | None:
        """Counts a connection, letting go of another where that is needed; None: there is no room."""
        connection = Connection(new, source_of(address))
        if self.each[connection.source] >= self.max_per_source:
            room = self.let_go(connection.source)
        else:
            room = len(self.open) < self.max_open or self.let_go()
        if not room:
            self._tell(connection.source)
            return None
        self.open.add(connection)
        self.each[connection.source] += 1
        self.waiting[connection] = None
        return connection

    def let_go(self, source: str | None = None) -> bool:
        """Lets go of who has kept us waiting for longest, of one source or of all; false if nobody has."""
        oldest = next((each for each in self.waiting if source in (None, each.source)), None)
        if oldest is None:
            return False
        self.leave(oldest)
        with contextlib.suppress(OSError):  # it has ended by itself
            oldest.socket.shutdown(socket.SHUT_RDWR)
        return True

    def waits(self, connection: Connection, progress: bool = False) -> None:
        """The client owes us something; with progress, some of it has just come."""
        if connection in self.open:
            if progress:
                self.waiting.pop(connection, None)
            self.waiting.setdefault(connection)

    def works(self, connection: Connection) -> None:
        """The client has all that it asked answered, or talks."""
        self.waiting.pop(connection, None)

    def leave(self, connection: Connection) -> None:
        """It has ended."""
        self.waiting.pop(connection, None)
        if connection in self.open:
            self.open.discard(connection)
            self.each[connection.source] -= 1
            if not self.each[connection.source]:
                del self.each[connection.source]

    def _tell(self, source: str) -> None:
        if time.monotonic() - self._told > LOG_SECONDS:
            self._told = time.monotonic()
            about = f"{len(self.open)} connections are open, {self.each[source]} of them from {source}"
            log.warning("%s: more are not taken; see --connections and --connections-per-address", about)


def source_of(address: str) -> str:
    """Whose an address is: for IPv6 the whole /64, for one customer has that many."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:  # of a socket that isn't IP's
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(ip) >> 64 << 64, 64)))


class Acceptor:
    """Takes connections from a listening socket; for uvicorn, one of its servers.

    Args:
        listening: it does already.
        connections: where they are counted.
        make: a protocol for a connection.
        tls: None for none.
        seconds: for the handshake of TLS.
    """

    def __init__(
        self,
        listening: socket.socket,
        connections: Connections,
        make: Callable[[Connection], asyncio.Protocol],
        tls: ssl.SSLContext | None,
        seconds: float,
    ):
        self.listening, self.connections, self.make, self.tls, self.seconds = listening, connections, make, tls, seconds
        self.loop = asyncio.get_running_loop()
        self._beginning: set[asyncio.Task[None]] = set()
        self._task = self.loop.create_task(self._accept())

    def close(self) -> None:
        """Takes no more."""
        for task in (self._task, *self._beginning):
            task.cancel()

    async def wait_closed(self) -> None:
        await asyncio.gather(self._task, *self._beginning, return_exceptions=True)

    async def _accept(self) -> None:
        while True:
            try:
                new, address = await self.loop.sock_accept(self.listening)
            except ConnectionAbortedError:  # gone before we looked
                continue
            except OSError as error:  # mostly: no file descriptor is left
                log.warning("no connection can be taken: %s", error)
                self.connections.let_go()
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            connection = self.connections.admit(new, address[0] if address else "")
            if connection is None:
                new.close()
                continue
            task = self.loop.create_task(self._begin(connection))
            self._beginning.add(task)
            task.add_done_callback(self._beginning.discard)

    async def _begin(self, connection: Connection) -> None:
        seconds = self.seconds if self.tls is not None else None
        try:
            await self.loop.connect_accepted_socket(
                lambda: self.make(connection), connection.socket, ssl=self.tls, ssl_handshake_timeout=seconds
            )
        except OSError:  # of the handshake
            self.connections.leave(connection)
