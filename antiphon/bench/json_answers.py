"""Answers that are held to a JSON schema: how many fit it, and what that takes beside an answer that isn't held to any.

Each of `SCHEMAS` is asked for with each of `SUBJECTS`, as `/v1/chat/completions` asks for it; an answer is valid if it
is JSON and `jsonschema` finds that it fits. For the time a token takes, single answers with and without a schema take
turns on the same questions, and the median of their ratios is the figure.
"""

from __future__ import annotations

import json
import statistics
import time
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch

from antiphon import hub
from antiphon.bench.compare import Progress, on_threads, start_report
from antiphon.evals.machine import in_fresh_process
from antiphon.evals.report import Figure, Report
from antiphon.models.llm.thinker import Thinker
from antiphon.serve.openai.response_format import OF_A_SCHEMA

TEXT, WHOLE, NUMBER, YES = ({"type": kind} for kind in ("string", "integer", "number", "boolean"))
SUBJECTS = (
    "the city of Rome", "a cup of tea", "the moon", "an old bicycle", "Ann, who is a nurse", "a rainy Monday",
    "the number seven", "a violin", "bread", "a lost dog",
)  # fmt: skip


def _object(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def _list(item: dict[str, Any], **how: int) -> dict[str, Any]:
    return {"type": "array", "items": item, **how}


SCHEMAS: tuple[dict[str, Any], ...] = (
    _object(name=TEXT, age=WHOLE),
    _object(title=TEXT, tags=_list(TEXT)),
    _object(answer=YES, reason=TEXT),
    _object(mood={"enum": ["happy", "sad", "angry", "none"]}, certainty={"type": "number", "minimum": 0, "maximum": 1}),
    _object(steps=_list(_object(number=WHOLE, text=TEXT), minItems=1, maxItems=4)),
    _object(place=_object(city=TEXT, country=TEXT), population={"type": ["integer", "null"]}),
    _object(date={"type": "string", "format": "date"}, event=TEXT),
    _object(code={"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"}, found=YES),
    _object(choice={"anyOf": [_object(kind={"const": "word"}, text=TEXT), _object(kind={"const": "count"}, n=WHOLE)]}),
    {"type": "object", "properties": {"title": TEXT, "note": TEXT, "price": NUMBER}, "required": ["title"]},
    _object(ratings=_list({"type": "integer", "minimum": 1, "maximum": 5}, minItems=3, maxItems=3)),
    _object(summary={"type": "string", "maxLength": 80}, keywords=_list(TEXT, minItems=2, maxItems=5)),
    {**_object(root={"$ref": "#/$defs/node"}),
     "$defs": {"node": _object(name=TEXT, parts=_list({"$ref": "#/$defs/node"}))}},
    _object(price=NUMBER, currency={"enum": ["EUR", "USD", "GBP"]}, in_stock=YES),
    _object(question=TEXT, options=_list(TEXT, minItems=4, maxItems=4), right={"enum": [0, 1, 2, 3]}),
    _object(rows=_list(_list(NUMBER))),
    _object(who=_object(first=TEXT, last=TEXT), contact=_object(mail={"type": "string", "format": "email"})),
    {"type": "array", "items": _object(word=TEXT, letters=WHOLE), "minItems": 1},
    {"type": "object", "additionalProperties": TEXT},
    {"type": "object"},
)  # fmt: skip


@dataclass(frozen=True)
class JsonBenchConfig:
    """What to measure.

    Attributes:
        model: a preset, or the folder of a thinker.
        prompts: that are asked for validity, of the 200 that there are.
        timed: of those, that are answered with and without a schema for the time.
        max_tokens: of an answer.
        rows: answers at once, where nothing is timed.
        threads: of the processor.
    """

    model: str = "mini"
    prompts: int = 200
    timed: int = 10
    max_tokens: int = 128
    rows: int = 10
    threads: int = 1


def questions(count: int) -> list[tuple[str, dict[str, Any]]]:
    """The first of all, which go round the schemas: what is asked, and the schema."""
    size = len(SCHEMAS)
    pairs = [(SUBJECTS[(at + at // size) % len(SUBJECTS)], SCHEMAS[at % size]) for at in range(size * len(SUBJECTS))]
    return [(f"Tell me about {subject}.", schema) for subject, schema in pairs[:count]]


def bench_json(config: JsonBenchConfig, progress: Progress = lambda line: None) -> Report:
    """Runs the bench.

    Raises:
        EvalError: a process failed.
        HubError: the model can't be had.
    """
    report = start_report(("llguidance",), (config.threads,), progress)
    progress(f"{config.prompts} answers, {on_threads(config.threads)}")
    presets = {preset.name: preset for preset in hub.PRESETS}
    if config.model in presets:
        parts = presets[config.model].parts
        places = [str(hub.folder(parts[role])) if role in parts else None for role in ("thinker", "lora")]
    else:
        places = [str(hub.folder(config.model)), None]
    fields = {"places": places, **{name: getattr(config, name) for name in ("prompts", "timed", "max_tokens", "rows")}}
    found = in_fresh_process(work, fields | {"threads": config.threads}, "Answering in JSON", config.threads)
    valid = 100 * found["valid"] / found["asked"]
    report.add(Figure("json-valid", valid, "%", ">= 100", None, found["asked"]))
    if found["ratios"]:
        ratio = statistics.median(found["ratios"])
        detail = f"time a token over one without ({found['held_ms']:.0f} / {found['free_ms']:.0f} ms)"
        report.add(Figure("json-slowdown", ratio, detail, "<= 1.2", None, len(found["ratios"])))
    for said in found["invalid"]:
        progress(f"not valid: {said}")
    return report


def work(fields: dict[str, Any]) -> dict[str, Any]:
    """In a process of its own: answers that fit, those that don't, and ratios of times."""
    torch.set_num_threads(fields["threads"])
    thinker, every = Thinker.from_pretrained(*fields["places"]), questions(fields["prompts"])
    timed = every[: fields["timed"]]
    every.sort(key=lambda each: SCHEMAS.index(each[1]))  # what a schema's questions begin with is read but once
    invalid: list[str] = []
    for at in range(0, len(every), fields["rows"]):
        part = every[at : at + fields["rows"]]
        states = [_asked(thinker, *each) for each in part]
        grammars = [thinker.grammars.json(json.dumps(schema)) for _, schema in part]
        texts = [""] * len(part)
        for tokens in thinker.stream_many(states, fields["max_tokens"], None, grammars):
            for row, token in tokens.items():
                texts[row] += token.text
        invalid += [text for text, (_, schema) in zip(texts, part) if not fits(text, schema)]
    held, free = [], []
    for question, schema in timed:
        grammar = thinker.grammars.json(json.dumps(schema))
        held.append(_seconds(thinker, _asked(thinker, question, schema), fields["max_tokens"], grammar))
        free.append(_seconds(thinker, _asked(thinker, question, schema), fields["max_tokens"], None))
    ratios = [mine / plain for mine, plain in zip(held, free) if mine and plain]
    times = {"held_ms": 1e3 * statistics.median(held or [0.0]), "free_ms": 1e3 * statistics.median(free or [0.0])}
    return {"asked": len(every), "valid": len(every) - len(invalid), "invalid": invalid, "ratios": ratios, **times}


def fits(text: str, schema: dict[str, Any]) -> bool:
    """Whether a text is JSON that fits a schema."""
    from jsonschema import Draft202012Validator

    try:
        return not any(Draft202012Validator(schema).iter_errors(json.loads(text)))
    except ValueError:
        return False


def _asked(thinker: Thinker, question: str, schema: dict[str, Any]) -> Any:
    state = thinker.init_state(True, OF_A_SCHEMA + json.dumps(schema))
    thinker.add_user(state, question)
    return state


def _seconds(thinker: Thinker, state: Any, max_tokens: int, grammar: Any) -> float:
    """That a token takes, the first not counted, which has a vocabulary's grammar made; 0 where there are too few."""
    with closing(thinker.stream(state, max_tokens, grammar=grammar)) as tokens:
        next(tokens, None)
        start = time.perf_counter()
        count = sum(1 for _ in tokens)
        return (time.perf_counter() - start) / count if count > 3 else 0.0
