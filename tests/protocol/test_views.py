from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from gateway import schemas
from gateway.protocol import views
from gateway.schemas import files
from tests.schemas.generated import EXAMPLES

REFERRALS = [document for name, document in EXAMPLES.items() if name.startswith("referral/")]
GROUPS = st.sets(st.sampled_from(sorted(views.GROUPS)))


def test_every_field_of_a_referral_is_in_exactly_one_group() -> None:
    schema = files.schema("referral", 1)
    named = sorted(path for fields in views.GROUPS.values() for path in fields)
    split = {path.partition(".")[0] for path in named if "." in path}
    fields = [name for name in schema["properties"] if name not in split]
    for name in split:
        fields += [f"{name}.{inner}" for inner in schema["$defs"][name]["properties"]]
    assert named == sorted(fields)


@given(st.sampled_from(REFERRALS), GROUPS)
def test_a_view_is_valid_and_shows_its_groups_as_they_were_and_nothing_else(
    document: dict[str, object], groups: set[str]
) -> None:
    shown = views.reduced(document, groups)
    assert schemas.validate("referral", 1, shown) == []
    for group, fields in views.GROUPS.items():
        for path in fields:
            if group in {views.CORE, *groups}:
                assert _at(shown, path) == _at(document, path)
            elif path == "concern.narrative":
                assert _at(shown, path) in {None, views.NOT_SHARED}
            else:
                assert _at(shown, path) is None


def test_every_group_shows_everything() -> None:
    for document in REFERRALS:
        assert views.reduced(document, set(views.GROUPS)) == document
    assert views.left_out(set(views.GROUPS)) == ()


def test_the_page_lists_the_groups() -> None:
    page = (Path(__file__).parents[2] / "docs" / "views.md").read_text("utf-8")
    for group, fields in views.GROUPS.items():
        assert f"| `{group}` | {', '.join(f'`{path}`' for path in fields)} |" in page


def _at(document: object, path: str) -> object:
    for step in path.split("."):
        document = document.get(step) if isinstance(document, dict) else None
    return document
