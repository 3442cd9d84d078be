"""Python functions that a conversation may call: their schemas, how they are run, and the rounds of calls and answers.

    def get_weather(city: str) -> str:
        \"\"\"Tells the weather in a city.\"\"\"
        return "sunny, 21 degrees"

    chat = ToolChat(backend.chat(), [as_tool(get_weather)])
    for event in chat.answer(past).events(): ...   # CallEvent, ResultEvent, then TextEvents and AudioEvents

Whatever a function does, the conversation goes on: what it throws, and that it takes too long, is told to the model as
its result; a result that is too long is cut.
"""

from __future__ import annotations

import inspect
import json
import re
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from antiphon.dialogue.backend import ChatSession, StreamingReply, Usage
from antiphon.dialogue.events import AudioEvent, CallEvent, EndEvent, Event, ResultEvent, Sampling
from antiphon.dialogue.tool_calls import Call, Functions, Message, Result
from antiphon.errors import ToolCallError, TooLongError
from antiphon.models.asr.heard import Likelihoods

MAX_ROUNDS = 5  # of calls before an answer
MAX_RESULT_LETTERS = 2000  # of a result that are read
MIN_RESULT_LETTERS = 50  # that are left where there is little room
CALL_TOKENS = 256  # of an answer that may call functions
TIMEOUT_SECONDS = 30.0
WAIT_SECONDS = 0.05  # between looks at a function that is running
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


@dataclass(frozen=True)
class Tool:
    """A function that a model may call.

    Attributes:
        name: of 1 to 64 letters, digits, "_" and "-".
        description: what it does, for the model.
        parameters: JSON schema of its arguments, an object.
        run: takes the arguments and gives the result: text, or what JSON can hold.
    """

    name: str
    description: str
    parameters: dict[str, Any]
    run: Callable[[dict[str, Any]], Any]

    @property
    def shown(self) -> dict[str, Any]:
        """As chat templates take it."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}


def as_tool(function: Callable[..., Any] | Tool) -> Tool:
    """A typed Python function as a tool: its schema comes from the type hints, the descriptions from the docstring.

    Raises:
        ToolCallError: it has no name or no fixed arguments, is asynchronous, or its types have no schema.
    """
    if isinstance(function, Tool):
        return function
    import docstring_parser
    from pydantic import TypeAdapter, validate_call
    from pydantic.json_schema import GenerateJsonSchema

    class Untitled(GenerateJsonSchema):
        """Names say what titles would."""

        def field_title_should_be_set(self, schema: Any) -> bool:
            return False

    name = getattr(function, "__name__", "")
    if not callable(function) or not NAME.fullmatch(name):
        raise ToolCallError(f"A tool is a function with a name, not {function!r}: write one with def.")
    if inspect.iscoroutinefunction(function):
        raise ToolCallError(f"The tool '{name}' is asynchronous: give a function that calls asyncio.run.")
    kinds = {one.kind for one in inspect.signature(function).parameters.values()}
    if kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY}:
        raise ToolCallError(f"The tool '{name}' takes *args, **kwargs or unnamed arguments: name each, with its type.")
    try:
        schema = TypeAdapter(function).json_schema(schema_generator=Untitled)
        checked = validate_call(function)
    except Exception as error:  # pydantic's errors are of many kinds
        raise ToolCallError(f"The arguments of the tool '{name}' have no schema: {error}") from error
    told = docstring_parser.parse(inspect.getdoc(function) or "")
    for parameter in told.params:
        if parameter.arg_name in schema["properties"] and parameter.description:
            schema["properties"][parameter.arg_name]["description"] = " ".join(parameter.description.split())
    return Tool(name, " ".join((told.description or "").split()), schema, lambda arguments: checked(**arguments))


class ToolChat:
    """A conversation's memory (see `ChatSession`) that calls functions by itself before it answers.

    Args:
        chat: what thinks and speaks.
        tools: that may be called.
        timeout: seconds that one call may take; a function that goes on is left to itself.
        max_rounds: of calls, before there has to be an answer.

    Raises:
        ToolCallError: two tools have the same name.
    """

    def __init__(
        self,
        chat: ChatSession,
        tools: Sequence[Tool],
        timeout: float = TIMEOUT_SECONDS,
        max_rounds: int = MAX_ROUNDS,
    ):
        self.chat, self.timeout, self.max_rounds = chat, timeout, max_rounds
        self.tools = {tool.name: tool for tool in tools}
        if len(self.tools) < len(tools):
            raise ToolCallError("Two tools have the same name.")

    def answer(
        self,
        past: list[Message],
        sampling: Sampling | None = None,
        instructions: str | None = None,
        spoken: bool = True,
    ) -> ToolReply:
        """The answer to a past, to which calls and their results are added; it is made while one iterates.

        Args, raises: see `HalfDuplexChat.answer`.
        """
        how = sampling or Sampling()
        how = replace(how, max_tokens=max(how.max_tokens, CALL_TOKENS))
        return ToolReply(self, past, how, instructions, spoken)

    def read_ahead(self, past: Sequence[Message], said: str, instructions: str | None = None) -> Iterator[None]:
        """See `ChatSession.read_ahead`."""
        return self.chat.read_ahead(past, said, instructions, self.functions())

    def sounds_over(self) -> float:
        """See `ChatSession.sounds_over`."""
        return self.chat.sounds_over()

    @property
    def likelihoods(self) -> Likelihoods | None:
        """See `ChatSession.likelihoods`."""
        return self.chat.likelihoods

    def addressed(self, said: str) -> float:
        """See `ChatSession.addressed`."""
        return self.chat.addressed(said)

    def interrupts(self, said: str) -> float:
        """See `ChatSession.interrupts`."""
        return self.chat.interrupts(said)

    def functions(self, choice: str = "auto") -> Functions:
        """The tools as the language model is shown them."""
        return Functions(tuple(tool.shown for tool in self.tools.values()), choice)


@dataclass
class ToolReply:
    """An answer with the calls before it, while it is made; see `HalfDuplexReply`.

    Attributes:
        usage: tokens of all rounds.
        message: the last of the answer's messages.
        cut: it ended because it was as long as it may be.
        results: of the calls.
    """

    chat: ToolChat
    past: list[Message]
    sampling: Sampling
    instructions: str | None
    spoken: bool
    usage: Usage = field(default_factory=Usage)
    message: Message | None = None
    cut: bool = False
    results: list[ResultEvent] = field(default_factory=list)
    _before: float = 0.0  # seconds of sound before the last answer
    _seconds: float = 0.0  # and of that
    _replies: list[StreamingReply] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What was said so far, also before calls."""
        return " ".join(text for reply in self._replies if (text := reply.text.strip()))

    def until(self, seconds: float) -> str:
        """The words of the last answer that were said in the first `seconds` of all that was."""
        return self._replies[-1].until(max(0.0, seconds - self._before)) if self._replies else ""

    def events(self) -> Generator[Event | None, None, None]:
        """Each call and its result, text and sound, then the end; None where only work was done.

        Raises:
            ToolCallError: a call can't be read. Nothing of the answer is kept then.
        """
        before = len(self.past)
        try:
            for round_ in range(self.chat.max_rounds + 1):
                reply = yield from self._round(last=round_ == self.chat.max_rounds)
                calls = reply.message.calls if reply.message is not None else ()
                if not calls:
                    break
                assert reply.message is not None
                named = tuple(replace(call, id=f"call{round_}{number}") for number, call in enumerate(calls))
                results = []
                for call in named:
                    yield CallEvent(call)
                    results.append((yield from self._run(call)))
                    yield results[-1]
                self.results += results
                came = tuple(Result(one.text, one.call.id) for one in results)
                self.past += [replace(reply.message, calls=named), Message("function", "", results=came)]
        except Exception:
            del self.past[before:]
            raise
        yield EndEvent(self.text)

    def _round(self, last: bool) -> Generator[Event | None, None, StreamingReply]:
        """One answer of the model, without its end and its calls, which come when they are run."""
        functions = self.chat.functions("none" if last else "auto")
        while True:
            reply = self.chat.chat.answer(self.past, self.sampling, self.instructions, self.spoken, functions)
            self._replies.append(reply)
            self._before, self._seconds = self._before + self._seconds, 0.0
            making = reply.events()
            try:
                for event in making:
                    if isinstance(event, AudioEvent):
                        self._seconds += event.audio.duration
                    if not isinstance(event, CallEvent | EndEvent):
                        yield event
                return reply
            except TooLongError:
                self._replies.pop()
                if not self._shorten():
                    raise
            finally:
                making.close()
                self.message, self.cut = reply.message, reply.cut
                self.usage.input, self.usage.cached = reply.usage.input, reply.usage.cached
                self.usage.output += reply.usage.output

    def _shorten(self) -> bool:
        """Halves the results that were just read; false where that is no help."""
        results = self.past[-1].results
        if max((len(one.text) for one in results), default=0) <= MIN_RESULT_LETTERS:
            return False
        halves = (replace(one, text=cut_text(one.text, max(MIN_RESULT_LETTERS, len(one.text) // 2))) for one in results)
        self.past[-1] = replace(self.past[-1], results=tuple(halves))
        return True

    def _run(self, call: Call) -> Generator[None, None, ResultEvent]:
        """Runs a function on a thread of its own, so that one that never returns holds up nobody."""
        tool, box = self.chat.tools[call.name], []

        def work() -> None:
            try:
                given = tool.run(json.loads(call.arguments))
                text = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False, default=str)
                box.append(ResultEvent(call, cut_text(text, MAX_RESULT_LETTERS)))
            except BaseException as error:  # whatever a function throws
                box.append(ResultEvent(call, cut_text(f"Error: {describe(error)}", MAX_RESULT_LETTERS), error=True))

        thread = threading.Thread(target=work, name=f"antiphon-tool-{call.name}", daemon=True)
        thread.start()
        for _ in waiting(thread, self.chat.timeout):
            yield None
        return box[0] if box else ResultEvent(call, f"Error: no result within {self.chat.timeout:g} s.", error=True)


def waiting(thread: threading.Thread, seconds: float) -> Iterator[None]:
    """Until a thread is done, or so many seconds have passed."""
    for _ in range(max(1, round(seconds / WAIT_SECONDS))):
        thread.join(WAIT_SECONDS)
        if not thread.is_alive():
            return
        yield None


def cut_text(text: str, letters: int) -> str:
    """A text of at most so many letters, and a note where it was longer.

    >>> cut_text("abcdef", 4)
    'abcd... (cut: 6 letters in all)'
    """
    return text if len(text) <= letters else f"{text[:letters]}... (cut: {len(text)} letters in all)"


def describe(error: BaseException) -> str:
    """An error in one line.

    >>> describe(ValueError("no such city"))
    'ValueError: no such city'
    """
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
