"""Pictures and videos that clients send: as data URLs alone, and looked at before anything of them is decoded."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any, Literal

from antiphon.encoders.vision.pictures import check_picture
from antiphon.encoders.vision.video import check_video
from antiphon.errors import DataError
from antiphon.serve.errors import RequestError
from antiphon.serve.json_text import read_base64

DATA_URL = re.compile(r"data:([\w.+-]{1,30}/[\w.+-]{1,60});base64,", re.ASCII)
MAX_SEEN = 16  # pictures and videos in one request or item


def read_seen(url: Any, kind: Literal["image", "video"], param: str, seconds: float) -> dict[str, Any]:
    """A picture or a video as a content of a message, not decoded.

    Args:
        url: as a client gives it.
        kind: what it is to be.
        param: where it stands.
        seconds: that a video may last.

    Raises:
        RequestError: it is no data URL, or of something that can't be seen, or is too large.
    """
    found = DATA_URL.match(url) if isinstance(url, str) else None
    if found is None:
        said = f"Invalid '{param}': nothing is fetched; give a data URL, data:{kind}/...;base64,..."
        raise RequestError("invalid_value", said, param)
    data = read_base64(url[found.end() :], param, "a data URL")
    try:
        if kind == "image":
            check_picture(data)
        else:
            check_video(data, seconds)
    except DataError as error:
        raise RequestError("invalid_value", f"Invalid '{param}': {error}.", param) from None
    return {"type": kind, kind: data, "media_type": found[1]}


def check_sees(sees: bool, param: str) -> None:
    """Raises RequestError where a picture is given to a model that sees none."""
    if not sees:
        raise RequestError("invalid_value", f"Invalid '{param}': this model sees no pictures and no videos.", param)


def check_count(count: int, param: str) -> None:
    """Raises RequestError for more pictures and videos than are taken at once."""
    if count > MAX_SEEN:
        said = f"Invalid '{param}': at most {MAX_SEEN} pictures and videos are seen at once."
        raise RequestError("array_above_max_length", said, param)


def size(contents: tuple[Mapping[str, Any], ...]) -> int:
    """Bytes of what is to be seen in contents."""
    return sum(len(each[each["type"]]) for each in contents if each["type"] in ("image", "video"))


def data_url(content: Mapping[str, Any]) -> str:
    """What `read_seen` has read."""
    return f"data:{content['media_type']};base64,{base64.b64encode(content[content['type']]).decode()}"
