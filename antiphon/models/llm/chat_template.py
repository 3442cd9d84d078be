"""The chat template of a ChatML language model: its system prompt, and the functions, calls and results that it writes.

Templates come with weights that others made, so they are rendered in jinja's sandbox. A model can call functions if its
template writes the functions it is given, and calls and results in a form that is known (`CallForm`). There are three:

- Hermes and Qwen: `<tool_call>{"name": "f", "arguments": {...}}</tool_call>`, as often as there are calls;
- Llama 3: the reply is `{"name": "f", "parameters": {...}}`, several of them parted by semicolons;
- Mistral: `[TOOL_CALLS] [{"name": "f", "arguments": {...}}, ...]`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from antiphon.errors import ModelError

START, END = "<|im_start|>", "<|im_end|>\n"
USER = {"role": "user", "content": "x"}
ASKED = f"{START}user\nx{END}"
REPLY = f"{START}assistant\n"
Rendered = dict[str, Any]  # a message, or a function, as templates take it


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


class ChatTemplate:
    """A ChatML template.

    Args:
        source: jinja, as in tokenizer_config.json; or several, as a list of {"name", "template"}, of which "default"
            and "tool_use" are used.

    Raises:
        ModelError: it makes something else than ChatML.
    """

    def __init__(self, source: str | list[dict[str, str]]):
        named = {"default": source} if isinstance(source, str) else {one["name"]: one["template"] for one in source}
        if "default" not in named:
            raise ModelError("the language model has no chat template called 'default'")
        self.source, self.calling = named["default"], named.get("tool_use", named["default"])
        text = self._render(self.source, [USER], reply=True)
        before, turn, _ = text.partition(ASKED + REPLY)
        start = f"{START}system\n"
        if not turn or (before and not (before.startswith(start) and before.endswith(END))):
            raise ModelError("the language model's chat template is not ChatML; only that is supported")
        self.default_system: str | None = before.removeprefix(start).removesuffix(END) if before else None

    @classmethod
    def from_folder(cls, folder: Path) -> ChatTemplate:
        """That of tokenizer_config.json, or of chat_template.jinja beside it."""
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        if "chat_template" not in config and (folder / "chat_template.jinja").is_file():
            return cls((folder / "chat_template.jinja").read_text(encoding="utf-8"))
        return cls(config["chat_template"])

    @cached_property
    def call_form(self) -> CallForm | None:
        """How the model calls functions; None if it can't, as far as its template says."""
        function = {"name": "named_so", "description": "d", "parameters": {"type": "object", "properties": {}}}
        call = {"name": "named_so", "arguments": {"given": "so"}}
        try:
            opening = self.opening("s", [{"type": "function", "function": function}])
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

    def opening(self, system: str | None, functions: Sequence[Rendered]) -> str:
        """All that stands before the first turn of the user.

        Args:
            system: prompt; None for the template's own.
            functions: that the model may call, {"type": "function", "function": {"name", ...}}.
        """
        messages = [USER] if system is None else [{"role": "system", "content": system}, USER]
        text = self._render(self.calling, messages, functions)
        if not text.endswith(ASKED):
            raise ModelError("the language model's chat template doesn't end on what the user said last")
        return text.removesuffix(ASKED)

    def between(self, before: Sequence[Rendered], messages: Sequence[Rendered]) -> str:
        """What the template writes for messages that come after `before`, in the midst of a conversation."""
        function = [{"type": "function", "function": {"name": "f", "description": "", "parameters": {}}}]
        start = self._render(self.calling, [USER, *before], function)
        text = self._render(self.calling, [USER, *before, *messages, USER], function)
        if not (text.startswith(start) and text.endswith(ASKED)):
            raise ModelError("the language model's chat template rewrites earlier messages")
        return text.removeprefix(start).removesuffix(ASKED)

    @staticmethod
    def _render(
        source: str, messages: Sequence[Rendered], functions: Sequence[Rendered] | None = None, reply: bool = False
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
            bos_token="",
            eos_token="<|im_end|>",
        )


def written_calls(text: str, calls: Sequence[tuple[str, Any]]) -> Rendered:
    """A message of the assistant with calls, (name, arguments), as templates take it."""
    shown = [_shown({"name": name, "arguments": arguments}) for name, arguments in calls]
    return {"role": "assistant", "content": text, "tool_calls": shown}


def _shown(call: Rendered) -> Rendered:
    return {"type": "function", "id": "call00000", "function": call}
