"""GET /docs: the OpenAPI document as a readable page. No script, no outside resource."""

from __future__ import annotations

from functools import cache
from html import escape
from typing import Any

from aiohttp import web

from gateway.errors import CODES
from gateway.http import openapi

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#0b0c0c}
h2{margin-top:2.5rem;border-top:1px solid #b1b4b6;padding-top:1rem}
code{background:#f3f2f1;padding:.1rem .3rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.3rem .6rem .3rem 0;border-bottom:1px solid #b1b4b6}
.m{display:inline-block;min-width:3.5rem;font-weight:700;color:#1d70b8}
"""


@cache
def _page() -> bytes:
    document = openapi.document()
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width,initial-scale=1'>",
        f"<title>Referral Gateway API</title><style>{_STYLE}</style><h1>Referral Gateway API</h1>",
        f"<p>{escape(document['info']['summary'])} Version {escape(document['info']['version'])}.",
        " The same as a document for programs: <a href='/openapi.json'>/openapi.json</a>.</p>",
        "<p>Send <code>Authorization: Bearer</code> with a token of <code>gateway token create</code>.</p>",
    ]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts += _operation(path, method, operation)
    parts.append(
        "<h2>Problems</h2><p>Errors are problem documents (RFC 9457); <code>type</code> ends in one of:</p>"
    )
    parts.append("<table><tr><th>code<th>status<th>meaning<th>what to do</tr>")
    parts += [
        f"<tr><td><code>{escape(code)}</code><td>{one.status}<td>{escape(one.title)}<td>{escape(one.hint)}</tr>"
        for code, one in sorted(CODES.items())
    ]
    parts.append("</table></html>")
    return "".join(parts).encode()


def _operation(path: str, method: str, operation: dict[str, Any]) -> list[str]:
    parts = [
        f"<h2 id='{escape(operation['operationId'])}'>",
        f"<span class=m>{method.upper()}</span> {escape(path)}</h2>",
        f"<p>{escape(operation['summary'])}.</p>",
    ]
    if "description" in operation:
        parts.append(f"<p>{escape(operation['description'])}</p>")
    if "parameters" in operation:
        parts.append("<table><tr><th>parameter<th>in<th>meaning</tr>")
        for one in operation["parameters"]:
            need = " <strong>required</strong>" if one.get("required") else ""
            values = ", ".join(one["schema"].get("enum", ()))
            parts.append(
                f"<tr><td><code>{escape(one['name'])}</code>{need}<td>{one['in']}<td>{escape(one['description'])}"
                + (f" One of {escape(values)}." if values else "")
            )
        parts.append("</table>")
    for status, response in operation["responses"].items():
        if status != "default":
            parts.append(f"<p><code>{status}</code> {escape(response['description'])}</p>")
    return parts


async def serve(_: web.Request) -> web.Response:
    """GET /docs."""
    return web.Response(body=_page(), content_type="text/html", charset="utf-8")
