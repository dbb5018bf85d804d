"""See tests/cheap_keys.py."""

from tests.cheap_keys import cheap_keys as cheap_keys  # noqa: PLC0414 - fixtures are found by their names
