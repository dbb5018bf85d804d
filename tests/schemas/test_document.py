"""docs/messages.md says what the schemas say."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.messages import LawfulBasis, Purpose, Reason
from gateway.schemas import files
from gateway.schemas.document import page
from gateway.schemas.rules import subschemas

COMMITTED = (Path(__file__).parents[2] / "docs" / "messages.md").read_text("utf-8")


def test_the_committed_page_is_current():
    assert page() == COMMITTED, "run: python -m gateway.schemas.document > docs/messages.md"


def test_every_field_and_code_is_on_it():
    schemas = [files.common(), *(files.schema(name, v) for name, vs in files.TYPES.items() for v in vs)]
    for schema in schemas:
        for part in subschemas(schema):
            for name in part.get("properties", ()):
                assert f"| `{name}` |" in COMMITTED
            for code in part.get("enum", ()):
                assert f"`{code}`" in COMMITTED


def test_every_purpose_lawful_basis_and_reason_is_on_it():
    for one in (*Purpose, *LawfulBasis, *Reason):
        assert f"- `{one.value}`" in COMMITTED


def test_links_within_it_lead_somewhere():
    headings = re.findall(r"^#+ (.*)$", COMMITTED, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 _-]", "", one.lower()).replace(" ", "-") for one in headings}
    links = set(re.findall(r"\]\(#([^)]*)\)", COMMITTED))
    assert links
    assert links <= anchors


def test_the_examples_it_links_to_exist():
    links = re.findall(r"\]\((\.\./[^)]*)\)", COMMITTED)
    assert links
    assert all((Path(__file__).parents[2] / "docs" / link).exists() for link in links)
