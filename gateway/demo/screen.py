"""What the demo shows: a live table of every message's ladder, then a summary; without a terminal, lines."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live
from rich.table import Table

from gateway.demo.story import Sent

if TYPE_CHECKING:
    from gateway.demo.play import Summary

_COLOUR = {"delivered": "green", "rejected": "yellow", "refused": "yellow", "expired": "red", "failed": "red"}
_LADDER = {
    "sending": "○",
    "accepted": "● accepted",
    "received": "●● received",
    "delivered": "●●● delivered",
    "rejected": "●●✕ rejected",
    "expired": "●●✕ expired",
    "failed": "●✕ failed",
    "refused": "✕ refused",
}


class Screen:
    """Shows the story as it happens; silent when a program reads the output."""

    def __init__(self, *, quiet: bool) -> None:
        piped = None if sys.stdout.isatty() else 180
        self._console = Console(quiet=quiet, highlight=False, width=piped, soft_wrap=True)
        self._live = Live(console=self._console, refresh_per_second=8, transient=False)
        self._interactive = self._console.is_terminal and not quiet

    def say(self, text: str) -> None:
        """One line."""
        self._console.print(text)

    def __enter__(self) -> None:
        if self._interactive:
            self._live.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._interactive:
            self._live.stop()

    def table(self, book: Sequence[Sent]) -> None:
        """Show how far every message has come."""
        if self._interactive:
            self._live.update(_table(book))

    def summary(self, book: Sequence[Sent], summary: Summary) -> None:
        """Show what became of everything."""
        if not self._interactive:
            self._console.print(_table(book))
        seen, receipts = summary.eavesdropper, summary.receipts_verified + summary.receipts_invalid
        say = self._console.print
        say()
        say(f"accepted            {summary.accepted}")
        say(f"delivered           {summary.delivered}")
        for title, reason in summary.why_rejected.items():
            say(f"rejected on purpose 1   {title}: {reason}")
        for title, code in summary.why_refused.items():
            say(f"refused at intake   1   {title}: {code}")
        say(f"expired, failed     {summary.expired + summary.failed}")
        say(f"lost                {summary.lost}")
        say(f"receipts verified   {summary.receipts_verified} of {receipts}")
        say()
        say("An eavesdropper on the broker would have seen:")
        say(
            f"  {seen['envelopes']} sealed things, {seen['bytes']} bytes in all,"
            f" of sizes such as {seen['sizes']}"
        )
        say(
            "  each with a recipient agency, a random identifier and an expiry;"
            f" they begin {seen['first_bytes']} ..."
        )
        say(
            f"  of {seen['values_searched_for']} values written in the messages"
            f" (names, dates, numbers, narratives): {seen['values_found']} found"
        )


def _table(book: Sequence[Sent]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("message", "from", "to", "sent as", "read as", "ladder", "receipts", "why"):
        table.add_column(column, no_wrap=True)
    for sent in book:
        colour = _COLOUR.get(sent.stage, "white")
        table.add_row(
            sent.title,
            sent.sender.removeprefix("northtown-"),
            sent.recipient.removeprefix("northtown-"),
            sent.sent_as,
            sent.read_as,
            f"[{colour}]{_LADDER[sent.stage]}[/]",
            str(len(sent.receipts)) if sent.receipts else "",
            sent.refused or sent.reason,
        )
    return table
