"""What tests of the road share: an example to send, waiting for arrival and for a stage."""

from __future__ import annotations

import json
import uuid
from importlib import resources
from typing import Any

from gateway.http.client import ApiProblem, Client
from gateway.messages import AgencyId
from tests.world import POLICE, SCHOOL, World, until


def referral(**change: Any) -> dict[str, Any]:
    """One of the shipped examples, changed."""
    folder = resources.files("gateway.schemas") / "examples" / "referral"
    document = json.loads((folder / "school_prevent_referral.json").read_bytes())
    return {**document, **change}


async def send(client: Client, body: Any = None, **change: Any) -> dict[str, Any]:
    """Send a referral to the police unless told otherwise."""
    arguments: dict[str, Any] = {
        "media_type": "application/json",
        "to": [POLICE],
        "purpose": "prevent",
        "lawful_basis": "public-task",
        "idempotency_key": str(uuid.uuid4()),
    }
    data = body if isinstance(body, bytes) else json.dumps(body or referral()).encode()
    return await client.send(data, **(arguments | change))


async def refusal(client: Client, body: Any = None, **change: Any) -> ApiProblem:
    """Send what must be refused; the problem."""
    try:
        answer = await send(client, body, **change)
    except ApiProblem as problem:
        return problem
    raise AssertionError(f"it was accepted: {answer['message_id']}")


async def arrived(client: Client, message_id: str) -> bool:
    """Whether the message is in the inbox."""
    page = await client.inbox(wait=2)
    return any(message["message_id"] == message_id for message in page["messages"])


async def wait_for_arrival(world: World, message_id: str, agency: AgencyId = POLICE) -> None:
    """Wait until it is in the inbox of `agency`."""
    await until(lambda: arrived(world.clients[agency], message_id), f"arrival at {agency}")


async def ladder(world: World, message_id: str, recipient: AgencyId = POLICE) -> dict[str, Any]:
    """The ladder of one recipient, as the school sees it."""
    status = await world.clients[SCHOOL].status(message_id)
    return next(one for one in status["recipients"] if one["recipient"] == recipient)


async def reached(world: World, message_id: str, wanted: str, recipient: AgencyId = POLICE) -> dict[str, Any]:
    """Wait until the school sees that stage; the ladder."""

    async def there() -> bool:
        return bool((await ladder(world, message_id, recipient))["stage"] == wanted)

    await until(there, f"stage {wanted}")
    return await ladder(world, message_id, recipient)


def metric(world: World, agency: AgencyId, sample: str) -> float:
    """One sample of a node's metrics, by name and labels; 0 when there is none."""
    text = world.nodes[agency].metrics()[0].decode()
    for line in text.splitlines():
        if line.startswith(sample + " "):
            return float(line.rpartition(" ")[2])
    return 0.0
