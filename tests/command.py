"""The command `gateway` with everything it can do, for tests that call it in their own process."""

from gateway.cli.root import build

app = build()
