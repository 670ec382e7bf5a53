"""The tools of an MCP server (Model Context Protocol), by the package `mcp`.

    load_toolbox("mcp:uvx mcp-server-time").execute("get_current_time", {"timezone": "UTC"})
    load_toolbox("mcp:http://127.0.0.1:8000/mcp")

A command is started by us, inherits our variables and lives as long as this process; an address is
a server that runs elsewhere (streamable HTTP). A server that is lost is named, started or reached
again, and the call under way is made again: it may have been carried out twice.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import shlex
import sys
import tempfile
import threading
import time
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from typing import Any

from mentor_kit.core.arguments import MAX_TEXT
from mentor_kit.core.background import background_loop, wait_for
from mentor_kit.core.tool import Tool
from mentor_kit.core.toolbox import Toolbox
from mentor_kit.errors import ToolError, UserError

VARIABLE = "MENTOR_KIT_MCP_SECONDS"  # a call may take, on the wall clock
SECONDS, START_SECONDS, ALIVE_SECONDS = 60.0, 60.0, 5.0
RETURN_SECONDS = 30.0  # a server that was lost may take to return


def connect(what: str) -> Toolbox:
    """The toolbox of a server; the name of `load_toolbox` is `mcp:` and a command or an address.

    Raises:
        UserError: the package is missing, or the server cannot be started, is not reached, or has
            no tool.
    """
    if find_spec("mcp") is None:
        raise UserError("An MCP toolbox needs the package mcp: pip install 'mentor-kit[mcp]'.")
    if not what:
        raise UserError("toolbox 'mcp:' names no server: write mcp:COMMAND or mcp:ADDRESS.")
    server = Server(what)
    tools = [Tool(partial(server.call, schema["name"]), schema) for schema in server.tools()]
    if not tools:
        raise UserError(f"MCP server {what!r} has no tool.")
    return Toolbox(f"mcp:{what}", tools, waits=True)


class Server:
    """A connection to a server; made at the first need, and again when it is lost."""

    def __init__(self, what: str) -> None:
        self.what, self.schemas = what, None
        self.forget()
        os.register_at_fork(after_in_child=self.forget)
        atexit.register(self.stop)

    def forget(self) -> None:
        """Start anew without touching the connection: it belongs to another process."""
        self._lock = threading.Lock()
        self._client: Any = None
        self._stop: asyncio.Event | None = None
        self._ended: Any = None

    def tools(self) -> list[dict[str, Any]]:
        """Name, description and parameters of every tool.

        Raises:
            UserError: the server does not answer.
        """
        self.client()
        return self.schemas

    def client(self) -> Any:
        """The connection.

        Raises:
            UserError: it cannot be made, or the server has other tools than before.
        """
        with self._lock:
            deadline = time.monotonic() + (RETURN_SECONDS if self.schemas else 0)
            while self._client is None:
                try:
                    self._connect()
                except UserError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(1)
            return self._client

    def call(self, name: str, /, **arguments: Any) -> str:
        """The result of a tool, as text.

        Raises:
            ToolError: the tool failed, was late, or ended the server, twice.
            UserError: the server is lost for good.
        """
        from mcp.shared.exceptions import MCPError
        from mcp_types import CONNECTION_CLOSED, REQUEST_TIMEOUT

        seconds = float(os.environ.get(VARIABLE, SECONDS))
        for _ in range(2):
            client = self.client()
            try:
                return result_text(wait_for(client.call_tool(
                    name, arguments, read_timeout_seconds=seconds), seconds + ALIVE_SECONDS))
            except MCPError as error:
                if error.code == REQUEST_TIMEOUT:
                    self._late(client, name, seconds)
                if error.code != CONNECTION_CLOSED:
                    raise ToolError(f"{name}: {error.message}") from None
            except TimeoutError:
                self._late(client, name, seconds)
            except ToolError:
                raise
            except Exception:  # noqa: BLE001 - the transports raise many kinds
                pass
            self._lost(client, "it is started again" if self.command else "it is reached again")
        raise ToolError(f"{name}: the server ended during the call.")

    @property
    def command(self) -> list[str]:
        """The words of a command; none of an address."""
        return [] if self.what.startswith(("http://", "https://")) else shlex.split(self.what)

    def stop(self) -> None:
        """End the connection, and the server where we started it."""
        stop, ended = self._stop, self._ended
        self._client = self._stop = self._ended = None
        if stop is not None:
            background_loop().call_soon_threadsafe(stop.set)
            with suppress(Exception):
                ended.result(ALIVE_SECONDS)

    def _connect(self) -> None:
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
            opened: Any = threading.Event()
            opened.client = opened.error = None
            self._ended = asyncio.run_coroutine_threadsafe(self._serve(opened, said),
                                                           background_loop())
            opened.wait(START_SECONDS)
            if opened.client is None:
                said.seek(0)
                lines = said.read().split("\n")
                reason = next((line for line in reversed(lines) if line.strip()), opened.error)
                self._ended.cancel()
                self._ended = None
                raise UserError(f"MCP server {self.what!r} cannot be reached "
                                f"({reason or f'no answer in {START_SECONDS:g} seconds'}).")
        self._client = opened.client

    async def _serve(self, opened: Any, said: Any) -> None:
        """Hold the connection until `stop`. anyio wants it opened and closed by one task."""
        from mcp import Client, StdioServerParameters
        from mcp.client.stdio import stdio_client

        self._stop = asyncio.Event()
        try:
            target: Any = self.what
            if self.command:
                command, *arguments = self.command
                target = stdio_client(StdioServerParameters(
                    command=command, args=arguments, env=dict(os.environ)), errlog=said)
            async with Client(target, cache=None) as client:
                self._keep(await _listed(client))
                opened.client = client
                opened.set()
                await self._stop.wait()
        except BaseException as error:  # noqa: BLE001 - said to whoever waits
            opened.error = _reason(error)
            raise
        finally:
            opened.set()

    def _keep(self, schemas: list[dict[str, Any]]) -> None:
        from jsonschema import Draft202012Validator, SchemaError

        for schema in schemas:
            try:
                Draft202012Validator.check_schema(schema["parameters"])
            except SchemaError as error:
                raise ValueError(f"the schema of tool {schema['name']!r} is not valid: "
                                 f"{error.message}") from None
        if self.schemas not in (None, schemas):
            raise ValueError("it has other tools than before")
        self.schemas = schemas

    def _late(self, client: Any, name: str, seconds: float) -> None:
        """Raise ToolError; a server that answers nothing at all is ended first."""
        try:
            wait_for(client.list_tools(), ALIVE_SECONDS)
        except Exception:  # noqa: BLE001 - whatever it is, it is no answer
            self._lost(client, "it does not answer and is started again")
        raise ToolError(f"{name}: no answer within {seconds:g} seconds.")

    def _lost(self, client: Any, then: str) -> None:
        with self._lock:
            if self._client is client:  # else another thread has seen it
                print(f"MCP server {self.what!r} was lost; {then}.", file=sys.stderr, flush=True)
                self.stop()


async def _listed(client: Any) -> list[dict[str, Any]]:
    found, cursor = [], None
    while True:
        page = await client.list_tools(cursor=cursor)
        found += [{"name": t.name, "description": t.description or t.name,
                   "parameters": t.input_schema} for t in page.tools]
        cursor = page.next_cursor
        if not cursor:
            return found


def _reason(error: BaseException) -> str:
    """The first cause in a group of errors."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__


def result_text(result: Any) -> str:
    """The text of a result; other content is named by its kind.

    Raises:
        ToolError: it is an error.
    """
    parts = [block.text if block.type == "text" else f"[{block.type}]" for block in result.content]
    text = "\n".join(parts)
    if not parts and result.structured_content is not None:
        text = json.dumps(result.structured_content, ensure_ascii=False)
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]} ... ({len(text) - MAX_TEXT} characters more)"
    if result.is_error:
        raise ToolError(text or "the tool failed.")
    return text
