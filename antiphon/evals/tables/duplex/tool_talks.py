"""Full-Duplex-Bench v3 (Lin et al. 2026, arXiv 2604.04847): spoken requests, hesitations and all, that call functions.

The set lies in `full_duplex_bench/v3/` of the data's folder as it is published, `ID_SPEAKER/input.wav` and
metadata.json with the calls that are expected. The twelve functions are its; what they give back is made up here, as
it is there. Scores are those of evaluate_tool_calls.py and evaluate_pass_rate.py: F1 of the functions, arguments that
are equal but for case and underscores (or that a judge finds right), and requests in which all of that is right.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from antiphon.audio.io import load
from antiphon.errors import AntiphonError, DataError
from antiphon.evals.cache import ResultCache, key_of
from antiphon.evals.rows import spread
from antiphon.evals.tables.items import Item, Measured, mean_of, measured
from antiphon.evals.tables.speech.measure import Judge
from antiphon.evals.tables.systems.system import Calling

SOURCE = "https://github.com/DanielLin94144/Full-Duplex-Bench/tree/main/v3"
TOKENS = 256
Call = Mapping[str, Any]  # {"function": ..., "args": {...}}
TEXT, NUMBER, COUNT = {"type": "string"}, {"type": "number"}, {"type": "integer"}
# Its functions: what they do, their arguments, and those that may be left out.
FUNCTIONS: dict[str, tuple[str, dict[str, dict[str, str]], tuple[str, ...]]] = {
    "search_flights": ("Finds flights to a destination on a day.", {"destination": TEXT, "date": TEXT}, ()),
    "book_flight": ("Books a flight for a passenger.", {"passenger_name": TEXT}, ()),
    "update_identity_doc": ("Changes the user's identity document.", {"doc_type": TEXT, "doc_number": TEXT}, ()),
    "get_card_benefits": ("Tells the benefits of a credit card.", {"card_type": TEXT}, ()),
    "get_exchange_rate": (
        "Converts an amount of one currency into another, by three-letter codes.",
        {"amount": NUMBER, "from_currency": TEXT, "to_currency": TEXT}, (),
    ),
    "modify_autopay": (
        "Changes from which account a bill is paid automatically.", {"bill_type": TEXT, "source_account": TEXT}, (),
    ),
    "search_apartments": (
        "Finds apartments for rent.", {"city": TEXT, "bedrooms": COUNT, "max_price": NUMBER}, (),
    ),
    "calculate_commute": (
        "Tells how long a commute takes.", {"origin_address": TEXT, "destination_address": TEXT, "mode": TEXT},
        ("mode",),
    ),
    "update_search_filter": ("Changes a filter of the user's search.", {"filter_name": TEXT, "value": TEXT}, ()),
    "track_order": ("Tells where an order is.", {"order_id": TEXT}, ()),
    "search_products": ("Finds products in the catalog.", {"query": TEXT, "max_price": NUMBER}, ("max_price",)),
    "add_to_cart": ("Puts a product into the cart.", {"product_id": TEXT, "quantity": COUNT}, ("quantity",)),
}  # fmt: skip
RESULTS: dict[str, dict[str, Any]] = {
    "search_flights": {"flights": [{"flight_id": "FL123", "airline": "Blue Air", "departs": "9:40", "price": 310}]},
    "book_flight": {"booking_id": "BK77", "flight_id": "FL123"},
    "get_card_benefits": {"benefits": ["lounge access", "travel insurance"]},
    "get_exchange_rate": {"rate": 0.92},
    "search_apartments": {"apartments": [{"apartment_id": "AP5", "address": "12 Main Street", "price": 1450}]},
    "calculate_commute": {"minutes": 25},
    "track_order": {"state": "in transit", "arrives": "tomorrow"},
    "search_products": {"products": [{"product_id": "P100", "name": "the best one", "price": 45}]},
    "add_to_cart": {"cart_total": 45},
}  # what there is to go on with
JUDGE = (
    "A voice assistant called the function {name}. Expected arguments: {expected}. Actual arguments: {actual}. "
    "Values that begin with $ may be any plausible value; other ways to write the same are fine, and numbers may be "
    "off by 5 %. Are the actual arguments right? Answer yes or no."
)


def shown() -> list[dict[str, Any]]:
    """The functions as chat templates and endpoints take them."""
    return [
        {"type": "function", "function": {"name": name, "description": told, "parameters": {
            "type": "object", "properties": dict(arguments), "required": [a for a in arguments if a not in free],
        }}}
        for name, (told, arguments, free) in FUNCTIONS.items()
    ]  # fmt: skip


def answered(name: str, arguments: Mapping[str, Any]) -> str:
    """What a function gives back: that it was done, and something to go on with."""
    return json.dumps({"status": "done", **arguments, **RESULTS.get(name, {})})


# What its scripts compute.


def selection(expected: Sequence[Call], actual: Sequence[Call]) -> float:
    """F1 of the functions' names, each as often as it is called."""
    want, got = (Counter(call["function"] for call in calls) for calls in (expected, actual))
    matched = sum((want & got).values())
    recall, precision = (matched / len(calls) if calls else 1.0 for calls in (expected, actual))
    return round(2 * recall * precision / (recall + precision) if recall + precision else 0.0, 3)


def same_arguments(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> bool:
    """Whether all that is expected is there; what begins with $ stands for any value."""
    plain = lambda value: value.lower().strip().replace("_", " ") if isinstance(value, str) else value  # noqa: E731
    return all(
        key in actual and ((isinstance(value, str) and value.startswith("$")) or plain(value) == plain(actual[key]))
        for key, value in expected.items()
    )


def right_arguments(expected: Sequence[Call], actual: Sequence[Call], judge: Judge | None = None) -> list[bool]:
    """Of each expected call, whether the next call of that function has the right arguments.

    Raises:
        EvalError: the judge says neither yes nor no.
    """
    left: dict[str, list[Call]] = {}
    for call in actual:
        left.setdefault(call["function"], []).append(call)
    found = []
    for call in expected:
        own = left.get(call["function"])
        if not own:
            found.append(False)
            continue
        want, got = call.get("args", {}), own.pop(0).get("args", {})
        found.append(
            same_arguments(want, got) or (judge is not None and judge.yes(_asked(call["function"], want, got)))
        )
    return found


def _asked(name: str, expected: Any, actual: Any) -> str:
    return JUDGE.format(name=name, expected=json.dumps(expected), actual=json.dumps(actual))


def scores(expected: Sequence[Call], actual: Sequence[Call], judge: Judge | None = None) -> dict[str, float]:
    """Percent: tool selection, arguments, and whether all is right."""
    right = right_arguments(expected, actual, judge)
    names = [sorted(call["function"] for call in calls) for calls in (expected, actual)]
    return {
        "pass": 100.0 * (names[0] == names[1] and all(right)),
        "tool selection F1": 100 * selection(expected, actual),
        "arguments": 100 * round(sum(right) / len(right), 3) if right else 100.0,
    }


# Its requests.


def requests(data: Path) -> list[tuple[str, Path, list[Call], str]]:
    """Name, recording, expected calls and difficulty of each.

    Raises:
        DataError: not here, or in another layout.
    """
    folder = data / "full_duplex_bench" / "v3"
    found = []
    for path in sorted(folder.glob("**/input.wav")):
        try:
            told = json.loads((path.parent / "metadata.json").read_text(encoding="utf-8"))
            calls = [
                {"function": call["function"], "args": call.get("args", {})} for call in told["expected_tool_calls"]
            ]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path.parent} has no metadata.json as published ({error!r}): see {SOURCE}.") from error
        found.append((path.parent.name, path, calls, str(told.get("difficulty", ""))))
    if not found:
        raise DataError(f"fdb3_tools: not here ({folder}); to be had at {SOURCE}.")
    return found


def measure_tools(
    name: str,
    system: Calling,
    data: Path,
    n: int | None = None,
    seed: int = 0,
    cache: ResultCache | None = None,
    max_tokens: int | None = None,
    known_as: str = "",
    judge: Judge | None = None,
) -> tuple[Measured, list[Item]]:
    """Says a set's requests to a model that may call functions.

    Args:
        name: of the task.
        system: the model.
        data: folder of the sets.
        n: requests at most, at even distances over the set.
        seed: kept with the items.
        cache: of earlier answers.
        max_tokens: of an answer at most.
        known_as: under which answers are kept.
        judge: of arguments that are written otherwise; without one those are wrong.

    Raises:
        DataError: the set isn't there, or not as it is published.
        EvalError: the model can't call functions.
    """
    found, cache, start = requests(data), cache or ResultCache(), time.perf_counter()
    tokens, items = min(TOKENS, max_tokens or TOKENS), []
    for label, path, expected, difficulty in spread(found, n or len(found)):
        said, calls, fault = "", [], ""
        made = {"pass": 0.0, "tool selection F1": 0.0, "arguments": 0.0}
        try:
            sound = load(path, max_seconds=None)
            key = key_of(known_as, name, str(tokens), sound)
            held = cache.get([key], lambda _, sound=sound: [list(system.calls(sound, shown(), answered, tokens))])[0]
            said, calls = held
            made = scores(expected, calls, judge)
        except AntiphonError as error:  # told, counted, and no reason to stop
            fault = str(error)
        more = {**made, "calls": calls, "difficulty": difficulty}
        answer = said or json.dumps(calls)
        items.append(Item(label, path.name, answer, json.dumps(expected), made["pass"] / 100, seed, more, fault))
    notes = ["asked through the recogniser and the functions, turn by turn: times are not measured"]
    notes += [f"arguments judged by {judge.system.name}" if judge else "arguments must be written as expected"]
    figure = measured(
        items, task=name, title="Full-Duplex-Bench v3, functions", row="duplex", metric="pass rate", size=len(found),
        seconds=time.perf_counter() - start, notes=tuple(notes),
    )  # fmt: skip
    return replace(figure, more={key: mean_of(key)(items) for key in ("tool selection F1", "arguments")}), items
