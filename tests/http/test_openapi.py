"""What the API says of itself, in /openapi.json, /docs and docs/api.md, is what it does."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway.errors import CODES
from gateway.http import openapi
from gateway.http.app import ROUTES
from gateway.http.problems import TYPE, table
from gateway.http.submissions import _PARAMETERS
from gateway.messages import Reason, Stage
from tests.http.asking import ask
from tests.http.world import World, serving

DOCUMENT = openapi.document()
PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text("utf-8")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serving() as world:
        yield world


def described() -> set[tuple[str, str]]:
    return {(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item}


def test_it_is_a_valid_openapi_document() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_it_lists_exactly_the_routes_there_are() -> None:
    assert described() == {(method, path) for method, path, _ in ROUTES}


def test_every_parameter_of_sending_is_described() -> None:
    parameters = DOCUMENT["paths"]["/v1/messages"]["post"]["parameters"]
    assert {one["name"] for one in parameters if one["in"] == "query"} == _PARAMETERS


def test_every_parameter_in_a_path_is_described() -> None:
    for path, item in DOCUMENT["paths"].items():
        for operation in item.values():
            named = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path))


async def test_both_are_served_without_a_token(world: World) -> None:
    assert (await ask(world, "GET", "/openapi.json", token=None)).json == DOCUMENT
    answer = await ask(world, "GET", "/docs", token=None)
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"


class _Page(HTMLParser):
    """Gathers what a reader sees, and whatever would fetch or run something."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.active: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"script", "link", "img", "iframe", "form"} or any(
            name.startswith("on") for name, _ in attrs
        ):
            self.active.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


async def test_the_page_shows_every_operation_and_every_problem_and_runs_nothing(world: World) -> None:
    page = _Page()
    page.feed((await ask(world, "GET", "/docs", token=None)).body.decode())
    assert not page.active
    for method, path in described():
        assert f"{method} {path}" in page.text
    for code, one in CODES.items():
        assert code in page.text
        assert one.hint in page.text


# docs/api.md


def test_its_list_of_problems_is_current() -> None:
    assert PAGE.partition("`make docs` -->")[2].strip() == table().strip(), "run `make docs`"


def test_it_names_every_route_stage_reason_and_parameter() -> None:
    for method, path, _ in ROUTES:
        assert f"`{method} {path}`" in PAGE
    for word in [*Stage, *Reason, *_PARAMETERS]:
        assert f"`{word}`" in PAGE


def test_the_problem_it_shows_is_one_the_node_gives() -> None:
    shown = re.search(
        rf'"{TYPE}([a-z-]+)",\n  "title": "(.*)",\n  "status": (\d+),\n  "detail": "(.*)"', PAGE
    )
    assert shown
    one = CODES[shown[1]]
    assert (shown[2], int(shown[3]), shown[4]) == (one.title, one.status, one.hint)
