"""The message types: one JSON Schema (2020-12) for each type and version, with the checks that go with them.

`<type>/<version>.json` are the schemas, `common/` what they share, `examples/` documents that satisfy them.
docs/messages.md is generated from them (`python -m gateway.schemas.document`).
"""

from __future__ import annotations

from gateway.schemas.checks import warnings
from gateway.schemas.compiled import validate
from gateway.schemas.files import TYPES, is_known

__all__ = ["TYPES", "is_known", "validate", "warnings"]
