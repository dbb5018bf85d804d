"""Evidence as a page for people: what happened, who signed it, how to check it. No script, nothing loaded."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape

from gateway.audit.evidence import Findings
from gateway.messages import Receipt

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#0b0c0c}"
    "table{border-collapse:collapse;width:100%}code{background:#f3f2f1;padding:.1rem .3rem}"
    "th,td{text-align:left;vertical-align:top;padding:.3rem .6rem .3rem 0;border-bottom:1px solid #b1b4b6}"
)
_MEANING = {
    "accepted": "The sender's node validated it, was allowed to send it, and holds it durably.",
    "received": "The recipient's node opened and verified it, found it allowed, and holds it durably.",
    "delivered": "The recipient's own system acknowledged it.",
    "rejected": "The recipient refused it, for the reason given.",
    "expired": "Nobody collected it in time.",
    "failed": "The sender's node gave up sending it.",
    "opened": "Opened in an emergency, before the recipient's own system collected it.",
}


def render(found: Findings) -> str:
    """The page of evidence that was checked."""
    rows = "".join(
        f"<tr><td>{_time(one.at)}<td><strong>{escape(one.stage)}</strong>"
        f"{' (' + escape(one.reason) + ')' if one.reason else ''}<br>{_MEANING[one.stage]}"
        f"{_quorum(one, roles)}<td>{escape(one.issuer)}<td>{escape(one.sender)} to {escape(one.recipient)}"
        f"<td><code>{escape(one.envelope_id)}</code></tr>"
        for one, roles in zip(found.receipts, found.quorums, strict=True)
    )
    entries = "".join(
        f"<tr><td>{entry['index']}<td>{_time(entry.get('at'))}<td>{escape(str(entry.get('kind')))}"
        f"<td>{escape(str(entry.get('stage', '')))}<td>{escape(str(entry.get('agreement', '')))}</tr>"
        for entry in found.entries
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        f"<title>Evidence of message {escape(found.message_id)}</title><style>{_STYLE}</style>"
        f"<h1>Evidence of a message</h1><p>Message <code>{escape(found.message_id)}</code>. This page helps"
        " to read <code>evidence.json</code> beside it, which is what proves; check both, anywhere:"
        " <code>gateway evidence verify FILE --directory DIRECTORY</code>.</p>"
        "<h2>What was stated, and by whom</h2><table><tr><th>when (issuer's clock, UTC)<th>stage<th>signed by"
        f"<th>from, to<th>envelope</tr>{rows}</table>"
        "<h2>Where the audit log says so</h2>"
        f"<p>Log <code>{escape(found.origin)}</code>, signed by {escape(', '.join(found.agencies))} over"
        f" {found.size} entries.</p>"
        f"<table><tr><th>entry<th>when (UTC)<th>kind<th>stage<th>agreement</tr>{entries}</table></html>\n"
    )


def _quorum(one: Receipt, roles: tuple[str, ...] | None) -> str:
    """Who approved an emergency opening, and under which agreement."""
    if one.quorum is None:
        return ""
    if roles is None:
        return " <strong>No directory here confirms a quorum.</strong>"
    return f" Approved by {escape(', '.join(roles))} under {escape(one.quorum.agreement)}."


def _time(at: object) -> str:
    if type(at) is not int or not 0 <= at < 1 << 47:
        return ""
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(sep=" ", timespec="milliseconds")[:23]
