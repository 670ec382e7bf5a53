"""One OpenAI-compatible server: a request with its time limit, retries, and a name for whatever
goes wrong.

The `openai` client carries the requests (connections, key, typed errors); its own retries are off,
because it would wait 600 s per read and forget the deadline. The body is taken as plain JSON and
checked here: servers answer 200 with text, HTML, an error object or no choices.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from random import Random
from time import time
from typing import Any

from mentor_kit.errors import UserError

RETRIED = (408, 409, 425, 429)  # and every status from 500
# what no other question would change
FINAL = {401: ("the key is refused", "check base_url and the key's variable"),
         402: ("the account has no credit left", "top it up, or use another key")}
# may concern one question or all of them; see `mentor_kit.collection.dispatch`
BLOCKED = {403: "the key may not use this, or the text was flagged",
           404: "there is no such model or path"}
NO_CREDIT = "insufficient_quota"
CONTEXT = re.compile(
    r"context.{0,9}(length|window|size|overflow)|prompt is too long|too many tokens|reduce the "
    r"length|exceeds the (maximum|limit|available)|tokens must be <=|too large for model",
    re.IGNORECASE,
)
# finish reasons of a reply that the server broke off; the same question may well be answered
BROKEN = {"error", "abort", "aborted", "cancelled", "canceled", "timeout", "unload",
          "network_error", "insufficient_system_resource", "overloaded", "interrupted"}
MAX_DETAIL = 200  # characters of the server's words that are kept


class RequestError(Exception):
    """A request that did not succeed.

    Args:
        reason: timeout, connection, http_<status>, context (the dialogue is longer than the
            model's context), bad_json, no_choices, aborted, deadline.
        detail: the server's own words.
        wait: seconds that the server asks to wait.
        retry: the same request may succeed later.
        refused: the server understood and said no; asking again is useless.
    """

    def __init__(self, reason: str, detail: str = "", wait: float = 0.0, retry: bool = True,
                 refused: bool = False) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail, self.wait = reason, detail, wait
        self.retry, self.refused = retry and not refused, refused


@dataclass
class Log:
    """What one attempt cost: raw replies, errors that were retried, tokens as the server counts
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
class RetryPolicy:
    """Seconds and tries of one request.

    The wait before try n is `backoff` x 2**n x a random 0.5 to 1.5, at most `longest_wait`, and
    never less than the server's Retry-After. A Retry-After above `longest_asked` is not waited for.
    `patient`: also try again where no connection was had or no answer came in time.
    """

    timeout: float = 120.0
    retries: int = 6
    backoff: float = 1.0
    longest_wait: float = 60.0
    longest_asked: float = 600.0
    patient: bool = True

    def wait(self, failed: int, asked: float, random: Random) -> float:
        return max(min(self.backoff * 2**failed, self.longest_wait) * random.uniform(0.5, 1.5),
                   asked)


class Endpoint:
    """An open connection to a server; use it within one event loop.

    Args:
        key: sent as the bearer token; never stored, and redacted in everything that is.
    """

    def __init__(self, base_url: str, key: str, policy: RetryPolicy) -> None:
        import httpx
        import openai

        self.raw = httpx.Response  # asks the client for the reply as it came
        self.errors, self.base_url, self.policy, self.key = openai, base_url, policy, key
        self.client = openai.AsyncOpenAI(base_url=base_url, api_key=key or "none", max_retries=0,
                                         timeout=policy.timeout)

    async def ask(self, body: Mapping[str, Any], log: Log, random: Random) -> Mapping[str, Any]:
        """`choices[0]` of the reply, after as many tries as the policy allows.

        Raises:
            RequestError: the last one, when tries are used up or trying again is useless.
            UserError: the server refuses the key, has no credit for it, or asks for a long wait.
        """
        for failed in range(self.policy.retries + 1):
            try:
                reply = await self._once(body)
            except RequestError as error:
                self._check_wait(error)
                if not error.retry or failed == self.policy.retries:
                    raise
                log.retried.append(str(error)[:MAX_DETAIL])
                await asyncio.sleep(self.policy.wait(failed, error.wait, random))
            else:
                log.add(reply)
                return reply["choices"][0]
        raise AssertionError("unreachable")

    def _check_wait(self, error: RequestError) -> None:
        if error.wait > self.policy.longest_asked:
            until = datetime.now() + timedelta(seconds=error.wait)
            raise UserError(f"The endpoint {self.base_url!r} asks to wait until "
                            f"{until:%Y-%m-%d %H:%M} ({error}): start again then to continue; what "
                            "was collected is safe.") from None

    async def _once(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        errors, patient = self.errors, self.policy.patient
        try:
            async with asyncio.timeout(self.policy.timeout):
                response = await self.client.post("/chat/completions", body=dict(body),
                                                  cast_to=self.raw)
            return _checked(self._redacted(_parsed(response.content)))
        except (TimeoutError, errors.APITimeoutError):
            raise RequestError("timeout", f"no answer in {self.policy.timeout:g} s",
                               retry=patient) from None
        except errors.APIConnectionError as error:
            # of the HTTP library that openai has chosen
            unconnected = type(error.__cause__).__name__ == "ConnectError"
            raise RequestError("connection", self.redact(str(error.__cause__ or error)),
                               retry=patient or not unconnected) from None
        except errors.APIStatusError as error:
            raise self._status_error(error) from None
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
            raise RequestError("bad_json", "the reply is not JSON") from None

    def _status_error(self, error: Any) -> Exception:
        status, detail = error.status_code, self.redact(sentence(error.body) or error.message)
        detail = " ".join(detail.split())[:MAX_DETAIL]
        no_credit = status == 429 and NO_CREDIT in str(error.body)
        if status in FINAL or no_credit:
            why, fix = FINAL[402 if no_credit else status]
            return UserError(f"The endpoint {self.base_url!r} answered {status}, {why} ({detail}): "
                             f"{fix}, then start again to continue.")
        if status == 413 or CONTEXT.search(detail):
            return RequestError("context", detail, refused=True)
        refused = status < 500 and status not in RETRIED and "loading" not in detail.lower()
        return RequestError(f"http_{status}", detail, retry_after(error.response.headers),
                            refused=refused)

    def redact(self, text: str) -> str:
        return text.replace(self.key, "***") if self.key else text

    def _redacted(self, reply: Any) -> Any:
        """A reply that quotes the key, without it."""
        if not self.key or self.key not in (text := json.dumps(reply, ensure_ascii=False)):
            return reply
        return json.loads(self.redact(text))

    async def close(self) -> None:
        await self.client.close()


def sentence(body: Any) -> str:
    """What a server says in the body of an error."""
    if isinstance(body, Mapping):
        found = (sentence(body.get(name)) for name in ("message", "detail", "error"))
        return next(filter(None, found), json.dumps(body))
    return body if isinstance(body, str) else "" if body is None else json.dumps(body)


def _parsed(content: bytes) -> Any:
    """The JSON of a reply, whatever its content type, possibly after comment lines
    (`: PROCESSING`)."""
    if content.lstrip().startswith(b"data:"):
        raise RequestError("bad_json", "the server sends a stream although none was asked for")
    return json.loads(re.sub(rb"\A(?:\s*:[^\n]*\n)+", b"", content))


def _checked(reply: Any) -> Mapping[str, Any]:
    if not isinstance(reply, Mapping):
        raise RequestError("bad_json", "the reply is not a JSON object")
    choices = reply.get("choices")
    if not isinstance(choices, list) or not choices:
        raise RequestError("no_choices", sentence(reply.get("error"))[:MAX_DETAIL])
    choice = choices[0]
    if not isinstance(choice, Mapping) or not isinstance(choice.get("message"), Mapping):
        raise RequestError("no_choices", "the first choice has no message")
    finish = str(choice.get("finish_reason") or "").lower()
    if choice.get("error") or finish in BROKEN:
        raise RequestError("aborted", sentence(choice.get("error"))[:MAX_DETAIL]
                           or f"finish_reason {finish}")
    return reply


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that a server asks to wait: Retry-After-Ms, or Retry-After as seconds or as a date by
    the server's own clock. 0 without."""
    try:
        if "retry-after-ms" in headers:
            seconds = float(headers["retry-after-ms"]) / 1000
        else:
            seconds = _seconds(headers.get("retry-after", "0"), headers.get("date"))
    except (ValueError, TypeError):
        return 0.0
    return min(max(0.0, seconds), 1e9)  # this order makes 0 of NaN


def _seconds(value: str, now: str | None) -> float:
    if value.strip().replace(".", "", 1).isdigit():
        return float(value)
    until = parsedate_to_datetime(value).timestamp()
    return until - (parsedate_to_datetime(now).timestamp() if now else time())
