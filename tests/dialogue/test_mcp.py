"""Tools of a real MCP server, in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from antiphon.dialogue.events import ResultEvent
from antiphon.dialogue.mcp import McpServer
from antiphon.dialogue.tool_calls import Message
from antiphon.dialogue.tools import ToolChat
from antiphon.errors import ToolCallError
from tests.serve.scripted import Scripted

pytest.importorskip("mcp")
COMMAND = f"{sys.executable} {Path(__file__).with_name('mcp_server.py')}"


@pytest.fixture(scope="module")
def server():
    with McpServer(COMMAND) as connected:
        yield connected


def result(server, words: str) -> ResultEvent:
    answer = ToolChat(Scripted(calls_functions=True).chat(), server.tools).answer([Message("user", words)])
    (found,) = [event for event in answer.events() if isinstance(event, ResultEvent)]
    return found


def test_tools_of_a_server_are_called(server) -> None:
    weather = next(tool for tool in server.tools if tool.name == "weather")
    assert weather.description == "Tells the weather in a city."
    assert weather.parameters["required"] == ["city"]
    found = result(server, 'call weather {"city": "Rome"}')
    assert found.text == "rain in Rome" and not found.error


def test_a_tool_that_fails_there_is_an_error_here(server) -> None:
    found = result(server, "call broken {}")
    assert found.error and "broken" in found.text


@pytest.mark.parametrize("place", ["no-such-command-anywhere", "http://127.0.0.1:9/mcp", ""])
def test_a_server_that_is_not_there_is_told(place: str) -> None:
    with pytest.raises(ToolCallError, match="MCP server"), McpServer(place, timeout=5):
        pass


def test_a_process_that_is_no_server_is_told() -> None:
    with pytest.raises(ToolCallError, match="can't be used"), McpServer(f"{sys.executable} -c pass", timeout=5):
        pass
