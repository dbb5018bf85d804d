"""What the application carries for its handlers."""

from __future__ import annotations

from aiohttp import web

from gateway.http.fhir_routing import Addressing
from gateway.http.limits import Limits
from gateway.http.ports import Principal, Receiving, Sending

SENDING = web.AppKey("sending", Sending)
RECEIVING = web.AppKey("receiving", Receiving)
FHIR = web.AppKey("fhir", Addressing)
"""Only where the FHIR face is served."""
LIMITS = web.AppKey("limits", Limits)
PRINCIPAL = web.RequestKey("principal", Principal)
