"""Chat templates: what of a conversation they write, and which of them take functions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from antiphon.errors import ModelError
from antiphon.models.llm.chat_template import HERMES, LLAMA, MISTRAL, ChatTemplate, written_calls
from tests.models.llm.test_thinker import TEMPLATE

# As models of the Qwen 2.5 family have it: functions in the system prompt, results in turns of the user.
TOOLS = """
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\\n\\n' }}{% endif %}
    {{- '# Tools\\n<tools>' }}
    {%- for tool in tools %}{{- '\\n' + (tool | tojson) }}{% endfor %}
    {{- '\\n</tools>\\nAnswer with <tool_call>...</tool_call>.<|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) or
            (message.role == 'assistant' and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- elif message.role == 'assistant' %}
        {{- '<|im_start|>assistant' }}
        {%- if message.content %}{{- '\\n' + message.content }}{% endif %}
        {%- for call in message.tool_calls %}
            {%- set call = call.function %}
            {{- '\\n<tool_call>\\n{"name": "' + call.name + '", "arguments": ' + (call.arguments | tojson) }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.index0 == 0 or messages[loop.index0 - 1].role != 'tool' %}{{- '<|im_start|>user' }}{% endif %}
        {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{% endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}
"""
CLOCK = {"type": "function", "function": {"name": "clock", "description": "The <time> & é.", "parameters": {}}}
CALL = written_calls("Well.", [("clock", {"zone": "é"})])


def test_default_system_prompt() -> None:
    assert ChatTemplate(TEMPLATE).default_system == "Be good"
    plain = TEMPLATE.replace("{{ '<|im_start|>system\nBe good<|im_end|>\n' }}", "")
    assert ChatTemplate(plain).default_system is None
    with pytest.raises(ModelError, match="ChatML"):
        ChatTemplate("{{ messages[0]['content'] }}")


def test_a_template_without_functions_takes_none() -> None:
    assert ChatTemplate(TEMPLATE).call_form is None
    assert ChatTemplate(TOOLS.replace("{%- if tools %}", "{%- if nothing %}")).call_form is None
    assert ChatTemplate(TOOLS.replace("message.role == 'tool'", "message.role == 'other'")).call_form is None


def test_the_form_of_calls_is_what_the_template_writes() -> None:
    assert ChatTemplate(TOOLS).call_form == HERMES
    bare = TOOLS.replace("<tool_call>\\n{", "{").replace("\\n</tool_call>'", "'")
    assert ChatTemplate(bare.replace('"arguments"', '"parameters"')).call_form == LLAMA
    assert ChatTemplate(bare).call_form is None  # neither marked nor known
    assert ChatTemplate(bare.replace("'\\n{", "'[TOOL_CALLS] [{").replace("'}'", "'}]'")).call_form == MISTRAL


def test_functions_stand_in_the_system_prompt() -> None:
    opening = ChatTemplate(TOOLS).opening("Be brief.", [CLOCK])
    assert opening == (
        f"<|im_start|>system\nBe brief.\n\n# Tools\n<tools>\n{json.dumps(CLOCK, ensure_ascii=False)}\n</tools>\n"
        "Answer with <tool_call>...</tool_call>.<|im_end|>\n"
    )


def test_calls_and_results_are_what_the_whole_conversation_has() -> None:
    """Written by themselves, messages are what they are in the midst of others, results of one turn together."""
    template = ChatTemplate(TOOLS)
    results = [{"role": "tool", "content": text} for text in ("noon", "one")]
    call = '<|im_start|>assistant\nWell.\n<tool_call>\n{"name": "clock", "arguments": {"zone": "é"}}\n</tool_call>'
    assert template.between([], [CALL]) == f"{call}<|im_end|>\n"
    assert template.between([CALL], results) == (
        "<|im_start|>user\n<tool_response>\nnoon\n</tool_response>\n<tool_response>\none\n</tool_response><|im_end|>\n"
    )


def test_templates_of_others_are_kept_in() -> None:
    with pytest.raises(Exception, match="unsafe|undefined"):
        ChatTemplate("{{ messages.__class__.__mro__[1].__subclasses__() }}")
    with pytest.raises(ModelError, match="no users"):
        ChatTemplate("{{ raise_exception('no users') }}")


def test_templates_are_found_where_they_are_kept(tmp_path: Path) -> None:
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"chat_template": TEMPLATE}))
    assert ChatTemplate.from_folder(tmp_path).call_form is None
    named = [{"name": "default", "template": TEMPLATE}, {"name": "tool_use", "template": TOOLS}]
    config.write_text(json.dumps({"chat_template": named}))
    template = ChatTemplate.from_folder(tmp_path)
    assert template.default_system == "Be good" and template.call_form == HERMES
    config.write_text("{}")
    (tmp_path / "chat_template.jinja").write_text(TOOLS)
    assert ChatTemplate.from_folder(tmp_path).call_form == HERMES
