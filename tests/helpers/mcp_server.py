"""An MCP server: `python mcp_server.py [arithmetic] [http PORT]`. Its tools compute, fail, hang and
die; or are the kit's arithmetic."""

from __future__ import annotations

import functools
import inspect
import os
import sys
import time
import typing
from pathlib import Path
from typing import Literal

from mcp.server.mcpserver import MCPServer
from pydantic import BaseModel

from mentor_kit.core.tool import Tool
from mentor_kit.core.toolbox import load_toolbox


class Place(BaseModel):
    city: str
    tags: list[str] = []


server = MCPServer("shop")


@server.tool()
def add(a: float, b: float) -> float:
    """Add two numbers."""
    return a + b


@server.tool()
def ship(place: Place, how: Literal["air", "sea"] = "sea", note: str | None = None) -> str:
    """Ship an order."""
    return f"{place.city} {place.tags} {how} {note}"


@server.tool()
def fail(reason: str) -> str:
    """Fail."""
    raise ValueError(reason)


@server.tool()
def sleep(seconds: float) -> str:
    """Sleep."""
    time.sleep(seconds)
    return "awake"


@server.tool()
def die(once: str = "") -> str:
    """End the server; where `once` is a file that is not there, this time only."""
    if once and Path(once).exists():
        return "alive"
    if once:
        Path(once).touch()
    os._exit(9)


@server.tool()
def process() -> str:
    """The server's process."""
    return str(os.getpid())


def as_text(tool: Tool):
    """The function of a tool, giving the kit's text of its result."""
    @functools.wraps(tool.function)
    def call(**arguments):
        if "SERVED" in os.environ:  # a folder: who has carried out a call
            (Path(os.environ["SERVED"]) / str(os.getpid())).touch()
        return tool.run(arguments)

    call.__annotations__ = {**typing.get_type_hints(tool.function), "return": str}
    call.__signature__ = inspect.signature(tool.function, eval_str=True).replace(
        return_annotation=str)
    return call


if __name__ == "__main__":
    if "arithmetic" in sys.argv[1:]:
        server = MCPServer("arithmetic")
        for tool in load_toolbox("arithmetic").tools.values():
            server.tool(structured_output=False)(as_text(tool))
    if Path(sys.argv[-1]).suffix == ".more" and Path(sys.argv[-1]).exists():
        server.tool(name="more")(process)
    if sys.argv[1:2] == ["http"]:
        server.run("streamable-http", port=int(sys.argv[2]))
    server.run()
