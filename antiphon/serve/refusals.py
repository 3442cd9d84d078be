"""What is wrong with a request or an event, in the words and with the codes that OpenAI has for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from antiphon.serve.errors import RequestError, missing
from antiphon.serve.json_text import shown_path

EXPECTED = {
    "string_type": "a string",
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_from_float": "an integer",
    "int_parsing_size": "an integer",
    "float_type": "a decimal",
    "float_parsing": "a decimal",
    "bool_type": "a boolean",
    "bool_parsing": "a boolean",
    "list_type": "an array",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
BORDERS = {
    "greater_than_equal": ("below_min_value", "below minimum value", ">=", "ge"),
    "greater_than": ("below_min_value", "below minimum value", ">", "gt"),
    "less_than_equal": ("above_max_value", "above maximum value", "<=", "le"),
    "less_than": ("above_max_value", "above maximum value", "<", "lt"),
}
MAX_ERRORS = 32  # that are looked at


def refusal(errors: Sequence[Any], given: Any, name: str = "") -> RequestError:
    """What pydantic found, as OpenAI would say it.

    Args:
        errors: of a `ValidationError`, at least one.
        given: what was validated.
        name: of it; "" for a whole body.
    """
    placed = [(_place(error, given), error) for error in errors[:MAX_ERRORS]]
    deepest = max(len(place) for place, _ in placed)  # of the kinds that a value may have, the one that was meant
    place = next(where for where, _ in placed if len(where) == deepest)
    same = [one for where, one in placed if where == place]
    error = next((one for one in same if one["type"] not in EXPECTED), same[0])  # its kind is right, all but that
    return _said(error, same, shown_path([name, *place]) or "body")


def _place(error: Any, given: Any) -> list[str | int]:
    """Where it is in what was given: pydantic's path has the names of a union's members, too."""
    place: list[str | int] = []
    loc = [part for part in error["loc"] if part not in ("query", "path")]
    loc = loc[1:] if loc[:1] == ["body"] else loc
    for at, part in enumerate(loc):
        last = at == len(loc) - 1
        if isinstance(given, dict) and isinstance(part, str):
            if part in given:
                given = given[part]
            elif not (last and error["type"] == "missing"):
                continue
        elif isinstance(given, list) and isinstance(part, int) and part < len(given):
            given = given[part]
        elif isinstance(given, (str, int, float, bool, list)):  # and nothing is within
            continue
        place.append(part[:100] if isinstance(part, str) else part)
    return place


def _said(error: Any, same: Sequence[Any], where: str) -> RequestError:
    kind, given, about = error["type"], error.get("input"), error.get("ctx", {})
    code = "invalid_value"
    if kind == "missing":
        return missing(where)
    if kind == "extra_forbidden":
        return RequestError("unknown_parameter", f"Unknown parameter: '{where}'.", where)
    if kind in EXPECTED:
        wanted = list(dict.fromkeys(EXPECTED[one["type"]] for one in same if one["type"] in EXPECTED))
        said = f"expected {' or '.join(wanted)}, but got {_kind(given)} instead"
        return RequestError("invalid_type", f"Invalid type for '{where}': {said}.", where)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        tag = f" {about['tag'][:100]!r}" if "tag" in about else ""
        known = f"; supported are: {about['expected_tags']}" if "expected_tags" in about else ""
        return RequestError(code, f"Invalid value for '{where}': unknown type{tag}{known}.", where)
    if kind in BORDERS:
        side, words, sign, key = BORDERS[kind]
        number = "integer" if isinstance(about[key], int) else "decimal"
        code = f"{number}_{side}"
        said = f"{number} {words}. Expected a value {sign} {about[key]:g}, but got {_shown(given)} instead"
    elif kind == "string_too_long":
        longest, got = about["max_length"], len(given) if isinstance(given, str) else "more"
        code = "string_above_max_length"
        said = (
            f"string too long. Expected a string with maximum length {longest}, but got one with length {got} instead"
        )
    elif kind == "string_too_short":
        code, said = "empty_string", "the string is empty"
    elif kind == "too_long":
        code, said = "array_above_max_length", f"too long. It has at most {about['max_length']} elements"
    elif kind == "too_short":
        code = "array_below_min_length" if given else "empty_array"
        said = f"too short. It has at least {about['min_length']} elements"
    else:
        supported = f" Supported values are: {about['expected']}." if kind == "literal_error" else ""
        return RequestError(code, f"Invalid value for '{where}': {_shown(given)}.{supported}", where)
    return RequestError(code, f"Invalid '{where}': {said}.", where)


def _kind(given: Any) -> str:
    if given is None:
        return "null"
    kinds = {bool: "a boolean", int: "an integer", float: "a decimal", str: "a string", list: "an array"}
    return kinds.get(type(given), "an object" if isinstance(given, dict) else "something else")


def _shown(given: Any) -> str:
    """A value, short."""
    if isinstance(given, str):
        return repr(given[:60] + ("…" if len(given) > 60 else ""))
    if isinstance(given, bool) or given is None:
        return str(given).lower().replace("none", "null")
    return str(given)[:60] if isinstance(given, (int, float)) else _kind(given)
