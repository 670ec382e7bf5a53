"""What does an endpoint honour? Asked once, before a collection starts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from mentor_kit.core.chat_markup import render_call
from mentor_kit.core.problem import Problem
from mentor_kit.core.toolbox import Toolbox, load_toolbox
from mentor_kit.core.turn import Turn
from mentor_kit.errors import UserError
from mentor_kit.teachers.attempt import PARSER, UNREAD_CALL, hint
from mentor_kit.teachers.dialogue import Dialogue
from mentor_kit.teachers.endpoint import BLOCKED, Endpoint, Log, RequestError
from mentor_kit.teachers.reply import Reply, read_reply, render_reply

SENTENCE = "Write a random sentence of about ten words."
TRIES, BACKOFF = 3, 0.3  # a wrong address shows within seconds
LONGEST_ASKED = 60.0  # seconds of a Retry-After
SHORT = 32  # tokens of a reply that is only looked at
STRUCTURED, AS_TEXT = "structured calls", "calls as text"
UNREAD = f"calls in a form that is not read: {PARSER}"


@dataclass
class Asker:
    """Who is probed.

    Args:
        endpoint: the connection.
        body: a request without messages and tools.
        native: tools go into the request's `tools`, not into the prompt.
        short: ask for short replies; turned off at a server that fails over them.
    """

    endpoint: Endpoint
    body: Mapping[str, Any]
    native: bool
    short: bool = True


async def probe(asker: Asker, toolbox: str) -> dict[str, str]:
    """`tools`, `seed`, `temperature`, `reasoning`: what was seen, in words. At most ten small
    questions.

    Raises:
        UserError: no answer at this address, or a refusal.
    """
    async with _short_timeouts(asker) as asker:
        tools, thinks = await _tools(asker, toolbox)
        seed, temperature = await _sampling(asker)
    return {"tools": tools, "seed": seed, "temperature": temperature, "reasoning": "sent" if thinks
            else "none seen"}


async def ping(asker: Asker) -> None:
    """One question with a short reply: is there a server, does it take the key, does it know the
    model?

    Raises:
        UserError: no answer at this address, or a refusal.
    """
    async with _short_timeouts(asker) as asker:
        await _ask(asker, "Hi.")


@asynccontextmanager
async def _short_timeouts(asker: Asker) -> AsyncIterator[Asker]:
    """The same asker with a connection that gives up sooner."""
    url = asker.endpoint.base_url
    policy = replace(asker.endpoint.policy, retries=TRIES, backoff=BACKOFF, patient=False,
                     longest_asked=LONGEST_ASKED)
    endpoint = Endpoint(url, asker.endpoint.key, policy)
    try:
        yield replace(asker, endpoint=endpoint)
    except RequestError as error:
        if not error.refused:
            raise UserError(f"The endpoint {url!r} does not answer ({error}): is the server "
                            "running, are base_url and model right?") from None
        status = error.reason.removeprefix("http_")
        blocked = BLOCKED.get(int(status)) if status.isdigit() else None
        check = f"{blocked}: check base_url, model and the key's variable" if blocked else ""
        advice = hint(error.detail) or check or "check the teacher's options"
        raise UserError(f"The endpoint {url!r} refuses a plain question ({error}): "
                        f"{advice}.") from None
    finally:
        await endpoint.close()


async def _ask(asker: Asker, question: str, **sampling: Any) -> str:
    """The text of a reply. `sampling` takes the place of what the teacher sends; what it does not
    send is left out here too."""
    body = {**asker.body, "messages": [{"role": "user", "content": question}]}
    body.update({name: value for name, value in sampling.items() if name in body})
    if asker.short and "max_tokens" in body:
        body["max_tokens"] = min(body["max_tokens"], SHORT)
    try:
        return render_reply(read_reply(await asker.endpoint.ask(body, Log(), Random(1))))
    except RequestError as error:
        if not asker.short or error.reason in ("connection", "timeout"):
            raise
    asker.short = False
    return await _ask(asker, question, **sampling)


async def _sampling(asker: Asker) -> tuple[str, str]:
    """What was seen of the seed and of the temperature. The seed is tried alone and with another
    request under way: some servers seed one generator for all."""
    async def sentence(seed: int, temperature: float = 1.0) -> str:
        return await _ask(asker, SENTENCE, temperature=temperature, seed=seed)

    try:
        first = await sentence(1)
        again, other = await asyncio.gather(sentence(1), sentence(2))
        alike = first == again == other
        cold = alike or await sentence(1, 0.0) == await sentence(2, 0.0)
        alone = first == again or first == await sentence(1)
    except RequestError as error:
        if not error.refused:
            raise
        return "cannot be told", f"another one is refused ({error})"
    if alike:
        seed = "cannot be told: samples are all alike"
        temperature = "ignored: samples are all alike"
    else:
        temperature = "honoured: samples differ at 1, not at 0" if cold else \
            "sampled: samples differ at 1, also at 0"
        seed = "honoured" if first == again else \
            "honoured one request at a time (concurrency:1), not with several at once" if alone \
            else "ignored: the same seed gave another text"
    return (seed if "seed" in asker.body else "not sent",
            temperature if "temperature" in asker.body else "not sent")


async def _tools(asker: Asker, toolbox: str) -> tuple[str, bool]:
    """What was seen of the tools, and whether the reply held reasoning. A server may fail over a
    weak model's calls."""
    tool = load_toolbox(toolbox).tools[load_toolbox(toolbox).names[0]]
    question = f"Call the tool {tool.name} once, with arguments of your choice."
    try:
        reply, length = await _with_tools(asker, toolbox, question)
        if seen := _calls_seen(reply):
            found = f"honoured: {seen}" if seen == STRUCTURED else seen
        elif not asker.native:
            found = "described in the prompt; the model made no call"
        else:
            _, bare = await _with_tools(asker, "", question)
            found = f"the model made no call; {await _diagnose(asker, toolbox, length, bare)}"
    except RequestError as error:
        return f"a question with tools failed ({error}); try tools:text", False
    return found, bool(reply.reasoning)


async def _diagnose(asker: Asker, toolbox: str, length: int, bare: int) -> str:
    """For a model too weak to call: does the server put tools into the prompt, does it read a call
    that is copied?"""
    if 0 < length <= bare:
        return "the server ignores tools (its prompt is as long without them): try tools:text"
    tool = next(iter(load_toolbox(toolbox).tools.values()))
    call = render_call(tool.name, dict.fromkeys(tool.parameters, 1))
    copied, _ = await _with_tools(asker, toolbox, f"Repeat this text exactly:\n{call}")
    told = (f"its prompt holds the tools ({length - bare} tokens)" if length
            else "the server counts no tokens")
    seen = _calls_seen(copied)
    return f"{told}; {f'a copied call gives {seen}' if seen else 'if this stays, try tools:text'}"


def _calls_seen(reply: Reply) -> str:
    if reply.calls:
        return STRUCTURED
    text = render_reply(reply)
    calls = Turn(text).calls
    if calls and all(c.name is not None for c in calls):
        return AS_TEXT
    return UNREAD if UNREAD_CALL.search(text) or UNREAD_CALL.search(reply.reasoning) else ""


async def _with_tools(asker: Asker, toolbox: str, question: str) -> tuple[Reply, int]:
    """The reply to a question with tools ("" offers none), and the prompt's length as the server
    counts it."""
    log = Log()
    box = load_toolbox(toolbox) if toolbox else Toolbox("none", [])
    dialogue = Dialogue(Problem("probe", question, ("",), "probe", "probe"), box,
                        native=asker.native, max_turns=1)
    body = {**asker.body, "messages": dialogue.messages}
    if asker.native and box.names:
        body["tools"] = box.schemas
    return read_reply(await asker.endpoint.ask(body, log, Random(1))), log.prompt_tokens
