"""MoJ Forms: the JSON that fb-submitter sends (schema `submission_payload` of ministryofjustice/fb-submitter).

What may live here: the platform's envelope. What the answers mean is in form maps (forms.py).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Final

from gateway.adapters import forms, strict_json, table
from gateway.adapters.base import AdapterError, Native
from gateway.adapters.forms import Answer, FormMap
from gateway.adapters.mapping import Page, Row
from gateway.adapters.table import MOMENT
from gateway.messages import Canonical, Header, Problem

MEDIA_TYPE: Final = "application/vnd.referral-gateway.moj-forms+json"
_PARTS: Final = {
    "address_line_one": "address1",
    "address_line_two": "address2",
    "city": "town_or_city",
    "county": "county",
    "postcode": "postcode",
    "country": "country",
}
"""The parts of its address answers, and how form maps call them."""


class MojForms:
    """The `moj-forms` adapter; with maps of your own, an adapter for your own forms."""

    def __init__(self, name: str = "moj-forms", maps: Sequence[FormMap] = ()) -> None:
        self.name = name
        self.media_types = (MEDIA_TYPE if name == "moj-forms" else f"application/vnd.{name}+json",)
        self._maps = (*maps, *forms.shipped())
        self.page = Page(
            "MoJ Forms",
            "The JSON of a submission: `service`, `meta`, `actions`, `pages`, `attachments`. Chosen by the service's "
            "name, a form map says what each answer means, by its `field_id`; what no row takes goes into the note, "
            "forms without a map into the narrative. What it calls `actions` (where the platform sends copies, with "
            "keys) is not read. Its attachments are links to the platform's own store: their names are kept.",
            [
                (
                    "The submission itself",
                    [
                        Row("service.name", "", "chooses the map; else `meta.pdf_heading`"),
                        Row("service.id, service.slug, actions", "", "about the platform"),
                        Row("meta.submission_at", "writtenAt", "only with its offset"),
                        Row(
                            "pages[].answers[].field_name", "note", "before the answer, where no row takes it"
                        ),
                        Row("attachments[].filename", "note", "the files stay in the platform's store"),
                    ],
                ),
                *forms.page_tables(self._maps),
            ],
            table.REFERRAL_DEFAULTS,
        )

    def to_canonical(self, native: Native) -> Canonical:
        """See Adapter."""
        document = strict_json.loads(native.body)
        if not isinstance(document, dict) or not isinstance(document.get("pages"), list):
            raise AdapterError([Problem("/pages", "a list of pages")])
        service, meta = document.get("service"), document.get("meta")
        titles = (_under(service, "name"), _under(meta, "pdf_heading"))
        known = {title for one in self._maps for title in one.forms}
        form = next((title for title in titles if title.lower() in known), titles[0])
        answers = [*_answers(document["pages"]), *_attachments(document.get("attachments"))]
        extra = {"writtenAt": MOMENT.read(_under(meta, "submission_at"))}
        return forms.read(form, answers, self._maps, extra)

    def from_canonical(self, header: Header, message: Canonical, media_type: str) -> Native:
        """See Adapter."""
        title, answers = forms.write(header, message, self._maps)
        document = {
            "service": {
                "id": str(uuid.uuid5(uuid.NAMESPACE_URL, title)),
                "slug": "-".join(title.lower().split()),
                "name": title,
            },
            "meta": {"pdf_heading": title, "submission_at": table.moment_of(header.created)},
            "actions": [],
            "pages": [
                {
                    "heading": "",
                    "answers": [{"field_id": one.question, "field_name": one.label, "answer": _answer(one)}],
                }
                for one in answers
            ],
        }
        return Native(media_type, json.dumps(document, ensure_ascii=False, indent=1).encode())


def _under(value: Any, name: str) -> str:
    return forms.text_of(value.get(name)) if isinstance(value, dict) else ""


def _answers(pages: Sequence[Any]) -> Iterator[Answer]:
    for i, page in enumerate(pages):
        found = page.get("answers") if isinstance(page, dict) else None
        if not isinstance(found, list):
            raise AdapterError([Problem(f"/pages/{i}/answers", "a list of answers")])
        for j, one in enumerate(found):
            if not isinstance(one, dict) or not isinstance(one.get("field_id"), str):
                raise AdapterError([Problem(f"/pages/{i}/answers/{j}/field_id", "required")])
            value = one.get("answer")
            parts: dict[str, str] = {}
            if isinstance(value, dict):
                parts = {
                    _PARTS.get(str(name), str(name)): forms.text_of(part) for name, part in value.items()
                }
                value = "\n".join(filter(None, parts.values()))
            label = forms.text_of(one.get("field_name")) or one["field_id"]
            yield Answer(one["field_id"], label, forms.text_of(value), parts)


def _attachments(found: Any) -> Iterator[Answer]:
    for one in found if isinstance(found, list) else ():
        if name := _under(one, "filename"):
            yield Answer("", "File left with the form", name)


def _answer(one: Answer) -> str | dict[str, str]:
    back = {ours: theirs for theirs, ours in _PARTS.items()}
    if one.parts.keys() <= back.keys() and one.parts:
        return {back[name]: text for name, text in one.parts.items()}
    return one.text


ADAPTER: Final = MojForms()
