"""Functions over the wire: OpenAI's SDK calls them, in chats and Realtime sessions; who can't says so."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.clients.test_stock_clients import _nobody_else  # noqa: F401
from tests.serve.scripted import Scripted, serving

openai = pytest.importorskip("openai")

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "weather", "description": "The weather in a city.", "parameters": SCHEMA}
CLOCK = {"name": "clock"}
CHAT_TOOLS = [{"type": "function", "function": WEATHER}, {"type": "function", "function": CLOCK}]
LIVE_TOOLS = [{"type": "function", **WEATHER}, {"type": "function", **CLOCK}]
BOTH = 'say One moment. call weather {"city": "Rome"} call clock {}'
DONE = "response.done"


@pytest.fixture
def served():
    backend = Scripted(calls_functions=True)
    with serving(backend) as (address, _):
        yield address, backend


@pytest.fixture
def chat(served):
    address, backend = served
    client = openai.OpenAI(api_key="x", base_url=f"http://{address}/v1", max_retries=0)

    def ask(*messages, **how):
        how = {"tools": CHAT_TOOLS} | how
        said = [{"role": "user", "content": each} if isinstance(each, str) else each for each in messages]
        return client.chat.completions.create(model="m", messages=said, **how)

    ask.answers = backend.answers
    return ask


# Chat


def test_chat_calls_and_reads_what_came_of_it(chat) -> None:
    choice = chat(BOTH).choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.content == "One moment."
    calls = choice.message.tool_calls
    assert [(call.function.name, json.loads(call.function.arguments)) for call in calls] == [
        ("weather", {"city": "Rome"}),
        ("clock", {}),
    ]
    given = chat.answers[-1].functions
    assert given.names == {"weather", "clock"} and given.choice == "auto" and given.parallel
    assert given.shown[0] == CHAT_TOOLS[0]
    results = [{"role": "tool", "tool_call_id": calls[n].id, "content": text} for n, text in ((1, "noon"), (0, "sun"))]
    choice = chat(BOTH, choice.message, *results).choices[0]
    assert choice.finish_reason == "stop" and choice.message.content == "It says sun and noon"  # in the calls' order
    assert choice.message.tool_calls is None
    _, said, _ = chat.answers[-1].past
    assert said.text == "One moment." and [call.name for call in said.calls] == ["weather", "clock"]


def test_chat_streams_calls(chat) -> None:
    text, calls, finish = "", {}, None
    for chunk in chat(BOTH, stream=True):
        choice = chunk.choices[0]
        text += choice.delta.content or ""
        finish = choice.finish_reason or finish
        for delta in choice.delta.tool_calls or []:
            name, arguments = calls.get(delta.index, ("", ""))
            calls[delta.index] = (name + (delta.function.name or ""), arguments + (delta.function.arguments or ""))
    assert text == "One moment." and finish == "tool_calls"
    assert calls == {0: ("weather", '{"city": "Rome"}'), 1: ("clock", "{}")}


def test_chat_with_the_sdks_own_stream_helper(served) -> None:
    client = openai.OpenAI(api_key="x", base_url=f"http://{served[0]}/v1")
    asked = [{"role": "user", "content": 'call weather {"city": "Rome"}'}]
    with client.chat.completions.stream(model="m", messages=asked, tools=CHAT_TOOLS) as stream:
        message = stream.get_final_completion().choices[0].message
    (call,) = message.tool_calls
    assert call.id and call.type == "function" and call.function.arguments == '{"city": "Rome"}'


@pytest.mark.parametrize(
    ("how", "calls"),
    [
        ({"tool_choice": "none"}, 0),
        ({"tool_choice": "auto"}, 2),
        ({"tool_choice": "required"}, 2),
        ({"parallel_tool_calls": False}, 1),
        ({"tool_choice": {"type": "function", "function": {"name": "clock"}}, "asked": "Hello."}, 1),
    ],
)
def test_chat_choices(chat, how: dict, calls: int) -> None:
    message = chat(how.pop("asked", BOTH), **how).choices[0].message
    assert len(message.tool_calls or []) == calls
    if message.content is None:
        assert message.tool_calls[0].function.name == "clock"


@pytest.mark.parametrize(
    ("how", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "no spaces"}}]}, "tools[0].name"),
        ({"tools": CHAT_TOOLS * 2}, "tools"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "bomb"}}}, "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "tool_choice.type"),
        ({"functions": [CLOCK]}, "functions"),
    ],
)
def test_chat_refuses_by_name_what_it_cannot_do(chat, how: dict, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        chat("Hello.", **how)
    assert caught.value.param == param


def test_a_function_that_is_nested_without_end_is_refused(chat) -> None:
    deep: dict = {}
    for _ in range(100):
        deep = {"properties": deep}
    with pytest.raises(openai.BadRequestError, match="nested") as caught:
        chat("Hello.", tools=[{"type": "function", "function": {"name": "clock", "parameters": deep}}])
    assert caught.value.param == "tools[0]"


def test_chat_refuses_results_of_no_call_and_arguments_that_are_none(chat) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        chat("Hello.", {"role": "tool", "tool_call_id": "call_x", "content": "sun"})
    assert caught.value.param == "messages[1].tool_call_id"
    call = {"id": "c", "type": "function", "function": {"name": "clock", "arguments": "now"}}
    with pytest.raises(openai.BadRequestError) as caught:
        chat("Hello.", {"role": "assistant", "content": None, "tool_calls": [call]})
    assert caught.value.param == "messages[1].tool_calls[0].function.arguments"


def test_a_call_that_went_wrong_is_told(chat) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        chat("call bomb {}")
    assert caught.value.code == "model_error" and "bomb" in caught.value.message
    with pytest.raises(openai.APIError, match="bomb"):
        list(chat("call bomb {}", stream=True))


# Realtime


def live(served, scenario, **session) -> None:
    """Plays a scenario with OpenAI's SDK: it gets the connection, and a function that gathers events up to one."""

    async def play() -> None:
        client = openai.AsyncOpenAI(api_key="x", base_url=f"http://{served[0]}/v1")
        async with client.realtime.connect(model="m") as line:

            async def up_to(kind: str) -> list:
                found = []
                async for event in line:
                    found.append(event)
                    if event.type in (kind, "error"):
                        return found
                raise AssertionError("it hung up")

            await up_to("session.created")
            await line.session.update(session={"type": "realtime", "tools": LIVE_TOOLS, **session})
            await scenario(line, up_to)

    asyncio.run(asyncio.wait_for(play(), 30))


async def say(line, text: str) -> None:
    content = [{"type": "input_text", "text": text}]
    await line.conversation.item.create(item={"type": "message", "role": "user", "content": content})
    await line.response.create()


def test_realtime_calls_and_reads_what_came_of_it(served) -> None:
    async def scenario(line, up_to) -> None:
        (updated,) = await up_to("session.updated")
        assert [tool.name for tool in updated.session.tools] == ["weather", "clock"]
        await say(line, BOTH)
        events = await up_to(DONE)
        assert events[-1].response.status == "completed"
        kinds = [event.type for event in events]
        assert kinds.index("response.output_audio.done") < kinds.index("response.function_call_arguments.delta")
        call = [event for event in events if getattr(event, "output_index", 0) == 1]
        assert [event.type for event in call] == [
            "response.output_item.added",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.output_item.done",
        ]
        assert call[0].item.status == "in_progress" and call[0].item.arguments == ""
        assert call[1].delta == call[2].arguments == call[3].item.arguments == '{"city": "Rome"}'
        assert call[2].name == "weather" and call[2].item_id == call[3].item.id
        output = events[-1].response.output
        assert [item.type for item in output] == ["message", "function_call", "function_call"]
        assert len({item.call_id for item in output[1:]}) == 2 and output[2].arguments == "{}"
        for item, text in zip(output[1:], ("sun", "noon")):
            result = {"type": "function_call_output", "call_id": item.call_id, "output": text}
            await line.conversation.item.create(item=result)
        await line.response.create()
        events = await up_to(DONE)
        (said,) = [event.transcript for event in events if event.type == "response.output_audio_transcript.done"]
        assert said == "It says sun and noon"
        added = [event.item.type for event in events if event.type == "conversation.item.done"]
        assert added == ["function_call_output", "function_call_output", "message"]

    live(served, scenario)
    _, answer, came = served[1].answers[-1].past
    assert answer.text == "One moment." and [call.name for call in answer.calls] == ["weather", "clock"]
    assert [result.text for result in came.results] == ["sun", "noon"]
    assert served[1].answers[-1].functions.choice == "auto"


def test_realtime_choices(served) -> None:
    async def scenario(line, up_to) -> None:
        await up_to("session.updated")

        async def called(**response) -> list[str]:
            await line.response.create(response={"conversation": "none", **response})
            output = (await up_to(DONE))[-1].response.output
            return [item.name for item in output if item.type == "function_call"]

        content = [{"type": "input_text", "text": BOTH}]
        await line.conversation.item.create(item={"type": "message", "role": "user", "content": content})
        assert await called() == ["clock"]  # as the session wants it
        assert await called(tool_choice="none") == []
        assert await called(tool_choice="auto", parallel_tool_calls=True) == ["weather", "clock"]
        assert await called(tools=[]) == []
        content = [{"type": "input_text", "text": "Hello."}]
        hello = {"type": "message", "role": "user", "content": content}
        assert await called(input=[hello]) == ["clock"]
        assert await called(input=[hello], tool_choice="required", tools=LIVE_TOOLS[:1]) == ["weather"]

    named = {"type": "function", "name": "clock"}
    served[1].words = []

    live(served, scenario, tool_choice=named, parallel_tool_calls=False)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"tools": [{"type": "mcp", "server_label": "x", "server_url": "http://x"}]}, "session.tools[0].type"),
        ({"tools": [], "tool_choice": "required"}, "session.tool_choice"),
        ({"tool_choice": {"type": "mcp", "server_label": "x"}}, "session.tool_choice.type"),
        ({"tool_choice": {"type": "function", "name": "bomb"}}, "session.tool_choice"),
    ],
)
def test_realtime_refuses_by_name_what_it_cannot_do(served, change: dict, param: str) -> None:
    async def scenario(line, up_to) -> None:
        (error,) = await up_to("error")
        assert error.error.param == param

    live(served, scenario, **change)


def test_realtime_items_of_functions_are_checked(served) -> None:
    async def scenario(line, up_to) -> None:
        await up_to("session.updated")
        for item, param in (
            ({"type": "function_call_output", "call_id": "c", "output": "sun"}, "item.call_id"),
            ({"type": "function_call", "name": "clock", "arguments": "now", "call_id": "c"}, "item.arguments"),
            ({"type": "function_call", "name": "", "arguments": "{}", "call_id": "c"}, "item.name"),
            ({"type": "mcp_call", "name": "clock", "arguments": "{}", "id": "c", "server_label": "s"}, "item.type"),
        ):
            await line.conversation.item.create(item=item)
            assert (await up_to("error"))[-1].error.param == param
        call = {"type": "function_call", "name": "clock", "arguments": "{}", "call_id": "c", "id": "own"}
        await line.conversation.item.create(item=call)
        await line.conversation.item.create(item={"type": "function_call_output", "call_id": "c", "output": "noon"})
        await line.conversation.item.retrieve(item_id="own")
        item = (await up_to("conversation.item.retrieved"))[-1].item
        assert (item.type, item.name, item.call_id) == ("function_call", "clock", "c")
        await line.conversation.item.truncate(item_id="own", content_index=0, audio_end_ms=0)
        assert (await up_to("error"))[-1].type == "error"
        await line.response.create()
        done = (await up_to(DONE))[-1]
        assert done.response.output[0].content[0].transcript == "It says noon"

    live(served, scenario)


def test_a_realtime_call_that_went_wrong_fails_one_response(served) -> None:
    async def scenario(line, up_to) -> None:
        await up_to("session.updated")
        await say(line, "say Well. call bomb {}")
        done = (await up_to(DONE))[-1]
        assert done.response.status == "failed" and "bomb" in done.response.status_details.error.message
        await say(line, "say So.")
        assert (await up_to(DONE))[-1].response.status == "completed"

    live(served, scenario)


# A model that can't


def test_a_model_that_cannot_call_says_so() -> None:
    with serving(Scripted()) as (address, _):
        client = openai.OpenAI(api_key="x", base_url=f"http://{address}/v1", max_retries=0)
        hello = {"role": "user", "content": "Hello."}
        call = {"id": "c", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
        for messages, how, param in (
            ([hello], {"tools": CHAT_TOOLS}, "tools"),
            ([hello], {"tool_choice": "required"}, "tool_choice"),
            ([hello], {"functions": [CLOCK]}, "tools"),
            ([hello, {"role": "tool", "tool_call_id": "c", "content": ""}], {}, "messages[1].role"),
            ([hello, {"role": "assistant", "content": None, "tool_calls": [call]}], {}, "messages[1].tool_calls"),
        ):
            with pytest.raises(openai.BadRequestError, match="can't call functions") as caught:
                client.chat.completions.create(model="m", messages=messages, **how)
            assert caught.value.param == param and caught.value.code == "tools_not_supported"

        async def scenario(line, up_to) -> None:
            (error,) = await up_to("error")
            assert error.error.code == "tools_not_supported" and error.error.param == "session.tools"
            await line.response.create(response={"tools": LIVE_TOOLS})
            assert (await up_to("error"))[-1].error.param == "response.tools"
            item = {"type": "function_call_output", "call_id": "c", "output": ""}
            await line.conversation.item.create(item=item)
            assert (await up_to("error"))[-1].error.param == "item.type"

        live((address, None), scenario)
