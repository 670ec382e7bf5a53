"""An OpenAI-compatible server in this process whose good replies a test bends.

    with answering(bend) as (url, bodies): ...

`bend(body, reply)` may change the reply, give another (a dict, or bytes to send as they are), or
raise Refuse. The good replies are those of `fault_server`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fault_server import Server


class Refuse(Exception):
    """Answer with this status, words and headers."""

    def __init__(self, status: int, words: str, **headers: str) -> None:
        self.status, self.words, self.headers = status, words, headers


def turn(body: dict[str, Any]) -> int:
    """How many assistant turns the request holds."""
    return sum(m["role"] == "assistant" for m in body["messages"])


def question(body: dict[str, Any]) -> str:
    return next(m["content"] for m in body["messages"] if m["role"] == "user")


@contextmanager
def answering(bend: Callable[[dict[str, Any], dict[str, Any]], Any]
              ) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The base URL of the server, and the bodies of its requests so far."""
    sums, bodies, lock = Server(), [], threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with lock:
                bodies.append(body)
            reply = {"object": "chat.completion", "choices": [sums.choice(body, "")],
                     "usage": {"prompt_tokens": 100, "completion_tokens": 10}}
            try:
                bent = bend(body, reply)
                self.send(200, reply if bent is None else bent, {})
            except Refuse as refusal:
                self.send(refusal.status, {"error": {"message": refusal.words}}, refusal.headers)

        def send(self, status: int, reply: Any, headers: dict[str, str]) -> None:
            data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
            self.send_response_only(status)
            kind = "text/plain" if isinstance(reply, bytes) else "application/json"
            for name, value in {"Content-Type": kind, "Content-Length": str(len(data)),
                                **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", bodies
    finally:
        server.shutdown()
        server.server_close()
