"""The workflow filter of an inbox: `W`, `!W`, `W*`, `!W*`, `*W*`, `!*W*`."""

from __future__ import annotations

from collections.abc import Callable

from gateway.http.mesh_errors import MeshRefusal

MAX = 255
"""Characters of a filter."""


def workflow_filter(text: str) -> Callable[[str], bool]:
    """What a filter means; an empty one lets everything pass. Raises MeshRefusal.

    MESH API, Check an inbox: a leading `!` turns the rest round, which is a workflow identifier, its
    beginning with `*` after it, or a part of it between two `*`.
    """
    if len(text) > MAX:
        raise MeshRefusal("parameter")
    negated, rest = text.startswith("!"), text.removeprefix("!")
    if rest.startswith("*"):
        part = rest.strip("*")
        matches: Callable[[str], bool] = lambda workflow: part in workflow  # noqa: E731 - one of three
    elif rest.endswith("*"):
        matches = lambda workflow: workflow.startswith(rest[:-1])  # noqa: E731
    else:
        matches = lambda workflow: workflow == rest  # noqa: E731
    if not text:
        return lambda _: True
    return lambda workflow: matches(workflow) is not negated
