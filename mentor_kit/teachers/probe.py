"""What does an endpoint honour? Asked once, before a collection starts."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

from mentor_kit.errors import UserError
from mentor_kit.problem import Problem
from mentor_kit.teachers.dialogue import Dialogue, Reply, read_reply, render_reply
from mentor_kit.teachers.endpoint import Endpoint, Failure, Log
from mentor_kit.toolbox import load_toolbox
from mentor_kit.trajectory import Turn

if TYPE_CHECKING:
    from mentor_kit.teachers.chat_endpoint import Session

CHOICE = "Write a random sentence of about ten words."
TRIES, BACKOFF = 3, 0.3  # a wrong address shows within seconds


async def probe(session: Session, toolbox: str) -> dict[str, str]:
    """`tools`, `seed`, `temperature`, `reasoning`: what was seen, in words.

    Raises:
        UserError: no answer at this address, or a refusal.
    """
    patience = replace(session.endpoint.patience, retries=TRIES, backoff=BACKOFF)
    quick = Endpoint(session.teacher.base_url, session.endpoint.key, patience)
    try:
        called = await _ask_with_tool(session, quick, toolbox)
        same, again, other = await asyncio.gather(*(_ask(session, quick, seed) for seed in (1, 1, 2)))
    except Failure as failure:
        raise UserError(f"The endpoint {session.teacher.base_url!r} does not answer ({failure}): is the server "
                        "running, are base_url and model right?") from None
    finally:
        await quick.close()
    return {"tools": _tools_seen(called), "seed": _seed_seen(same, again, other),
            "temperature": "samples differ" if other != same or again != same else "ignored: samples are all alike",
            "reasoning": "sent" if called.reasoning else "none seen"}


async def _ask_with_tool(session: Session, endpoint: Endpoint, toolbox: str) -> Reply:
    box, native = load_toolbox(toolbox), session.teacher.tools == "native"
    tool = next(iter(box.names))
    question = f"Call the tool {tool} once, with arguments of your choice."
    problem = Problem("probe", question, ("",), "probe", "probe", toolbox)
    dialogue = Dialogue(problem, box, native=native, max_turns=1)
    body: dict[str, Any] = {**session.teacher.body(1), "messages": dialogue.messages}
    return read_reply(await endpoint.ask(body | ({"tools": box.schemas} if native else {}), Log(), Random(1)))


async def _ask(session: Session, endpoint: Endpoint, seed: int) -> str:
    body = {**session.teacher.body(seed), "temperature": 1.0, "seed": seed,
            "messages": [{"role": "user", "content": CHOICE}]}
    if "max_tokens" in body:
        body["max_tokens"] = min(body["max_tokens"], 64)
    return render_reply(read_reply(await endpoint.ask(body, Log(), Random(seed))))


def _tools_seen(reply: Reply) -> str:
    if reply.calls:
        return "honoured: structured calls"
    return "calls come as text" if Turn(render_reply(reply)).calls else "no call seen; if this stays, try tools:text"


def _seed_seen(same: str, again: str, other: str) -> str:
    if same != again:
        return "ignored: the same seed gave another text"
    return "honoured" if other != same else "cannot be told: samples are all alike"
