"""JSON from strangers: bounded while it comes, parsed strictly, and named by field where it isn't what it should be.

    meter = TextMeter(262_144)
    for chunk in body:
        meter.feed(chunk)                              # RequestError as soon as there is too much, and where
    value = read_json(body.decode())                     # RequestError for what is no JSON, or no Unicode, and where

Sound and pictures may be large, text may not: tokenizing a megabyte takes a second and a hundred megabytes. What
counts as text is everything but base64 in strings that are named "data" or "audio", and that of data URLs in "url",
"image_url" or "video_url".
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from typing import Any

from antiphon.serve.errors import RequestError

TEXT_LETTERS = 32_768  # of one text that the language model is to read; it remembers 2,048 tokens
MAX_DEPTH = 128  # of nested objects and arrays
MAX_FIELDS = 1024  # of an object: each that nobody knows is an error, and thousands take their time

_SOUND = re.compile(
    rb'"(?:data|audio)"\s{0,8}:\s{0,8}"'
    rb'|"(?:image_|video_)?url"\s{0,8}:\s{0,8}"data:[\w.+-]{1,30}\\?/[\w.+-]{1,60};base64,'
)
_BASE64 = re.compile(rb"[A-Za-z0-9+/=\\]*")  # some write "\/"
_TOKEN = re.compile(rb'"([^"\\]*(?:\\.[^"\\]*)*)"?|[\[\]{}:,]', re.DOTALL)
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_TAIL = 144  # bytes in which the beginning of a sound may be cut in two


class TextMeter:
    """Counts the text of a JSON document as it comes.

    Args:
        max_bytes: of text.
    """

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self._text = bytearray()
        self._tail = b""  # of the text, in which a sound may have begun to begin
        self._in_sound = False

    def feed(self, chunk: bytes) -> None:
        """The next bytes.

        Raises:
            RequestError: this is too much, with the field that it came to.
        """
        data, at, begin = self._tail + chunk, len(self._tail), 0
        while at < len(data):
            if self._in_sound:
                at = begin = _BASE64.match(data, at).end()  # type: ignore[union-attr]  # it matches nothing, too
                self._in_sound = at == len(data)
                continue
            found = _SOUND.search(data, begin)
            end = len(data) if found is None else found.end()
            self._text += data[at : min(end, at + self.max_bytes - len(self._text) + 1)]
            if len(self._text) > self.max_bytes:
                raise self._too_much()
            at, self._in_sound = end, found is not None
        self._tail = b"" if self._in_sound else data[max(begin, len(data) - _TAIL) :]

    def _too_much(self) -> RequestError:
        param = path_at_end(bytes(self._text)) or None
        where = f" in '{param}'" if param else ""
        return RequestError(
            "string_above_max_length",
            f"Too much text{where}: a request or event has at most {self.max_bytes} bytes of it, sound not counted.",
            param,
        )


def check_text(text: str, max_bytes: int) -> None:
    """Raises RequestError if a JSON document has more than `max_bytes` bytes of text."""
    if len(text) * 4 <= max_bytes:
        return
    meter = TextMeter(max_bytes)
    for start in range(0, len(text), 65536):
        meter.feed(text[start : start + 65536].encode("utf-8", "replace"))


def read_json(text: str) -> Any:
    """Strict JSON -> what it says.

    Raises:
        RequestError: it is none (code "invalid_json"); or a text in it isn't Unicode.
    """
    try:
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite, object_pairs_hook=_object)
    except RequestError:
        raise
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        said = f": {error.msg} at letter {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise RequestError("invalid_json", f"This is no JSON{said}.") from None
    if text.count("{") + text.count("[") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        fields = value.items() if isinstance(value, dict) else ()
        raise _too_deep(next((name[:100] for name, each in fields if _depth(each) >= MAX_DEPTH), None))
    if "\\ud" in text or "\\uD" in text or not _is_unicode(text):
        where = _half(value, "")
        if where is not None:
            said = "half of a surrogate pair is no Unicode text"
            raise RequestError("invalid_value", f"Invalid '{where or 'body'}': {said}.", where or None)
    return value


def read_base64(given: Any, param: str, what: str = "audio") -> bytes:
    """Strict base64 -> bytes.

    Raises:
        RequestError: `param` isn't a string of base64.
    """
    try:
        return base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise RequestError("invalid_value", f"Invalid '{param}': {what} is a string of base64.", param) from None


def path_at_end(text: bytes) -> str:
    """The field in which a JSON document breaks off.

    >>> path_at_end(b'{"messages": [{"role": "user"}, {"role": "user", "content": "And th')
    'messages[1].content'
    """
    path: list[str | int] = []
    last = ""
    for token in _TOKEN.finditer(text):
        kind = token[0]
        if kind == b"{":
            path.append("")
        elif kind == b"[":
            path.append(0)
        elif kind in (b"}", b"]"):
            path = path[:-1]
        elif kind == b",":
            if path and isinstance(path[-1], int):
                path[-1] += 1
        elif kind == b":":
            if path and isinstance(path[-1], str):
                path[-1] = last
        else:
            last = token[1][:100].decode("utf-8", "replace")
    return shown_path(path[:8])


def shown_path(path: list[str | int]) -> str:
    """A field's place as it is shown: ["messages", 1, "content"] -> "messages[1].content"."""
    shown = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path if part != "")
    return shown.removeprefix(".")


def _object(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(fields) > MAX_FIELDS:
        raise RequestError("invalid_value", f"An object has at most {MAX_FIELDS} fields; this one has {len(fields)}.")
    return dict(fields)


def _is_unicode(text: str) -> bool:
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _too_deep(param: str | None = None) -> RequestError:
    where = f"Invalid '{param}': objects" if param else "Objects"
    code = "invalid_value" if param else "invalid_json"
    return RequestError(code, f"{where} and arrays are nested more than {MAX_DEPTH} deep.", param)


def _depth(value: Any) -> int:
    level, deep = [value], 0
    while level and deep <= MAX_DEPTH:
        inner = [each for each in level if isinstance(each, (dict, list)) and each]
        level = [one for each in inner for one in (each.values() if isinstance(each, dict) else each)]
        deep += bool(inner)
    return deep


def _half(value: Any, path: str) -> str | None:
    """The place of the first text with half of a surrogate pair; None if there is none."""
    if isinstance(value, str):
        return path if _SURROGATE.search(value) else None
    if isinstance(value, list):
        pairs = [(f"{path}[{at}]", each) for at, each in enumerate(value)]
    elif isinstance(value, dict):
        for key in value:
            if _SURROGATE.search(key):
                return f"{path}.{_SURROGATE.sub('?', key)[:100]}".removeprefix(".")
        pairs = [(f"{path}.{key[:100]}".removeprefix("."), each) for key, each in value.items()]
    else:
        return None
    return next((found for where, each in pairs if (found := _half(each, where)) is not None), None)
