"""Which adapter a body goes to, and how other packages' adapters are found."""

from __future__ import annotations

import re
import sys
from importlib import metadata
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest

from gateway import adapters, schemas
from gateway.adapters import Registry
from gateway.adapters.base import Adapter, AdapterError, Native
from gateway.adapters.json_native import ADAPTER as JSON
from gateway.errors import RefusedByUs
from gateway.messages import Canonical, Header

GUIDE = (Path(__file__).parents[2] / "docs" / "adapters.md").read_text("utf-8")


class Fake:
    """An adapter of somebody else's."""

    def __init__(self, name: str, *media_types: str) -> None:
        self.name = name
        self.media_types = media_types

    def to_canonical(self, native: Native) -> Canonical:
        return Canonical("referral", 1, {"by": self.name})

    def from_canonical(self, header: Header, message: Canonical, media_type: str) -> Native:
        return Native(media_type, self.name.encode())


FORMS = Fake("forms", "application/vnd.example.form+json", "text/csv")
OTHER_JSON = Fake("other-json", "application/json")


def refusal(registry: Registry, media_type: str, name: str | None = None) -> RefusedByUs:
    with pytest.raises(RefusedByUs) as caught:
        registry.choose(media_type, name)
    return caught.value


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "Application/JSON",
        " application/json ; charset=utf-8",
        'application/json;charset="UTF-8"',
        "application/json; profile=x",
    ],
)
def test_media_types_compare_without_case_and_parameters(media_type: str):
    assert Registry([JSON, FORMS]).choose(media_type, None) is JSON


@pytest.mark.parametrize("charset", ["utf-16", "iso-8859-1", "latin1", ""])
def test_another_charset_is_refused(charset: str):
    error = refusal(Registry([JSON]), f"application/json; charset={charset}")
    assert error.code == "malformed-body"


def test_a_format_nobody_reads():
    error = refusal(Registry([JSON, FORMS]), "application/x-zebedee")
    assert error.code == "unsupported-format"
    assert "zebedee" not in repr(error.problems)
    assert "text/csv" in error.problems[0].rule


@pytest.mark.parametrize("media_type", ["", ";", "json", "*/*", "application/*"])
def test_no_media_type_is_guessed(media_type: str):
    assert refusal(Registry([JSON]), media_type).code == "unsupported-format"


def test_a_named_adapter_reads_the_plain_type_its_own_builds_on():
    registry = Registry([JSON, FORMS])
    assert registry.choose("application/json", "forms") is FORMS
    assert registry.choose("application/json", None) is JSON
    assert refusal(registry, "application/xml", "forms").code == "unsupported-format"
    assert refusal(registry, "text/csv", "json").code == "unsupported-format"


def test_where_several_read_a_format_one_must_be_named():
    registry = Registry([JSON, OTHER_JSON])
    error = refusal(registry, "application/json")
    assert error.code == "ambiguous-format"
    assert error.problems[0].rule == "one of: json, other-json"
    assert registry.choose("application/json", "json") is JSON
    assert registry.choose("application/json", "other-json") is OTHER_JSON


def test_a_name_nobody_has():
    error = refusal(Registry([JSON]), "application/json", "zebedee")
    assert error.code == "unsupported-format"
    assert "zebedee" not in repr(error.problems)


def test_a_named_adapter_must_read_the_format():
    assert refusal(Registry([JSON, FORMS]), "text/csv", "json").code == "unsupported-format"


def test_writers_and_names():
    registry = Registry([JSON, FORMS, OTHER_JSON])
    assert registry.writers("Application/JSON; q=0.5") == [JSON, OTHER_JSON]
    assert registry.writers("text/plain") == []
    assert registry.by_name("forms") is FORMS
    assert registry.media_types() == ("application/json", "application/vnd.example.form+json", "text/csv")


def test_the_adapters_that_come_with_the_node():
    registry = Registry.load()
    assert registry.broken == ()
    assert registry.choose("application/json", None) is JSON
    assert registry.choose("application/fhir+json; charset=utf-8", None).name == "fhir-bars"
    assert registry.choose("application/fhir+xml", None).name == "fhir-bars"
    for media_type in registry.media_types():
        assert all(isinstance(adapter, Adapter) for adapter in registry.writers(media_type))


# What another package's entry points may lead to.
GOOD = FORMS
NO_ADAPTER = object()
TAKES_OUR_NAME = Fake("json", "application/x-mine")
UPPER_CASE = Fake("upper", "Text/CSV")
NO_MEDIA_TYPE = Fake("none")


class Exploding(Fake):
    @property
    def name(self) -> str:
        raise RuntimeError("at the worst moment")

    @name.setter
    def name(self, value: str) -> None:
        pass


EXPLODING = Exploding("exploding", "text/x-boom")


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch):
    """Install other packages' entry points beside our own."""
    module = ModuleType("somebody_elses")
    monkeypatch.setitem(sys.modules, "somebody_elses", module)
    real = metadata.entry_points(group=adapters.GROUP)

    def put(**points: object) -> Registry:
        found = list(real)
        for name, value in points.items():
            setattr(module, name, value)
            found.insert(0, EntryPoint(name, f"somebody_elses:{name}", adapters.GROUP))
        found.append(EntryPoint("absent", "no_such_package:ADAPTER", adapters.GROUP))
        monkeypatch.setattr(adapters, "entry_points", lambda group: found)
        return Registry.load()

    return put


def test_another_packages_adapter_is_found(install):
    registry = install(forms=GOOD)
    assert registry.choose("text/csv", None) is GOOD
    assert registry.broken == ("absent",)


@pytest.mark.parametrize("name", ["nothing", "json", "upper", "none", "exploding", "misnamed"])
def test_a_broken_adapter_is_left_out_and_named(install, name: str):
    candidates = {
        "nothing": NO_ADAPTER,
        "json": TAKES_OUR_NAME,
        "upper": UPPER_CASE,
        "none": NO_MEDIA_TYPE,
        "exploding": EXPLODING,
        "misnamed": FORMS,
    }
    registry = install(**{name: candidates[name]})
    assert set(registry.broken) == {name, "absent"}
    assert registry.by_name("json") is JSON
    assert registry.choose("application/json", None) is JSON


def test_the_guides_example_works_as_it_stands():
    (source,) = [block for block in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL) if "class" in block]
    names: dict[str, object] = {}
    exec(re.sub("^   ", "", source, flags=re.MULTILINE), names)
    adapter, media_type = names["ADAPTER"], names["MEDIA_TYPE"]
    assert isinstance(adapter, Adapter)
    assert isinstance(media_type, str)
    body = b'{"pupil": "Callum Ashworth", "concern": "Came to school without a coat again."}'
    message = adapter.to_canonical(Native(media_type, body))
    assert schemas.validate(message.type, message.version, message.document) == []
    for bad in (b"", b"[]", b"{}", b'{"pupil": 1}'):
        with pytest.raises(AdapterError):
            adapter.to_canonical(Native(media_type, bad))


def test_the_guide_lists_every_adapter():
    for point in metadata.entry_points(group=adapters.GROUP):
        assert f"| `{point.name}` |" in GUIDE
