"""The chat template of a language model: what stands around turns; functions, calls and results that it takes.

Templates come with weights that others made, so they are rendered in jinja's sandbox. What stands around a turn is
found by rendering a conversation of words that no template has, so that any template serves: ChatML, Llama 3's,
Gemma's, Mistral's.

A model can call functions if its template writes the functions it is given, and calls and results in a form
that is known (`CallForm`). There are three:

- Hermes and Qwen: `<tool_call>{"name": "f", "arguments": {...}}</tool_call>`, as often as there are calls;
- Llama 3: the reply is `{"name": "f", "parameters": {...}}`, several of them parted by semicolons;
- Mistral: `[TOOL_CALLS] [{"name": "f", "arguments": {...}}, ...]`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from antiphon.errors import ModelError

Rendered = dict[str, Any]  # a message, or a function, as templates take it
ASKED, SAID, NEXT, PROMPT = "asked-words", "said-words", "next-words", "prompt-words"  # that no template writes
# Qwen2.5-Coder's template, as published, shows a call in doubled braces; some calls then have them, too.
DOUBLED = '{{"name": <function-name>, "arguments": <args-json-object>}}'
USER = {"role": "user", "content": ASKED}


@dataclass(frozen=True)
class CallForm:
    """How a language model writes calls.

    Attributes:
        name: of the form.
        opens: what a call begins with; "" where a reply that begins with a brace is one.
        closes: what it ends with; "" for nothing.
        key: of the arguments.
        listed: calls stand in a list.
    """

    name: str
    opens: str
    closes: str
    key: str = "arguments"
    listed: bool = False

    def beginning(self, function: str | None = None) -> str:
        """What a reply begins with that has to be a call; of `function`, or of any."""
        space = "\n" if self.closes else " " if self.opens else ""
        start = f"{self.opens}{space}{'[' if self.listed else ''}" + '{"name": "'
        return start if function is None else f'{start}{function}", "{self.key}":'


HERMES = CallForm("hermes", "<tool_call>", "</tool_call>")
MISTRAL = CallForm("mistral", "[TOOL_CALLS]", "", listed=True)
LLAMA = CallForm("llama", "", "", key="parameters")
MARKS = (HERMES.opens, HERMES.closes, MISTRAL.opens)  # read as text, where a tokenizer has them as one token


@dataclass(frozen=True)
class Around:
    """What stands before and after the words of a turn."""

    before: str
    after: str


class ChatTemplate:
    """A chat template.

    Args:
        source: jinja, as in tokenizer_config.json; or several, as a list of {"name", "template"}, of which "default"
            and "tool_use" are used.
        tokens: special tokens that it may write, as "bos_token".

    Attributes:
        user, assistant, system: what stands around such turns; around a system turn in the midst of a conversation as
            around a user's, where the template has none.
        reply: what begins a reply.
        default_system: the template's own system prompt, as a whole turn; "" for none.

    Raises:
        ModelError: it fails, or doesn't write the words of a conversation in their order.
    """

    def __init__(self, source: str | list[dict[str, str]], tokens: Mapping[str, str] | None = None):
        named = {"default": source} if isinstance(source, str) else {one["name"]: one["template"] for one in source}
        if "default" not in named:
            raise ModelError("the language model has no chat template called 'default'")
        self.source, self.calling = named["default"], named.get("tool_use", named["default"])
        self.tokens = {"bos_token": "", "eos_token": "", **(tokens or {})}
        said, again = {"role": "assistant", "content": SAID}, {"role": "user", "content": NEXT}
        _, ended = self._split([USER], ASKED)
        _, closed = self._split([USER, said], ASKED, SAID)[1:]
        start, answered, opened, due = self._split([USER, said, again], ASKED, SAID, NEXT, reply=True)
        self.reply = _without(due, ended)
        self.user = Around(_without(opened, closed), ended)
        self.assistant = Around(_without(answered, ended), closed)
        self.default_system = start.removesuffix(self.user.before)
        self.system = self._system_turn(said, again)

    def _split(self, messages: Sequence[Rendered], *words: str, reply: bool = False) -> list[str]:
        """What the template writes between these words, before and after them."""
        left, parts = self._render(self.source, messages, reply=reply), []
        for word in words:
            part, found, left = left.partition(word)
            if not found:
                raise ModelError("the language model's chat template doesn't write what was said, in its order")
            parts.append(part)
        return [*parts, left]

    def _system_turn(self, said: Rendered, again: Rendered) -> Around:
        """What stands around a system's message after a reply."""
        message = {"role": "system", "content": PROMPT}
        try:
            before, after = self._split([USER, said, message, again], SAID, PROMPT, NEXT)[1:3]
            return Around(_without(before, self.assistant.after), _without(after, self.user.before, end=True))
        except Exception:  # whatever a template of others may raise
            return self.user

    @classmethod
    def from_folder(cls, folder: Path) -> ChatTemplate:
        """That of tokenizer_config.json, or of chat_template.jinja beside it.

        Raises:
            ModelError: there is none, or it fails.
        """
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        source, beside = config.get("chat_template"), folder / "chat_template.jinja"
        if not source and beside.is_file():
            source = beside.read_text(encoding="utf-8")
        if not source:
            raise ModelError("the language model has no chat template: take one that is tuned to chat (-Instruct)")
        names = [name for name in ("bos_token", "eos_token", "unk_token", "pad_token") if config.get(name)]
        tokens = {name: config[name]["content"] if isinstance(config[name], dict) else config[name] for name in names}
        try:
            return cls(source, tokens)
        except ModelError:
            raise
        except Exception as error:  # whatever a template of others may raise
            raise ModelError(f"the language model's chat template fails: {type(error).__name__}: {error}") from error

    @cached_property
    def call_form(self) -> CallForm | None:
        """How the model calls functions; None if it can't, as far as its template says."""
        function = {"name": "named_so", "description": "d", "parameters": {"type": "object", "properties": {}}}
        call = {"name": "named_so", "arguments": {"given": "so"}}
        try:
            opening, _ = self.opening("s", [{"type": "function", "function": function}])
            said = self.between([], [{"role": "assistant", "content": "", "tool_calls": [_shown(call)]}])
            result = self.between([], [{"role": "tool", "name": "named_so", "content": "came_back"}])
        except Exception:  # whatever a template of others may raise
            return None
        if "named_so" not in opening or "named_so" not in said or "came_back" not in result:
            return None
        if HERMES.opens in said:
            return HERMES
        if MISTRAL.opens in said:
            return MISTRAL
        return LLAMA if '"parameters"' in said else None

    def opening(self, system: str | None, functions: Sequence[Rendered] = ()) -> tuple[str, str]:
        """All that stands before the first turn of the user, and what stands before that turn's words: as a rule what
        stands before any, but some templates write the system prompt into it.

        Args:
            system: prompt; None for the template's own.
            functions: that the model may call, {"type": "function", "function": {"name", ...}}.
        """
        messages = [USER] if system is None else [{"role": "system", "content": system}, USER]
        try:
            text = self._render(self.calling, messages, functions)
        except Exception:
            if system is None:
                raise
            # A template that takes no system prompt: it goes before what the user says.
            text = self._render(self.calling, [{"role": "user", "content": f"{system}\n\n{ASKED}"}], functions)
        start, found, _ = text.replace(DOUBLED, DOUBLED[1:-1]).partition(ASKED)
        if not found:
            raise ModelError("the language model's chat template doesn't end on what the user said last")
        before = self.user.before
        return (start.removesuffix(before), before) if start.endswith(before) else (start, "")

    def conversation(self, messages: Sequence[Rendered], reply: bool = True) -> str:
        """A whole conversation, with what begins a reply to it; without `reply`, up to the end of the last message's
        words, which are a reply that is to go on."""
        text = self._render(self.source, messages, reply=reply)
        if reply:
            return text
        words = str(messages[-1]["content"]).strip()
        return text[: text.rindex(words) + len(words)]

    def between(self, before: Sequence[Rendered], messages: Sequence[Rendered]) -> str:
        """What the template writes for messages that come after `before`, in the midst of a conversation."""
        function = [{"type": "function", "function": {"name": "f", "description": "", "parameters": {}}}]
        again = {"role": "user", "content": NEXT}
        start = self._render(self.calling, [USER, *before], function)
        text = self._render(self.calling, [USER, *before, *messages, again], function)
        end = f"{self.user.before}{NEXT}{self.user.after}"
        if not (text.startswith(start) and text.endswith(end)):
            raise ModelError("the language model's chat template rewrites earlier messages")
        return text.removeprefix(start).removesuffix(end)

    def _render(
        self,
        source: str,
        messages: Sequence[Rendered],
        functions: Sequence[Rendered] | None = None,
        reply: bool = False,
    ) -> str:
        import datetime

        from jinja2.sandbox import ImmutableSandboxedEnvironment

        def refuse(message: str) -> None:
            raise ModelError(f"the language model's chat template refuses: {message}")

        def as_json(value: Any, ensure_ascii=False, indent=None, separators=None, sort_keys=False) -> str:
            return json.dumps(
                value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
            )

        world = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        world.filters["tojson"] = as_json  # jinja's own is for HTML
        world.globals |= {
            "raise_exception": refuse,
            "strftime_now": lambda form: datetime.datetime.now().strftime(form),
        }
        return world.from_string(source).render(
            messages=list(messages),
            tools=list(functions) if functions else None,
            add_generation_prompt=reply,
            enable_thinking=False,  # a voice doesn't think aloud
            **self.tokens,
        )


def _without(text: str, part: str, end: bool = False) -> str:
    """A text without what it begins (or ends) with.

    Raises:
        ModelError: it doesn't.
    """
    if not (text.endswith(part) if end else text.startswith(part)):
        raise ModelError("the language model's chat template writes a turn otherwise when another follows")
    return text.removesuffix(part) if end else text.removeprefix(part)


def written_calls(text: str, calls: Sequence[tuple[str, Any]]) -> Rendered:
    """A message of the assistant with calls, (name, arguments), as templates take it."""
    shown = [_shown({"name": name, "arguments": arguments}) for name, arguments in calls]
    return {"role": "assistant", "content": text, "tool_calls": shown}


def _shown(call: Rendered) -> Rendered:
    return {"type": "function", "id": "call00000", "function": call}
