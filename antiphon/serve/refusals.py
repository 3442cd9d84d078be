"""What is wrong with a request or an event, in the words and with the codes that OpenAI has for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

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
MOST = 32  # errors that are looked at


class Refusal(BaseModel):
    """Code, message and field."""

    code: str
    message: str
    param: str


def refusal(errors: Sequence[Any], given: Any, name: str = "") -> Refusal:
    """What pydantic found, as OpenAI would say it.

    Args:
        errors: of a `ValidationError`, at least one.
        given: what was validated.
        name: of it; "" for a whole body.
    """
    placed = [(_place(error, given), error) for error in errors[:MOST]]
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


def _said(error: Any, same: Sequence[Any], where: str) -> Refusal:
    kind, given, about = error["type"], error.get("input"), error.get("ctx", {})
    if kind == "missing":
        return Refusal(
            code="missing_required_parameter", message=f"Missing required parameter: '{where}'.", param=where
        )
    if kind == "extra_forbidden":
        return Refusal(code="unknown_parameter", message=f"Unknown parameter: '{where}'.", param=where)
    if kind in EXPECTED:
        wanted = list(dict.fromkeys(EXPECTED[one["type"]] for one in same if one["type"] in EXPECTED))
        said = f"expected {' or '.join(wanted)}, but got {_kind(given)} instead"
        return Refusal(code="invalid_type", message=f"Invalid type for '{where}': {said}.", param=where)
    if kind == "literal_error":
        said = f"Invalid value for '{where}': {_shown(given)}. Supported values are: {about['expected']}."
        return Refusal(code="invalid_value", message=said, param=where)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        tag = f" {about['tag'][:100]!r}" if "tag" in about else ""
        known = f"; supported are: {about['expected_tags']}" if "expected_tags" in about else ""
        said = f"Invalid value for '{where}': unknown type{tag}{known}."
        return Refusal(code="invalid_value", message=said, param=where)
    if kind in BORDERS:
        code, side, sign, key = BORDERS[kind]
        number = "integer" if isinstance(about[key], int) else "decimal"
        said = f"{number} {side}. Expected a value {sign} {about[key]:g}, but got {_shown(given)} instead"
        return Refusal(code=f"{number}_{code}", message=f"Invalid '{where}': {said}.", param=where)
    if kind == "string_too_long":
        most, got = about["max_length"], len(given) if isinstance(given, str) else "more"
        said = f"string too long. Expected a string with maximum length {most}, but got one with length {got} instead"
        return Refusal(code="string_above_max_length", message=f"Invalid '{where}': {said}.", param=where)
    if kind == "string_too_short":
        return Refusal(code="empty_string", message=f"Invalid '{where}': the string is empty.", param=where)
    if kind == "too_long":
        said = f"too long. It has at most {about['max_length']} elements"
        return Refusal(code="array_above_max_length", message=f"Invalid '{where}': {said}.", param=where)
    if kind == "too_short":
        said = f"too short. It has at least {about['min_length']} elements"
        code = "empty_array" if not given else "array_below_min_length"
        return Refusal(code=code, message=f"Invalid '{where}': {said}.", param=where)
    return Refusal(code="invalid_value", message=f"Invalid value for '{where}': {_shown(given)}.", param=where)


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
