"""One OpenAI-compatible server: a request with its time limit, retries, and a name for whatever
goes wrong.

The `openai` client carries the requests (connections, key, typed errors); its own retries are off,
because it would wait 600 s per read and forget the deadline. The body is taken as plain JSON and
checked here: servers answer 200 with text, HTML, an error object or no choices.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from random import Random
from time import time
from typing import Any

from mentor_kit.errors import UserError

RETRIED = (408, 409, 425, 429)  # and every status from 500
FATAL = {401: "the key is refused", 403: "the key may not use this",
         404: "there is no such model or path"}


class Failure(Exception):
    """A request that did not succeed. `reason`: timeout, connection, http_<status>, bad_json,
    no_choices, deadline."""

    def __init__(self, reason: str, detail: str = "", wait: float = 0.0,
                 retry: bool = True) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.wait, self.retry = reason, wait, retry


@dataclass
class Log:
    """What one attempt cost: raw replies, failures that were retried, tokens as the server counts
    them."""

    replies: list[Any] = field(default_factory=list)
    retried: list[str] = field(default_factory=list)
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def add(self, body: Mapping[str, Any]) -> None:
        self.replies.append(body)
        usage = body.get("usage") if isinstance(body.get("usage"), Mapping) else {}
        for name in ("prompt_tokens", "completion_tokens"):
            value = usage.get(name)
            setattr(self, name, getattr(self, name) + (value if isinstance(value, int) else 0))


@dataclass(frozen=True)
class Patience:
    """Seconds and tries of one request. The wait before try n is `backoff` x 2**n x a random 0.5 to
    1.5, at most `longest_wait`, and never less than the server's Retry-After. `unconnected`: also
    where no connection was had."""

    timeout: float = 120.0
    retries: int = 6
    backoff: float = 1.0
    longest_wait: float = 60.0
    unconnected: bool = True

    def wait(self, failed: int, asked: float, random: Random) -> float:
        return max(min(self.backoff * 2**failed, self.longest_wait) * random.uniform(0.5, 1.5),
                   asked)


class Endpoint:
    """An open connection to a server; use it within one event loop.

    Args:
        key: sent as the bearer token; never stored, and blotted out of everything that is.
    """

    def __init__(self, base_url: str, key: str, patience: Patience) -> None:
        import openai

        self.errors, self.base_url, self.patience, self.key = openai, base_url, patience, key
        self.client = openai.AsyncOpenAI(base_url=base_url, api_key=key or "none", max_retries=0,
                                         timeout=patience.timeout)

    async def ask(self, body: Mapping[str, Any], log: Log, random: Random) -> Mapping[str, Any]:
        """`choices[0]` of the reply, after as many tries as `patience` allows.

        Raises:
            Failure: the last failure, when tries are used up or trying again is useless.
            UserError: the server refuses key, model or address.
        """
        for failed in range(self.patience.retries + 1):
            try:
                reply = await self._once(body)
            except Failure as failure:
                if not failure.retry or failed == self.patience.retries:
                    raise
                log.retried.append(str(failure)[:200])
                await asyncio.sleep(self.patience.wait(failed, failure.wait, random))
            else:
                log.add(reply)
                return reply["choices"][0]
        raise AssertionError("unreachable")

    async def _once(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        errors = self.errors
        try:
            async with asyncio.timeout(self.patience.timeout):
                reply = await self.client.post("/chat/completions", cast_to=object, body=dict(body))
        except (TimeoutError, errors.APITimeoutError):
            raise Failure("timeout", f"no answer in {self.patience.timeout:g} s") from None
        except errors.APIConnectionError as error:
            # of the HTTP library that openai has chosen
            unconnected = type(error.__cause__).__name__ == "ConnectError"
            retry = self.patience.unconnected or not unconnected
            raise Failure("connection", self.blot(str(error.__cause__ or error)),
                          retry=retry) from None
        except errors.APIStatusError as error:
            raise self._status(error) from None
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
            raise Failure("bad_json", "the reply is no JSON") from None
        return _checked(self._blotted(reply))

    def _status(self, error: Any) -> Exception:
        detail = self.blot(" ".join(str(error.message).split()))[:200]
        if error.status_code in FATAL:
            return UserError(f"The endpoint {str(self.client.base_url)!r} answered "
                             f"{error.status_code}, {FATAL[error.status_code]} ({detail}): check "
                             "base_url, model and the key's variable.")
        retry = error.status_code in RETRIED or error.status_code >= 500
        return Failure(f"http_{error.status_code}", detail, retry_after(error.response.headers),
                       retry)

    def blot(self, text: str) -> str:
        return text.replace(self.key, "***") if self.key else text

    def _blotted(self, reply: Any) -> Any:
        """A reply that quotes the key, without it."""
        if not self.key or self.key not in (text := json.dumps(reply, ensure_ascii=False)):
            return reply
        return json.loads(self.blot(text))

    async def close(self) -> None:
        await self.client.close()


def _checked(reply: Any) -> Mapping[str, Any]:
    if not isinstance(reply, Mapping):
        raise Failure("bad_json", "the reply is no JSON object")
    choices = reply.get("choices")
    if not isinstance(choices, list) or not choices:
        raise Failure("no_choices", str(reply.get("error") or "")[:200])
    if not isinstance(choices[0], Mapping) or not isinstance(choices[0].get("message"), Mapping):
        raise Failure("no_choices", "the first choice has no message")
    return reply


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that a server asks to wait: Retry-After-Ms, or Retry-After as seconds or as a date. 0
    without."""
    try:
        if "retry-after-ms" in headers:
            return max(float(headers["retry-after-ms"]) / 1000, 0.0)
        value = headers.get("retry-after", "0")
        is_number = value.replace(".", "", 1).isdigit()
        seconds = float(value) if is_number else parsedate_to_datetime(value).timestamp() - time()
    except (ValueError, TypeError):
        return 0.0
    return min(max(seconds, 0.0), 1e6)
