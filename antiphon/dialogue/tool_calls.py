"""Functions that a language model may call, its calls, parsed out of an answer while it is thought, and the messages of
a conversation's past, which hold them.

A `CallParser` takes an answer's text in any pieces and gives text, which is passed on and spoken, and calls, each when
it is complete. A piece that may be the beginning of a call is held back until it is clear. What comes of a text doesn't
depend on how it is cut:

    parser = CallParser(HERMES, {"weather"})
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
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import Tensor

from antiphon.errors import ToolCallError
from antiphon.models.llm.chat_template import CallForm, Rendered, written_calls
from antiphon.models.llm.thinker import GeneratedToken

MAX_JSON_DEPTH = 40  # of what clients give
LONE_SURROGATES = re.compile("[\ud800-\udfff]")  # which JSON can escape and UTF-8 can't write
JSON_MARKS = re.compile(r'"(?:[^"\\]|\\.)*("|\\?\Z)|[\[\]{}]', re.DOTALL)  # strings, whole or cut off, and brackets


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
    """

    shown: tuple[Rendered, ...]
    choice: Literal["auto", "none", "required"] = "auto"
    only: str | None = None
    parallel: bool = True

    @property
    def names(self) -> frozenset[str]:
        return frozenset(one["function"]["name"] for one in self.shown)


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
    """

    role: str
    text: str
    embeddings: Tensor | None = None
    calls: tuple[Call, ...] = ()
    results: tuple[Result, ...] = ()
    heard: bool = False

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


class CallParser:
    """See the module.

    Args:
        form: in which calls are written.
        names: of the functions that there are.
    """

    def __init__(self, form: CallForm, names: Collection[str]):
        self.form, self.names = form, names
        self._rest = ""  # what hasn't been dealt with
        self._where: Literal["text", "call", "behind"] = "text"  # behind the JSON of a call, before its end
        self._calls: list[Call] = []  # that have been read and not been given
        self._found: list[str | Call] = []
        self._error: ToolCallError | None = None
        self._said, self._called = False, False  # some text was given; a call was given since the last text

    @property
    def settled(self) -> bool:
        """No call has begun that wasn't given, and nothing is held back but space."""
        return self._error is None and self._where == "text" and not self._rest.strip()

    def feed(self, text: str) -> list[str | Call]:
        """More of the answer -> text and calls.

        Raises:
            ToolCallError: a call can't be read.
        """
        self._fail()
        self._rest += text
        try:
            while {"text": self._text, "call": self._call, "behind": self._behind}[self._where]():
                pass
        except ToolCallError as error:
            self._error = error  # but first what came before it
        return self._take() if self._found else self._fail() or []

    def finish(self, cut: bool = False) -> list[str | Call]:
        """The end of the answer -> what was held back.

        Args:
            cut: it is as long as it may be: a call that isn't complete is left out.

        Raises:
            ToolCallError: it ends in the midst of a call.
        """
        self._fail()
        if self._where == "call" and not cut:
            raise ToolCallError("The model began to call a function and broke off.")
        if self._where == "behind":
            self._give()
        elif self._where == "text":
            self._pass_on(len(self._rest))
        return self._take()

    def _fail(self) -> None:
        if self._error is not None:
            raise self._error

    def _take(self) -> list[str | Call]:
        found, self._found = self._found, []
        return found

    # One step each, with what is at the beginning of the rest; false where more of it must come first

    def _text(self) -> bool:
        form = self.form
        if form.opens and form.opens in self._rest:
            at = self._rest.index(form.opens)
            self._pass_on(len(self._rest[:at].rstrip()))
            self._rest, self._where = self._rest.lstrip().removeprefix(form.opens), "call"
            return True
        held = next(n for n in range(len(form.opens), -1, -1) if self._rest.endswith(form.opens[:n]))
        if not form.opens and (self._called or not self._said):  # only a whole reply is a call, or several in a row
            body = self._rest.lstrip().lstrip("; \n" if self._called else None)
            if body.startswith("{"):
                self._rest, self._where = body, "call"
                return True
            held = len(self._rest) if not body else 0
        self._pass_on(len(self._rest[: len(self._rest) - held].rstrip()))
        return False

    def _call(self) -> bool:
        self._rest = self._rest.lstrip()
        if self._rest and self._rest[0] not in "{[":
            raise ToolCallError("The model began to call a function and wrote no JSON.")
        end = json_end(self._rest)
        if end is None:
            return False
        self._calls = read_calls(self._rest[:end], self.form, self.names)
        self._rest, self._where = self._rest[end:], "behind"
        if not self.form.closes:
            self._give()
        return True

    def _behind(self) -> bool:
        self._rest = self._rest.lstrip()
        if self._rest.startswith(self.form.closes):
            self._rest = self._rest.removeprefix(self.form.closes)
        elif self.form.closes.startswith(self._rest):
            return False
        self._give()  # also where its end was forgotten
        return True

    def _pass_on(self, size: int) -> None:
        """Gives the beginning of the rest as text; around calls, space is not kept."""
        text, self._rest = self._rest[:size], self._rest[size:]
        if self._called:
            text = text.lstrip()
            text = f" {text}" if text and self._said else text
        if text:
            self._said, self._called = True, False
            self._found.append(text)

    def _give(self) -> None:
        self._found += self._calls
        self._calls, self._called, self._where = [], True, "text"


def json_end(text: str) -> int | None:
    """Where the object or list ends that a text begins with; None if it isn't complete.

    >>> json_end('{"a": "}"} and'), json_end('{"a": "}')
    (10, None)
    """
    depth = 0
    for mark in JSON_MARKS.finditer(text):
        if mark[0].startswith('"'):
            if mark[1] != '"':
                return None
            continue
        depth += 1 if mark[0] in "{[" else -1
        if not depth:
            return mark.end()
    return None


def read_calls(text: str, form: CallForm, names: Collection[str]) -> list[Call]:
    """JSON of a call, or of a list of them -> the calls.

    Raises:
        ToolCallError: it is none, or calls a function that isn't among `names`.
    """
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        raise ToolCallError("The model's call of a function is no JSON.") from None
    calls = []
    for one in given if isinstance(given, list) else [given]:
        name = one.get("name") if isinstance(one, dict) else None
        if not isinstance(name, str):
            raise ToolCallError("The model's call of a function doesn't name it.")
        if name not in names:
            known = ", ".join(sorted(names)) or "none"
            raise ToolCallError(f"The model called '{name[:64]}', which isn't among the functions: {known}.")
        other = "parameters" if form.key == "arguments" else "arguments"
        arguments = one.get(form.key, one.get(other))
        calls.append(Call(name, "{}" if arguments is None else as_arguments(arguments, name)))
    if not calls:
        raise ToolCallError("The model began to call functions and called none.")
    return calls


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


class Calling:
    """The calls of one answer.

    Args:
        form: of the language model.
        functions: that there are.

    Attributes:
        begins: what the answer has to begin with.
        calls: so far.
        settled: the language model has thought nothing but the text and the calls that were given.
    """

    def __init__(self, form: CallForm, functions: Functions):
        self.functions, self.parser = functions, CallParser(form, functions.names)
        self.begins = form.beginning(functions.only) if functions.choice == "required" else ""
        self.calls: list[Call] = []
        self._dropped = False

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
                yield replace(thought, text=one)
            elif self.functions.choice == "none":
                self._dropped = True
            elif not self.calls or self.functions.parallel:
                self.calls.append(one)
                yield one
            else:
                self._dropped = True
