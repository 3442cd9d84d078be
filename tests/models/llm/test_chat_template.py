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


LLAMA3 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}"
    "{{ '<|start_header_id|>system<|end_header_id|>\n\nDate: today\n\n' + system + '<|eot_id|>' }}"
    "{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{{ message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set prefix = messages[0]['content'] + '\n\n' %}"
    "{% set messages = messages[1:] %}{% else %}{% set prefix = '' %}{% endif %}"
    "{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' }}"
    "{{ (prefix if loop.first else '') + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
MISTRAL_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ ' ' + message['content'] + eos_token }}{% else %}{{ raise_exception('only users and assistants') }}{% endif %}"
    "{% endfor %}"
)
THINKING = TEMPLATE.replace(
    "'<|im_start|>assistant\n' }}",
    "'<|im_start|>assistant\n' + ('' if enable_thinking else '<think>\n\n</think>\n\n') }}",
)
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


@pytest.mark.parametrize("source", [TEMPLATE, TOOLS, LLAMA3, GEMMA, MISTRAL_TEMPLATE, THINKING])
@pytest.mark.parametrize("system", [None, "Be brief."])
def test_turn_by_turn_is_what_the_template_writes_at_once(source: str, system: str | None) -> None:
    """Put together from what stands around each turn, a conversation is the rendering of the whole."""
    template = ChatTemplate(source, TOKENS)
    opening, first = template.opening(system)
    whole = f"{opening}{first}How?{template.user.after}"
    whole += f"{template.assistant.before}So.{template.assistant.after}"
    whole += f"{template.user.before}Why?{template.user.after}{template.reply}"
    messages = [{"role": "user", "content": "How?"}, {"role": "assistant", "content": "So."}]
    messages += [{"role": "user", "content": "Why?"}]
    if system is not None and source == MISTRAL_TEMPLATE:  # takes no system prompt
        messages[0]["content"] = f"{system}\n\nHow?"
    elif system is not None:
        messages.insert(0, {"role": "system", "content": system})
    assert whole == template._render(source, messages, reply=True)


def test_a_system_turn_in_the_midst_is_a_users_where_there_is_none() -> None:
    assert ChatTemplate(TOOLS).system.before == "<|im_start|>system\n"
    assert ChatTemplate(GEMMA).system == ChatTemplate(GEMMA).user


def test_default_system_prompt() -> None:
    assert ChatTemplate(TEMPLATE).default_system == "<|im_start|>system\nBe good<|im_end|>\n"
    plain = TEMPLATE.replace("{{ '<|im_start|>system\nBe good<|im_end|>\n' }}", "")
    assert ChatTemplate(plain).default_system == ""
    with pytest.raises(ModelError, match="in its order"):
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
    opening, first = ChatTemplate(TOOLS).opening("Be brief.", [CLOCK])
    assert first == "<|im_start|>user\n" and opening == (
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
    assert "Be good" in template.default_system and template.call_form == HERMES
    config.write_text("{}")
    with pytest.raises(ModelError, match="no chat template"):
        ChatTemplate.from_folder(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(TOOLS)
    assert ChatTemplate.from_folder(tmp_path).call_form == HERMES
