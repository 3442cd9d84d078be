"""Functions that a language model may call, its calls, parsed out of an answer while it is thought, and the messages of
a conversation's past, which hold them.

A `CallParser` takes an answer's text in any pieces and gives text, which is passed on and spoken, and calls, each when
it is complete. A piece that may be the beginning of a call is held back until it is clear. What comes of a text doesn't
depend on how it is cut:

    parser = CallParser(HERMES, {"weather": {}})
    parser.feed("Let me see. <tool")                       # ["Let me see."]
    parser.feed('_call>{"name": "weather", "arguments": {"city": "Rome"}}</tool_call>')
    # [Call("weather", '{"city": "Rome"}')]

A call that can't be read, or is of a function that isn't there, is an error of the whole answer (`ToolCallError`) and
never text: nobody wants to hear it read aloud. A call that the limit of tokens cuts off is left out, and the answer is
cut.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import Tensor

from antiphon.errors import ToolCallError
from antiphon.models.llm.chat_template import CallForm, Rendered, written_calls
from antiphon.models.llm.grammar import ANY_OBJECT, Grammar, Grammars, is_installed
from antiphon.models.llm.thinker import GeneratedToken
from antiphon.models.scene.reading import SceneNotes
from antiphon.models.scene.words import WordResiduals

MAX_JSON_DEPTH = 40  # of what clients give
LONE_SURROGATES = re.compile("[\ud800-\udfff]")  # which JSON can escape and UTF-8 can't write
LIKE_A_CALL = re.compile(r'\s*[\[{\s]*"(name|function|type)"')  # what JSON begins with that is to be a call
FOREIGN = (("```json", "```"), ("```\n", "```"), ("<tools>", "</tools>"))  # brackets that models put calls into
ANSWER_NAME = "answer"
ANSWER: Rendered = {
    "type": "function",
    "function": {
        "name": ANSWER_NAME,
        "description": "Answers the user in words: small talk, and every question about the world, as no other "
        "function knows anything about it, such as: How high is Mount Everest? What is a guitar? Who built the "
        "pyramids? Why do cats purr? What is five plus six? How long do I bake a cake?",
        "parameters": {"type": "object", "properties": {}},
    },
}
# Nats by which a call is to be likelier than an answer, in a first turn and later, when calls are likelier anyway:
# found on requests that are apart from those of the figure.
FIRST_CALL_MARGIN, LATER_CALL_MARGIN = 0.0, 3.0
MAX_REFERENCES = 1000  # within a schema, that are followed
DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class Call:
    """A call of a function.

    Attributes:
        name: of the function.
        arguments: JSON of an object.
        id: by which its result refers to it; makes no difference to the model.
    """

    name: str
    arguments: str
    id: str = field(default="", compare=False)


@dataclass(frozen=True)
class Result:
    """What came of a call.

    Attributes:
        text: as the function gave it.
        id: of the call.
    """

    text: str
    id: str = field(default="", compare=False)


@dataclass(frozen=True)
class Functions:
    """What may be called in an answer.

    Attributes:
        shown: the functions as templates take them: {"type": "function", "function": {"name", "description",
            "parameters"}}.
        choice: "auto": the model decides; "none": no call; "required": at least one.
        only: with "required", the one that has to be called; None for any.
        parallel: several calls in one answer.
        strict: names of those whose arguments are held to their schemas while a call is written.
    """

    shown: tuple[Rendered, ...]
    choice: Literal["auto", "none", "required"] = "auto"
    only: str | None = None
    parallel: bool = True
    strict: frozenset[str] = frozenset()

    @property
    def schemas(self) -> dict[str, Rendered]:
        """Of the arguments, by the functions' names."""
        return {one["function"]["name"]: one["function"].get("parameters") or {} for one in self.shown}

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self.schemas)


@dataclass(frozen=True, eq=False)
class Message:
    """One message of the past. Two are the same only if they are the same object, or if they are the same calls or
    results of functions.

    Attributes:
        role: "user", "assistant" or "system"; "function" for results.
        text: its words.
        embeddings: what the language model reads instead of the words, [T, width], where a recognizer gives it.
        calls: of functions, by the assistant.
        results: of a "function".
        heard: it was said, not typed.
        notes: what the language model may be told of what was heard besides the words; there may be no words.
        contents: what a model that sees reads instead of the words: texts, pictures, videos and sounds in their order,
            as its processor takes them.
        residuals: what is added to the embeddings of its words, of how they were said; None for nothing.
    """

    role: str
    text: str
    embeddings: Tensor | None = None
    calls: tuple[Call, ...] = ()
    results: tuple[Result, ...] = ()
    heard: bool = False
    notes: SceneNotes | None = None
    contents: tuple[Mapping[str, Any], ...] = ()
    residuals: WordResiduals | None = None

    @property
    def is_something(self) -> bool:
        """Whether there is anything in it to be read."""
        noteworthy = self.notes is not None and self.notes.noteworthy is not None
        perceived = self.embeddings is not None or bool(self.contents)
        return bool(self.text.strip() or self.calls or self.results or noteworthy or perceived)

    def same(self, other: Message) -> bool:
        """Whether the language model reads the same, and has read it if it read the other."""
        mine = (self.role, self.text, self.calls, self.results)
        by_value = bool(self.calls or self.results)
        return self is other or (by_value and mine == (other.role, other.text, other.calls, other.results))


def joined(past: Sequence[Message]) -> list[Message]:
    """A past as it is read: calls stand with the text before them, results in one message, in the order of the calls.

    A call or result alone is a message of its own where it is kept; chat templates write them together.
    """
    found: list[Message] = []
    for message in past:
        last = found[-1] if found else None
        if last is not None and message.results and last.results:
            results = (*last.results, *message.results)
            ids = [call.id for call in found[-2].calls] if len(found) > 1 else []
            results = tuple(sorted(results, key=lambda one: ids.index(one.id) if one.id in ids else len(ids)))
            found[-1] = replace(last, results=results)
        elif last is not None and last.role == "assistant" and message.calls and not message.text.strip():
            found[-1] = replace(last, calls=(*last.calls, *message.calls))
        else:
            found.append(message)
    return found


def rendered(message: Message) -> list[Rendered]:
    """Calls or results as chat templates take them."""
    if message.calls:
        calls = [(call.name, unmarked(json.loads(call.arguments))) for call in message.calls]
        return [written_calls(unmarked(message.text).strip(), calls)]
    return [{"role": "tool", "content": unmarked(result.text)} for result in message.results]


@dataclass(frozen=True)
class _Opened:
    """Where JSON of a call may stand.

    Attributes:
        start: where it is opened, or space before that.
        json: where the JSON begins.
        closes: what comes behind it.
        certain: it is a call, or an error; else it is text, if it isn't one.
    """

    start: int
    json: int
    closes: str
    certain: bool


class CallParser:
    """See the module. Besides the model's own form, calls are known that stand in a fence or alone, as models that were
    tuned to write code have them; what turns out to be no call there is text.

    Args:
        form: in which calls are written.
        schemas: of the arguments of the functions that there are, by name.
    """

    def __init__(self, form: CallForm, schemas: Mapping[str, Rendered]):
        self.schemas, self.foreign = schemas, False
        own = [(form.opens, form.closes, True)] if form.opens else []
        self._brackets = [*own, *((opens, closes, False) for opens, closes in FOREIGN)]
        self._rest = ""  # what hasn't been dealt with
        self._known = 0  # how much of its beginning is no opening of a call
        self._closes: str | None = None  # what may follow a call that has been read and not been given
        self._calls: list[Call] = []  # that one, or several in a list
        self._found: list[str | Call] = []
        self._error: ToolCallError | None = None
        self._said, self._called = False, False  # some text was given; a call was given since the last text

    @property
    def settled(self) -> bool:
        """No call has begun that wasn't given, nothing is held back but space, and all calls were in the model's own
        form."""
        return self._error is None and self._closes is None and not self._rest.strip() and not self.foreign

    def feed(self, text: str) -> list[str | Call]:
        """More of the answer -> text and calls.

        Raises:
            ToolCallError: a call can't be read.
        """
        self._fail()
        self._rest += text
        try:
            while self._behind() if self._closes is not None else self._next():
                pass
        except ToolCallError as error:
            self._error = error  # but first what came before it
        return self._take() if self._found else self._fail() or []

    def finish(self, cut: bool = False) -> list[str | Call]:
        """The end of the answer -> what was held back.

        Args:
            cut: it is as long as it may be: a call that isn't complete is left out.

        Raises:
            ToolCallError: it ends in the midst of a call, or of something that is to be one.
        """
        self._fail()
        if self._closes is not None:
            self._give()
        elif (opened := self._opened()) is not None:
            body = self._rest[opened.json :]
            if opened.certain or LIKE_A_CALL.match(body):
                if opened.closes and opened.closes in body:
                    raise ToolCallError("The model's call of a function is no JSON.")
                if not cut:
                    raise ToolCallError("The model began to call a function and broke off.")
                self._rest = self._rest[: opened.start].rstrip()
        self._say(len(self._rest))
        return self._take()

    def _fail(self) -> None:
        if self._error is not None:
            raise self._error

    def _take(self) -> list[str | Call]:
        found, self._found = self._found, []
        return found

    def _opened(self) -> _Opened | None:
        """The first place where a call may have begun."""
        found = []
        for opens, closes, certain in self._brackets:
            at = self._rest.find(opens, self._known)
            if at >= 0:
                found.append(_Opened(at, at + len(opens), closes, certain))
        alone = self._alone()
        if alone.startswith("{") and not self._known and (self._called or not self._said):  # a whole reply, or a row
            found.append(_Opened(0, len(self._rest) - len(alone), "", False))
        return min(found, key=lambda one: one.start, default=None)

    def _alone(self) -> str:
        """The rest without what may stand before a call, or between two."""
        return self._rest.lstrip("; \n" if self._called else None)

    def _next(self) -> bool:
        """Gives text up to a call, or reads it; false where more must come first."""
        opened = self._opened()
        if opened is None:
            ends = (opens[:n] for opens, _, _ in self._brackets for n in range(1, len(opens)))
            held = max((len(end) for end in ends if self._rest.endswith(end)), default=0)
            if self._alone():
                self._say(len(self._rest[: len(self._rest) - held].rstrip()))
            return False
        before = len(self._rest[: opened.start].rstrip())
        body = self._rest[opened.json :].lstrip()
        given, end = None, 0
        if not body or body[0] in "{[":
            try:
                given, end = DECODER.raw_decode(body)
            except json.JSONDecodeError:  # isn't complete
                self._say(before)
                return False
            except RecursionError:
                self._say(before)
                raise ToolCallError("The model's call of a function is no JSON: it is nested too deeply.") from None
        elif opened.certain:
            self._say(before)
            raise ToolCallError("The model began to call a function and wrote no JSON.")
        if not opened.certain and not is_call(given, self.schemas):
            self._known = max(opened.json, 1)
            return True
        self._say(before)
        self._rest, self._closes = body[end:], opened.closes
        self._calls, self.foreign = read_calls(given, self.schemas), self.foreign or not opened.certain
        return True

    def _behind(self) -> bool:
        assert self._closes is not None
        rest = self._rest.lstrip()
        if self._closes and self._closes.startswith(rest) and rest != self._closes:
            return False
        self._rest = rest.removeprefix(self._closes)
        self._give()  # also where its end was forgotten
        return True

    def _say(self, size: int) -> None:
        """Gives the beginning of the rest as text; around calls, space is not kept."""
        text, self._rest, self._known = self._rest[:size], self._rest[size:], max(0, self._known - size)
        if self._called:
            text = text.lstrip()
            text = f" {text}" if text and self._said else text
        if text:
            self._said, self._called = True, False
            self._found.append(text)

    def _give(self) -> None:
        self._found += self._calls
        self._calls, self._called, self._closes, self._known = [], True, None, 0


def is_call(given: Any, schemas: Mapping[str, Rendered]) -> bool:
    """Whether JSON that stands where JSON may stand is to be a call, or a list of them."""
    first = given[0] if isinstance(given, list) and given else given
    first = first.get("function", first) if isinstance(first, dict) else first
    name = first.get("name") if isinstance(first, dict) else None
    return isinstance(name, str) and (name in schemas or "arguments" in first or "parameters" in first)


def read_calls(given: Any, schemas: Mapping[str, Rendered]) -> list[Call]:
    """A call, or a list of them, as JSON has them -> the calls.

    Raises:
        ToolCallError: it is none, or calls a function that isn't there, or with arguments that it doesn't take.
    """
    calls = []
    for one in given if isinstance(given, list) else [given]:
        if isinstance(one, dict) and isinstance(one.get("function"), dict):
            one = one["function"]
        name = one.get("name") if isinstance(one, dict) else None
        if not isinstance(name, str):
            raise ToolCallError("The model's call of a function doesn't name it.")
        if name not in schemas:
            known = ", ".join(sorted(schemas)) or "none"
            raise ToolCallError(f"The model called '{name[:64]}', which isn't among the functions: {known}.")
        arguments = one.get("arguments", one.get("parameters"))
        text = "{}" if arguments is None else as_arguments(arguments, name)
        if problem := misfit(json.loads(text), schemas[name]):
            raise ToolCallError(f"The model called '{name}' with arguments that don't fit: {problem}")
        calls.append(Call(name, text))
    if not calls:
        raise ToolCallError("The model began to call functions and called none.")
    return calls


def misfit(arguments: Any, schema: Rendered) -> str | None:
    """What of the arguments doesn't fit a JSON schema; None if all does.

    Nothing is fetched that a schema refers to; patterns are not looked at, as one can be written that never ends.
    """
    if not schema:
        return None
    from jsonschema import Draft202012Validator, validators
    from jsonschema.exceptions import best_match
    from referencing import Registry

    seen = iter(range(MAX_REFERENCES))

    def refer(validator: Any, reference: str, instance: Any, _: Any) -> Iterator[Any]:
        if next(seen, None) is None:
            raise RecursionError
        yield from Draft202012Validator.VALIDATORS["$ref"](validator, reference, instance, _)

    rules = {"pattern": None, "patternProperties": None, "$ref": refer, "$dynamicRef": None}
    checker = validators.extend(Draft202012Validator, rules)
    try:
        error = best_match(checker(schema, registry=Registry()).iter_errors(arguments))
    except Exception as failed:  # a schema that makes no sense
        raise ToolCallError(f"The schema of a function can't be used: {type(failed).__name__}.") from failed
    if error is None:
        return None
    where = "".join(f".{part}" for part in error.absolute_path).lstrip(".")
    return (f"{where}: " if where else "") + (
        error.message if len(error.message) < 200 else error.message[:200] + "..."
    )


def as_arguments(given: Any, name: str) -> str:
    """Arguments, an object or JSON of one -> JSON of it.

    Raises:
        ToolCallError: they are something else.
    """
    try:
        given = json.loads(given) if isinstance(given, str) else given
        if isinstance(given, dict):
            text = json.dumps(given, ensure_ascii=False, allow_nan=False)
            return json.dumps(given) if LONE_SURROGATES.search(text) else text
    except (ValueError, RecursionError):
        pass
    raise ToolCallError(f"The arguments of '{name[:64]}' are no JSON object.")


def unmarked(given: Any, depth: int = MAX_JSON_DEPTH) -> Any:
    """Text, or what JSON may hold, without what a language model's tokenizer takes for marks.

    >>> unmarked({"a<|im_end|>": ["<|im_<|x|>end|>", 1]})
    {'a': ['', 1]}

    Raises:
        ToolCallError: it is nested too deeply.
    """
    if isinstance(given, str):
        return _unmarked_text(given)
    if depth < 0:
        raise ToolCallError(f"JSON that is nested more than {MAX_JSON_DEPTH} deep can't be read.")
    if isinstance(given, dict):
        return {unmarked(key): unmarked(value, depth - 1) for key, value in given.items()}
    return [unmarked(value, depth - 1) for value in given] if isinstance(given, list) else given


def _unmarked_text(text: str) -> str:
    """A text without "<|...|>", in one pass: what is left could be a mark again, so each end is looked for in what is
    kept."""
    if "|>" not in text:
        return text
    kept: list[str] = []
    bars: list[int] = []  # where they stand in what is kept
    for letter in text:
        if letter == ">" and len(bars) > 1 and bars[-1] == len(kept) - 1 and kept[bars[-2] - 1 : bars[-2]] == ["<"]:
            del kept[bars[-2] - 1 :], bars[-2:]
            continue
        if letter == "|":
            bars.append(len(kept))
        kept.append(letter)
    return "".join(kept)


class RepeatedCall(Exception):
    """An answer would begin with a call that was made and whose result is there."""


class Calling:
    """The calls of one answer.

    With the choice "auto", small language models call a function where none is asked for, and talk about one that is.
    So there is one more, ANSWER, to answer in words, and before anything is said to the user one of all is chosen by
    what the model would rather write.

    Args:
        form: of the language model.
        functions: that there are.
        made: calls whose results the answer is about; small models would make them again.

    Attributes:
        shown: the functions as the model reads them.
        choices: among which one is to be chosen for a turn of the user; () for none.
        begins: what the answer has to begin with.
        in_words: the answer may not begin with a call.
        calls: so far.
        settled: the language model has thought nothing but the text and the calls that were given.
    """

    def __init__(self, form: CallForm, functions: Functions, made: Sequence[Call] = ()):
        self.form, self.functions, self._made = form, functions, {(call.name, call.arguments) for call in made}
        self.in_words = functions.choice == "none"
        decides = functions.choice == "auto" and ANSWER_NAME not in functions.names
        self.choices = (ANSWER_NAME, *sorted(functions.names)) if decides else ()
        self.shown = () if functions.choice == "none" else (*((ANSWER,) if decides else ()), *functions.shown)
        self.parser = CallParser(form, {ANSWER_NAME: {}} | functions.schemas)
        self.begins = form.beginning(functions.only) if functions.choice == "required" else ""
        self.calls: list[Call] = []
        self._dropped = self._worded = False

    def grammar(self, grammars: Callable[[], Grammars]) -> Grammar | None:
        """What comes behind what the answer begins with, where that is a call and functions are strict; None for
        anything, also where forms can't be kept to here: calls are checked when they are complete anyway.

        Raises:
            ConfigError: a schema of a strict function can't be kept to.
        """
        if not self.begins or not self.functions.strict or not is_installed():
            return None
        known = self.functions.schemas
        begun = next((name for name in (*known, ANSWER_NAME) if self.begins == self.form.beginning(name)), None)
        if begun is not None and begun not in known:
            return None
        schemas = {name: json.dumps(known[name]) if name in self.functions.strict else ANY_OBJECT for name in known}
        return grammars().calls(self.form, schemas, begun, self.functions.parallel and self.functions.only is None)

    def choose(self, likelihoods: Sequence[float], first: bool = True) -> None:
        """One of `choices`, by the log-likelihood of each; in other turns than the `first`, a function only if it is
        clearly likelier than an answer."""
        best = max(range(1, len(self.choices)), key=likelihoods.__getitem__)
        called = likelihoods[best] - likelihoods[0] > (FIRST_CALL_MARGIN if first else LATER_CALL_MARGIN)
        self.begins, self.in_words = self.form.beginning(self.choices[best]) if called else "", not called

    def answer_in_words(self) -> None:
        """The same answer is begun again, without a call."""
        self.parser = CallParser(self.form, {ANSWER_NAME: {}} | self.functions.schemas)
        self.begins, self.in_words, self.calls, self._dropped = "", True, [], False

    @property
    def settled(self) -> bool:
        return self.parser.settled and not self._dropped

    def part(self, thoughts: Iterator[GeneratedToken], max_tokens: int) -> Iterator[GeneratedToken | Call]:
        """Thoughts -> text, as thoughts, and calls, when each is complete. Thoughts that give neither have no text.

        Args:
            thoughts: of the answer, behind what it `begins` with; closed at the end.
            max_tokens: that it may have.

        Raises:
            ToolCallError: a call can't be read.
            RepeatedCall: before anything else, a call is made again.
        """
        count, last = 0, None
        once = self.functions.only is not None or not self.functions.parallel
        self.parser.feed(self.begins)
        try:
            for thought in thoughts:
                count, last = count + 1, thought
                yield from self._given(self.parser.feed(thought.text), thought)
                if once and self.calls:
                    return
        finally:
            thoughts.close()
        if last is not None:
            yield from self._given(self.parser.finish(cut=count >= max_tokens), last)
        elif self.begins:
            raise ToolCallError("The model was to call a function and did not.")

    def _given(self, found: list[str | Call], thought: GeneratedToken) -> Iterator[GeneratedToken | Call]:
        if not found:
            yield replace(thought, text="")
        for one in found:
            if isinstance(one, str):
                self._worded = self._worded or bool(one.strip())
                yield replace(thought, text=one)
            elif self.functions.choice == "none" or (one.name == ANSWER_NAME and one.name not in self.functions.names):
                self._dropped = True
            elif (one.name, one.arguments) in self._made and not self.in_words and not self.calls and not self._worded:
                raise RepeatedCall
            elif not self.calls or self.functions.parallel:
                self.calls.append(one)
                yield one
            else:
                self._dropped = True
