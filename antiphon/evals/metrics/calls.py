"""Right or wrong: does a request lead to the function that it asks for, with arguments that mean the same?"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from antiphon.errors import DataError
from antiphon.evals.metrics.answers import plain_words

TOOL_REQUESTS = Path(__file__).with_name("tool_requests.jsonl")  # 80: what a figure is of
DEVELOPMENT = Path(__file__).with_name("tool_requests_dev.jsonl")  # 40 others: for choosing prompts by


@dataclass(frozen=True)
class Request:
    """Something that is said to an assistant.

    Attributes:
        text: as one says it.
        function: that it asks for; None for none.
        arguments: by name, values of which any will do. Of text, a pattern of words where "*" stands for any; of a
            list, a pattern for each of its items, in any order; None where the argument may be left out.
    """

    text: str
    function: str | None
    arguments: Mapping[str, Sequence[Any]]


def read_requests(path: Path | str = TOOL_REQUESTS) -> list[Request]:
    """Reads a jsonl of {"text", "function", "arguments"}.

    Raises:
        DataError: unreadable, or a line without these fields.
    """
    requests, number = [], 0
    try:
        for line in Path(path).read_text(encoding="utf-8").splitlines():
            number += 1
            row = json.loads(line)
            requests.append(Request(row["text"], row["function"], dict(row["arguments"])))
    except OSError as error:
        raise DataError(f"cannot read the requests: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f'{path}, line {number} is not {{"text", "function", "arguments"}}: {error!r}') from error
    return requests


def is_right_call(request: Request, calls: Sequence[tuple[str, Mapping[str, Any]]]) -> bool:
    """Whether exactly the function that was asked for was called once, with accepted arguments and no others.

    Args:
        request: what was said.
        calls: (function, arguments) of each.
    """
    if request.function is None or len(calls) != 1:
        return not calls and request.function is None
    (name, given), accepted = calls[0], request.arguments
    if name != request.function or set(given) - set(accepted):
        return False
    return all(any(fits(given.get(key), value) for value in values) for key, values in accepted.items())


def fits(given: Any, accepted: Any) -> bool:
    """Whether a value means what one accepted value means.

    >>> fits("The kitchen", "*kitchen"), fits(["Eggs", "milk"], ["milk", "*egg*"]), fits(10.0, 10), fits(True, 1)
    (True, True, True, False)
    """
    if isinstance(accepted, list):
        left = list(given) if isinstance(given, list) else []
        if len(left) != len(accepted):
            return False
        for one in accepted:
            found = next((at for at, item in enumerate(left) if fits(item, one)), None)
            if found is None:
                return False
            del left[found]
        return True
    if isinstance(accepted, str):
        return isinstance(given, str) and fnmatchcase(" ".join(plain_words(given)), accepted)
    return given == accepted and isinstance(given, bool) == isinstance(accepted, bool)
