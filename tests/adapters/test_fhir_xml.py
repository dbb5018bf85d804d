"""FHIR XML: what is refused, and that what we write reads back as it was."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.adapters import fhir_xml
from gateway.adapters.base import AdapterError

NS = 'xmlns="http://hl7.org/fhir"'
BOMB = (
    '<!DOCTYPE Bundle [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {n} "{f"&{p};" * 10}">' for p, n in zip("abcdefgh", "bcdefghi", strict=True))
    + f"]><Bundle {NS}><id value='&i;'/></Bundle>"
)


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        (BOMB.encode(), "no document type declaration"),
        (
            f'<!DOCTYPE Bundle SYSTEM "file:///etc/passwd"><Bundle {NS}/>'.encode(),
            "no document type declaration",
        ),
        (
            f'<!DOCTYPE B [<!ENTITY x SYSTEM "file:///etc/passwd">]><Bundle {NS}>&x;</Bundle>'.encode(),
            "no document type declaration",
        ),
        (
            f'<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE Bundle><Bundle {NS}/>'.encode(),
            "no document type declaration",
        ),
        (f"<Bundle {NS}>&unknown;</Bundle>".encode(), "well-formed XML"),
        (f'<?xml version="1.0" encoding="utf-16"?><Bundle {NS}/>'.encode("utf-16"), "UTF-8 encoding"),
        (f'<?xml version="1.0" encoding="ISO-8859-1"?><Bundle {NS}/>'.encode(), "UTF-8 encoding"),
        (f"<?xml version='1.0'\n encoding = 'windows-1252'?><Bundle {NS}/>".encode(), "UTF-8 encoding"),
        (f"<Bundle {NS}><id value='\xe9'/></Bundle>".encode("latin-1"), "UTF-8 encoding"),
        (f"<Bundle {NS}><id value='\x00'/></Bundle>".encode(), "well-formed XML"),
        (f"<Bundle {NS}><id value='a' value='b'/></Bundle>".encode(), "well-formed XML"),
        (f"<Bundle {NS}>".encode(), "well-formed XML"),
        (b"", "well-formed XML"),
        (b'{"resourceType": "Bundle"}', "well-formed XML"),
        (b"<Bundle/>", "a root element in the namespace http://hl7.org/fhir"),
        (b"<Bundle xmlns='urn:other'/>", "a root element in the namespace http://hl7.org/fhir"),
        (f"<Bundle {NS}>{'<a>' * 100}{'</a>' * 100}</Bundle>".encode(), "elements nested at most 64 deep"),
        (f"<Bundle {NS}>{'<a>' * 100_000}".encode(), "well-formed XML"),
    ],
)
def test_refused_as_malformed(body: bytes, rule: str) -> None:
    with pytest.raises(AdapterError) as refused:
        fhir_xml.read(body)
    assert refused.value.malformed
    assert [problem.rule for problem in refused.value.problems] == [rule]


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text(alphabet="<>/&;=\"' ab!?xml[]-", max_size=200).map(str.encode))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        fhir_xml.read(body)
    except AdapterError as refused:
        assert refused.malformed


def test_reads_lists_attributes_resources_and_leaves_out_what_is_not_fhir() -> None:
    body = f"""<?xml version="1.0" encoding="UTF-8"?>
    <Bundle {NS} xmlns:o="urn:other"><!-- remark --><?pi?>stray text<o:extra value="1"/>
      <entry><resource><Patient><id value="p">stray</id>
        <text><div xmlns="http://www.w3.org/1999/xhtml"><p>Hi</p></div></text>
        <name id="n1"><given value="A"/><given value="B"/></name>
        <extension url="urn:x"><valueBoolean value="true"/></extension>
      </Patient></resource></entry>
      <entry><resource/></entry>
    </Bundle>"""
    assert fhir_xml.read(body.encode()) == {
        "resourceType": "Bundle",
        "entry": [
            {
                "resource": {
                    "resourceType": "Patient",
                    "id": "p",
                    "text": {},
                    "name": {"id": "n1", "given": ["A", "B"]},
                    "extension": {"url": "urn:x", "valueBoolean": "true"},
                }
            },
            {"resource": {}},
        ],
    }


def test_a_byte_order_mark_is_allowed() -> None:
    assert fhir_xml.read(b"\xef\xbb\xbf" + f"<Bundle {NS}/>".encode()) == {"resourceType": "Bundle"}


names = st.sampled_from(["code", "name", "entry", "value", "family"])
# What XML 1.0 can carry.
words = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), min_size=1)
values = st.recursive(
    words,
    lambda inner: st.dictionaries(
        names, inner | st.lists(inner, min_size=2, max_size=3), min_size=1, max_size=3
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(names, values, max_size=4))
def test_what_is_written_reads_back(content: dict[str, Any]) -> None:
    resource = {"resourceType": "Bundle"} | content
    assert fhir_xml.read(fhir_xml.write(resource)) == resource


def test_writes_extensions_resources_and_literals() -> None:
    resource = {
        "resourceType": "Bundle",
        "entry": [
            {
                "resource": {
                    "resourceType": "Patient",
                    "active": True,
                    "n": 3,
                    "extension": [{"url": "urn:x", "valueCode": "c"}],
                }
            }
        ],
    }
    written = fhir_xml.write(resource).decode()
    assert '<extension url="urn:x">' in written
    assert '<active value="true"/>' in written
    assert '<n value="3"/>' in written
    assert "<Patient>" in written
