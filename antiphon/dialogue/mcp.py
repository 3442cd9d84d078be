"""The tools of an MCP server (Model Context Protocol) as functions that a conversation may call; needs the extra "mcp".

    with McpServer("python weather_server.py") as server:       # a command, or the URL of a server that runs
        chat = model.chat(tools=server.tools)

The server is spoken to on a thread with an event loop of its own, so that all else stays synchronous.
"""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from antiphon.dialogue.tools import NAME, TIMEOUT_SECONDS, Tool, describe
from antiphon.errors import ToolCallError

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal


class McpServer:
    """A connection to a server; a context manager.

    Args:
        place: a command, started and ended with the connection, or an http(s) URL.
        timeout: seconds that the server may take to begin, and for a call.

    Attributes:
        tools: what the server offers; [] before the connection is open.

    Raises (when entered):
        ToolCallError: the extra isn't installed, or there is no such server.
    """

    def __init__(self, place: str, timeout: float = TIMEOUT_SECONDS):
        self.place, self.timeout = place, timeout
        self.tools: list[Tool] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            from anyio.from_thread import start_blocking_portal
            from mcp import Client, StdioServerParameters
        except ImportError as error:
            raise ToolCallError("MCP servers need the extra 'mcp': pip install 'antiphon[mcp]'.") from error
        server: Any = self.place
        if not self.place.startswith(("http://", "https://")):
            command = shlex.split(self.place)
            if not command:
                raise ToolCallError("An MCP server is a command or a URL, not an empty text.")
            server = StdioServerParameters(command=command[0], args=command[1:])
        try:
            portal = self._stack.enter_context(start_blocking_portal())
            made = Client(server, read_timeout_seconds=self.timeout)
            client = self._stack.enter_context(portal.wrap_async_context_manager(made))
            self.tools = self._offered(portal, client)
        except BaseException as error:
            self._stack.close()
            if isinstance(error, ToolCallError) or not isinstance(error, Exception):
                raise
            raise ToolCallError(f"The MCP server '{self.place}' can't be used: {cause(error)}") from error
        return self

    def __exit__(self, *_: object) -> None:
        self.tools = []
        self._stack.close()

    def _offered(self, portal: BlockingPortal, client: Any) -> list[Tool]:
        """All tools of the server, page by page."""
        found, cursor = [], None
        while True:
            page = portal.call(lambda: client.list_tools(cursor=cursor))  # noqa: B023
            found += [self._tool(portal, client, one) for one in page.tools]
            cursor = page.next_cursor
            if not cursor:
                return found

    def _tool(self, portal: BlockingPortal, client: Any, offered: Any) -> Tool:
        if not NAME.fullmatch(offered.name):
            raise ToolCallError(f"The MCP server '{self.place}' has a tool of the name {offered.name[:64]!r}.")

        def run(arguments: dict[str, Any]) -> str:
            result = portal.call(client.call_tool, offered.name, arguments)
            text = "\n".join(getattr(part, "text", f"({part.type})") for part in result.content)
            if result.is_error:
                raise ToolCallError(text or "the tool failed")
            return text

        return Tool(offered.name, offered.description or "", dict(offered.input_schema), run)


def cause(error: BaseException) -> str:
    """What an error, or the first of a group, says."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return describe(error)
