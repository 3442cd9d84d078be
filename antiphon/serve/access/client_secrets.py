"""Ephemeral keys: given to a page in a browser, so that it can call without knowing the server's token."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from antiphon.serve.errors import RequestError

PREFIX = "ek_"
PATHS = ("/v1/realtime", "/v1/realtime/calls")  # what such a key opens
MAX_KEYS = 1000  # at once


@dataclass(frozen=True)
class Key:
    """A key that was given.

    Attributes:
        digest: SHA-256 of it; the key itself isn't kept.
        expires: seconds since 1970.
        session: what a conversation that it opens begins with, `session` as of session.update.
    """

    digest: bytes
    expires: float
    session: dict[str, Any]


class ClientSecrets:
    """The keys of one server, in memory alone: they end with it.

    Args:
        max_keys: at once.
        clock: seconds since 1970.
    """

    def __init__(self, max_keys: int = MAX_KEYS, clock: Callable[[], float] = time.time):
        self.max_keys, self.clock = max_keys, clock
        self._keys: dict[bytes, Key] = {}

    def make(self, seconds: float, session: dict[str, Any]) -> tuple[str, int]:
        """A new key and when it expires, seconds since 1970.

        Raises:
            RequestError: there are as many as may be.
        """
        now = self.clock()
        self._keys = {digest: key for digest, key in self._keys.items() if key.expires > now}
        if len(self._keys) >= self.max_keys:
            said = "Too many keys are valid; some must expire."
            raise RequestError("too_many_keys", said, status=503, retry_after=60)
        value, expires = PREFIX + secrets.token_hex(24), int(now + seconds)
        digest = _digest(value)
        self._keys[digest] = Key(digest, expires, session)
        return value, expires

    def find(self, value: str, path: str) -> Key | None:
        """The key, if it is valid and opens `path`. How long this takes tells nothing of other keys."""
        if not value.startswith(PREFIX) or path not in PATHS:
            return None
        digest = _digest(value)
        key = self._keys.get(digest)  # found by what nobody can choose
        if key is None or not hmac.compare_digest(key.digest, digest) or key.expires <= self.clock():
            return None
        return key


def _digest(value: str) -> bytes:
    return hashlib.sha256(value.encode("utf-8", "replace")).digest()
