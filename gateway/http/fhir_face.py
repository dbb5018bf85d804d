"""The FHIR face: BaRS's `$process-message` and what goes with it, over the intake of /v1. docs/fhir.md."""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.adapters import fhir_bars
from gateway.adapters.base import AdapterError, Native
from gateway.adapters.fhir_message import Message, open_message
from gateway.errors import RefusedByUs
from gateway.http import fhir_documents, fhir_outcome, fhir_routing
from gateway.http.bodies import read_message
from gateway.http.fhir_outcome import CORRELATION_ID, REQUEST_ID, UUID
from gateway.http.keys import FHIR, LIMITS, PRINCIPAL, RECEIVING, SENDING
from gateway.http.ports import Permission, Submission
from gateway.http.requests import header, identifier, permitted, single
from gateway.messages import MessageId, Problem

PREFIX = "/FHIR/R4/"
PROCESS_MESSAGE = f"{PREFIX}$process-message"


async def process_message(request: web.Request) -> web.Response:
    """Take a message: 200 once it is durable, 409 `duplicate` if it already was."""
    permitted(request, Permission.SEND)
    app = request.app
    request_id, correlation_id = _ids(request)
    fhir_outcome.preferred(request)  # a format we cannot answer in is refused before the message is taken
    target = header(request, fhir_routing.TARGET)
    content_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if content_type not in fhir_outcome.READ:
        rule = f"one of: {', '.join(fhir_bars.ADAPTER.media_types)}"
        raise RefusedByUs("unsupported-format", problems=[Problem("/header/Content-Type", rule)])
    body, uploads = await read_message(request, app[LIMITS])
    message = _message(body)
    purpose, lawful_basis = app[FHIR].why(message)
    status = await app[SENDING].submit(
        Submission(
            sender=request[PRINCIPAL].agency,
            idempotency_key=request_id,
            body=body,
            adapter=fhir_bars.ADAPTER.name,
            recipients=(fhir_routing.recipient(app[FHIR], target, message),),
            purpose=purpose.value,
            lawful_basis=lawful_basis.value,
            case=fhir_routing.case(correlation_id),
            in_reply_to=await _answered(request, message),
            expires_in=None,
        ),
        uploads,
    )
    if status.repeated:
        return fhir_outcome.duplicate(request)
    return fhir_outcome.answer(request, fhir_documents.acknowledgement(message, status))


async def metadata(request: web.Request) -> web.Response:
    """The CapabilityStatement."""
    _ids(request)
    fhir_outcome.preferred(request)
    return fhir_outcome.answer(request, fhir_documents.capability_statement())


async def message_definition(request: web.Request) -> web.Response:
    """What may be sent to the service that `context` names."""
    _ids(request)
    fhir_outcome.preferred(request)
    context = single(request, "context")
    if not context:
        raise RefusedByUs("missing-parameter", problems=[Problem("/query/context", "required")])
    system, _, value = context.rpartition("|")
    known = request.app[FHIR].agency(system, value) is not None
    return fhir_outcome.answer(
        request, fhir_documents.message_definitions((system, value) if known else None)
    )


async def service_request(request: web.Request) -> web.Response:
    """How far a referral of one's own has come."""
    permitted(request, Permission.SEND)
    _ids(request)
    fhir_outcome.preferred(request)
    status = await request.app[SENDING].status(request[PRINCIPAL].agency, MessageId(identifier(request)))
    if status.type != "referral":
        raise RefusedByUs("not-found")
    return fhir_outcome.answer(request, fhir_documents.service_request(status))


ROUTES: tuple[tuple[str, str, Handler], ...] = (
    ("POST", PROCESS_MESSAGE, process_message),
    ("GET", f"{PREFIX}metadata", metadata),
    ("GET", f"{PREFIX}MessageDefinition", message_definition),
    ("GET", f"{PREFIX}ServiceRequest/{{id}}", service_request),
)


def _ids(request: web.Request) -> tuple[str, str]:
    """Request id and correlation id, in lower case: BaRS wants both. Raises RefusedByUs."""
    given = {name: header(request, name) or "" for name in (REQUEST_ID, CORRELATION_ID)}
    problems = [
        Problem(f"/header/{name}", "a UUID") for name, value in given.items() if not UUID.fullmatch(value)
    ]
    if problems:
        raise RefusedByUs("bad-request", problems=problems)
    return given[REQUEST_ID].lower(), given[CORRELATION_ID].lower()


async def _answered(request: web.Request, message: Message) -> MessageId | None:
    """The message that a response answers, if it came through here: BaRS may name the sender's own id."""
    named = fhir_routing.answered(message)
    known = named is not None and await request.app[RECEIVING].holds(request[PRINCIPAL].agency, named)
    return named if known else None


def _message(body: Native) -> Message:
    """The Bundle, opened to see where it goes. Raises RefusedByUs."""
    try:
        return open_message(fhir_bars.resource(body))
    except AdapterError as error:
        code = "malformed-body" if error.malformed else "unmappable-content"
        raise RefusedByUs(code, problems=error.problems) from None
