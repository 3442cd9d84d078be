"""Functions that a language model may call: which ones, and its calls, parsed out of an answer while it is thought.

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
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from antiphon.errors import ToolCallError
from antiphon.models.llm.chat_template import CallForm, Rendered
from antiphon.models.llm.thinker import GeneratedToken

DEPTH = 40  # of what clients give as JSON


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


class CallParser:
    """See the module.

    Args:
        form: in which calls are written.
        names: of the functions that there are.

    Attributes:
        settled: no call has begun that wasn't given, and nothing is held back but space.
    """

    def __init__(self, form: CallForm, names: Collection[str]):
        self.form, self.names = form, names
        self._step = self._text  # then `_read` and `_close` for each call
        self._held = ""  # what may be the beginning of a call, or is the beginning of its end
        self._value: list[str] = []
        self._depth, self._quoted, self._escaped = 0, False, False
        self._calls: list[Call] = []  # that have been read and not been given
        self._found: list[str | Call] = []
        self._error: ToolCallError | None = None
        self._said, self._called = False, False  # some text was given; a call was given since the last text

    @property
    def settled(self) -> bool:
        return self._error is None and self._step == self._text and not self._held.strip()

    def feed(self, text: str) -> list[str | Call]:
        """More of the answer -> text and calls.

        Raises:
            ToolCallError: a call can't be read.
        """
        self._fail()
        try:
            for letter in text:
                self._step(letter)
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
        if self._step == self._read and not cut:
            raise ToolCallError("The model began to call a function and broke off.")
        if self._step == self._close:
            self._give()
        elif self._step == self._text:
            self._pass_on(self._held)
            self._held = ""
        return self._take()

    def _fail(self) -> None:
        if self._error is not None:
            raise self._error

    def _take(self) -> list[str | Call]:
        found, self._found = self._found, []
        return found

    def _pass_on(self, text: str) -> None:
        """Gives text; around calls, space is not kept."""
        if self._called:
            text = text.lstrip()
            if not text:
                return
            text = f" {text}" if self._said else text
            self._called = False
        if text:
            self._said = True
            if self._found and isinstance(self._found[-1], str):
                self._found[-1] += text
            else:
                self._found.append(text)

    # What is done with a letter

    def _text(self, letter: str) -> None:
        self._held += letter
        while self._held:
            body = self._held.lstrip()
            if self.form.opens:
                begun = body == self.form.opens
                may_be = self.form.opens.startswith(body)
            else:  # only a whole reply is a call, or several with semicolons between
                body = body.lstrip("; \n") if self._called else body
                begun, may_be = body == "{" and (self._called or not self._said), not body
            if begun:
                self._value, self._depth, self._quoted, self._escaped, self._held = [], 0, False, False, ""
                self._step = self._read
                if not self.form.opens:
                    self._read("{")
                return
            if may_be:
                return
            self._pass_on(self._held[0])
            self._held = self._held[1:]

    def _read(self, letter: str) -> None:
        """More of a call's JSON; strings are followed, as marks and braces in them are not the end of it."""
        if not self._value:
            if letter.isspace():
                return
            if letter not in "{[":
                raise ToolCallError("The model began to call a function and wrote no JSON.")
        self._value.append(letter)
        if self._quoted:
            if self._escaped:
                self._escaped = False
            elif letter == "\\":
                self._escaped = True
            elif letter == '"':
                self._quoted = False
        elif letter == '"':
            self._quoted = True
        elif letter in "{[":
            self._depth += 1
        elif letter in "}]":
            self._depth -= 1
            if not self._depth:
                self._calls = read_calls("".join(self._value), self.form, self.names)
                self._step = self._close
                if not self.form.closes:
                    self._give()

    def _close(self, letter: str) -> None:
        """What stands behind a call; its end may have been forgotten."""
        if not self._held and letter.isspace():
            return
        self._held += letter
        if self._held == self.form.closes:
            self._held = ""
            self._give()
        elif not self.form.closes.startswith(self._held):
            rest, self._held = self._held, ""
            self._give()
            for again in rest:
                self._step(again)

    def _give(self) -> None:
        self._found += self._calls
        self._calls, self._called, self._step, self._held = [], True, self._text, ""


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
            return text if _is_unicode(text) else json.dumps(given)
    except (ValueError, RecursionError):
        pass
    raise ToolCallError(f"The arguments of '{name[:64]}' are no JSON object.")


def _is_unicode(text: str) -> bool:
    """False for halves of characters, which JSON can escape and UTF-8 can't write."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def unmarked(given: Any, depth: int = DEPTH) -> Any:
    """Text, or what JSON may hold, without what a language model's tokenizer takes for marks.

    >>> unmarked({"a<|im_end|>": ["<|im_<|x|>end|>", 1]})
    {'a': ['', 1]}

    Raises:
        ToolCallError: it is nested too deeply.
    """
    if isinstance(given, str):
        return _unmarked_text(given)
    if depth < 0:
        raise ToolCallError(f"JSON that is nested more than {DEPTH} deep can't be read.")
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

    def part(self, thoughts: Iterator[GeneratedToken], most: int) -> Iterator[GeneratedToken | Call]:
        """Thoughts -> text, as thoughts, and calls, when each is complete. Thoughts that give neither have no text.

        Args:
            thoughts: of the answer, behind what it `begins` with; closed at the end.
            most: tokens that it may have.

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
            yield from self._given(self.parser.finish(cut=count >= most), last)
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
