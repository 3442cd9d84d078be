"""A little MCP server, run as a process by tests."""

from mcp.server import MCPServer

server = MCPServer("little")


@server.tool()
def weather(city: str) -> str:
    """Tells the weather in a city."""
    return f"rain in {city}"


@server.tool()
def broken() -> str:
    """Always fails."""
    raise ValueError("no such thing")


if __name__ == "__main__":
    server.run("stdio")
