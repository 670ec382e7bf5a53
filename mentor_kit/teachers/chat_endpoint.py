r"""A teacher behind any OpenAI-compatible server: vLLM, SGLang, Ollama, `transformers serve`, a
hosted API.

    teacher: chat_endpoint
    teacher_options: ["base_url:http://127.0.0.1:8000/v1", "model:Qwen/Qwen3-32B", "key_env:none",
                      "concurrency:64"]

Needs the `api` extra (`pip install 'mentor-kit[api]'`). The key is read from an environment
variable and never stored.
"""

from __future__ import annotations

import asyncio
import os
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from random import Random
from time import perf_counter
from typing import Any, get_type_hints
from urllib.parse import urlsplit

from mentor_kit.core.environment import make_environment
from mentor_kit.core.problem import Problem
from mentor_kit.core.toolbox import load_toolbox
from mentor_kit.errors import UserError
from mentor_kit.teachers.attempt import Attempt, judged
from mentor_kit.teachers.dialogue import Dialogue
from mentor_kit.teachers.endpoint import MAX_DETAIL, Endpoint, Log, RequestError, RetryPolicy
from mentor_kit.teachers.probe import Asker, ping, probe
from mentor_kit.teachers.reply import read_reply

TOOLS = ("native", "text")
NO_KEY = "none"
# Options that do not change what a teacher says: a collection may go on with other values.
TRANSPORT_OPTIONS = ("key_env", "concurrency", "timeout", "retries", "backoff", "longest_wait",
                     "deadline", "price_in", "price_out", "probe", "base_url")


@dataclass(frozen=True)
class ChatEndpointTeacher:
    """Asks a server, executes the calls it makes, up to `max_turns`.

    Args:
        base_url: the server's address, with `/v1` where it has one.
        model: its name there.
        key_env: the environment variable that holds the key; `none` for a server without keys.
        tools: `native` offers tools by `tools=`; `text` describes them in the system message
            (Hermes `<tool_call>` text). Calls written as text are read in both.
        system: text of the system message; "" sends none (paper silent on its prompt).
        temperature, top_p, max_tokens, seed: sampling of each turn; a negative value is not sent.
            The seed of a request is made from `seed`, the problem's id and the sample. Released
            evaluation: 0.6, 0.95.
        extra: more fields of the request body, e.g. `extra:{top_k: 20}`.
        max_turns: assistant turns (released code: 5).
        echo_reasoning: send `reasoning_content` back with each turn.
        concurrency: trajectories in flight.
        timeout: seconds a request may take; `deadline`: seconds a whole trajectory may take.
        retries, backoff, longest_wait: see `mentor_kit.teachers.endpoint.RetryPolicy`.
        price_in, price_out: money for a million prompt and completion tokens, for the estimate in
            the bar.
        probe: ask a few small questions first, to see whether the server answers and what it
            honours.

    Raises:
        UserError: package missing, no address or model, key not in the environment, impossible
            values.
    """

    base_url: str = ""
    model: str = ""
    key_env: str = "OPENAI_API_KEY"
    tools: str = "native"
    system: str = ""
    temperature: float = 0.6
    top_p: float = 0.95
    max_tokens: int = 4096
    seed: int = 0
    extra: Mapping[str, Any] = field(default_factory=dict)
    max_turns: int = 5
    echo_reasoning: bool = False
    concurrency: int = 16
    timeout: float = 120.0
    retries: int = 6
    backoff: float = 1.0
    longest_wait: float = 60.0
    deadline: float = 1800.0
    price_in: float = 0.0
    price_out: float = 0.0
    probe: bool = True

    def __post_init__(self) -> None:
        if find_spec("openai") is None:
            raise UserError("The teacher 'chat_endpoint' needs the package openai: pip install "
                            "'mentor-kit[api]'.")
        for name, kind in get_type_hints(type(self)).items():
            _check_type(name, getattr(self, name), kind)
        _check_address(self.base_url, self.model)
        if self.tools not in TOOLS:
            raise UserError(f"Teacher option tools={self.tools!r} is unknown: use one of {TOOLS}.")
        for name in ("timeout", "deadline", "max_turns", "concurrency"):
            if not getattr(self, name) > 0:
                raise UserError(f"Teacher option {name}={getattr(self, name)} must be above 0.")
        for name in ("retries", "backoff", "longest_wait", "price_in", "price_out"):
            if not getattr(self, name) >= 0:
                raise UserError(f"Teacher option {name}={getattr(self, name)} must be 0 or more.")
        self._key()

    def _key(self) -> str:
        if self.key_env == NO_KEY:
            return ""
        key = os.environ.get(self.key_env, "").strip()
        if not key:
            raise UserError(f"No key: the environment variable {self.key_env!r} is not set; set "
                            "it, name another by key_env, or write key_env:none for a server "
                            "without keys.")
        return key

    @property
    def name(self) -> str:
        return self.model

    def identity(self) -> dict[str, Any]:
        """What an attempt depends on; attempts of another identity are not mixed with these."""
        return {name: value for name, value in asdict(self).items()
                if name not in TRANSPORT_OPTIONS}

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """The estimated price of tokens, in the money of `price_in` and `price_out`."""
        return (prompt_tokens * self.price_in + completion_tokens * self.price_out) / 1e6

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """Open the connection, for use within one event loop."""
        policy = RetryPolicy(self.timeout, self.retries, self.backoff, self.longest_wait)
        endpoint = Endpoint(self.base_url, self._key(), policy)
        try:
            yield Session(self, endpoint)
        finally:
            await endpoint.close()

    def body(self, seed: int) -> dict[str, Any]:
        """The request without messages and tools."""
        sampling = {"temperature": self.temperature, "top_p": self.top_p,
                    "max_tokens": self.max_tokens, "seed": seed}
        sent = {n: v for n, v in sampling.items() if getattr(self, n) >= 0}
        return {"model": self.model, **sent, **self.extra}


@dataclass(frozen=True)
class Session:
    """An open connection of a teacher."""

    teacher: ChatEndpointTeacher
    endpoint: Endpoint

    async def solve(self, problem: Problem, sample: int = 0) -> Attempt:
        """One attempt. What goes wrong on the way is its reason.

        Raises:
            UserError: what no other question would change; see `Endpoint.ask`.
        """
        teacher, log, started = self.teacher, Log(), perf_counter()
        box = make_environment(problem) or load_toolbox(problem.toolbox)
        dialogue = Dialogue(problem, box, native=teacher.tools == "native",
                            max_turns=teacher.max_turns,
                            system=teacher.system, echo_reasoning=teacher.echo_reasoning)
        error = None
        try:
            async with asyncio.timeout(teacher.deadline):
                await self._converse(dialogue, log,
                                     zlib.crc32(f"{teacher.seed}/{problem.id}/{sample}".encode()))
        except TimeoutError:
            error = RequestError("deadline")
        except RequestError as request_error:
            error = request_error
            log.retried.append(str(error)[:MAX_DETAIL])
        trajectory = dialogue.trajectory(f"teacher:{teacher.name}", sample,
                                         prompt_tokens=log.prompt_tokens,
                                         completion_tokens=log.completion_tokens)
        facts = {"seconds": round(perf_counter() - started, 3), "retried": log.retried,
                 "replies": log.replies}
        if error:
            return Attempt(trajectory, False, error.reason, failed=not error.refused,
                           refused=error.refused, detail=error.detail, log=facts)
        if dialogue.cut not in ("", "length"):
            return Attempt(trajectory, False, f"finish_{dialogue.cut}", log=facts)
        return await asyncio.to_thread(judged, trajectory, problem, facts)

    async def _converse(self, dialogue: Dialogue, log: Log, seed: int) -> None:
        body, random, goes_on = self.teacher.body(seed % 2**31), Random(seed), True
        while goes_on:
            if dialogue.native and dialogue.toolbox.schemas:
                body["tools"] = dialogue.toolbox.schemas  # read each turn: a user may add tools
            try:
                choice = await self.endpoint.ask(body | {"messages": dialogue.messages}, log,
                                                 random)
            except RequestError as error:
                if not (error.refused and "content" in error.detail and dialogue.fill_content()):
                    raise
                continue
            reply = read_reply(choice)
            # own tools may run in another process: the other dialogues do not wait for it
            if dialogue.own or dialogue.toolbox.waits:
                goes_on = await asyncio.to_thread(dialogue.add, reply)
            else:
                goes_on = dialogue.add(reply)

    async def probe(self, toolbox: str) -> dict[str, str]:
        """What the server honours, from a few small questions. Findings, not proofs.

        Raises:
            UserError: the server cannot be reached or refuses.
        """
        return await probe(self._asker(), toolbox)

    async def ping(self) -> None:
        """See whether the server answers, by one question.

        Raises:
            UserError: the server cannot be reached or refuses.
        """
        await ping(self._asker())

    def _asker(self) -> Asker:
        return Asker(self.endpoint, self.teacher.body(1), self.teacher.tools == "native")


def _check_address(base_url: str, model: str) -> None:
    address = urlsplit(str(base_url))
    if address.scheme not in ("http", "https") or not address.hostname:
        raise UserError(f"Teacher option base_url={base_url!r} is not an address: write "
                        "base_url:http://host:port/v1.")
    if address.username or address.password or address.query:
        raise UserError("Teacher option base_url holds a password or query: keys come from the "
                        "environment (key_env).")
    if not str(model).strip():
        raise UserError("The teacher 'chat_endpoint' needs a model: write model:<its name at the "
                        "server>.")


def _check_type(name: str, value: Any, kind: Any) -> None:
    fits = {str: (isinstance(value, str), "a text; put it in quotes"),
            bool: (isinstance(value, bool), "true or false"),
            int: (isinstance(value, int) and not isinstance(value, bool), "a whole number"),
            float: (isinstance(value, int | float) and not isinstance(value, bool), "a number")}
    fit, wanted = fits.get(kind, (isinstance(value, Mapping), "a mapping, as in {top_k: 20}"))
    if not fit:
        raise UserError(f"Teacher option {name}={value!r} must be {wanted}.")
