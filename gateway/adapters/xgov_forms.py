"""The xGov form runner's webhook (XGovFormsCommunity/digital-form-builder): questions with fields.

What may live here: the platform's envelope. What the fields mean is in form maps (forms.py), by their keys.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from gateway.adapters import forms, strict_json, table
from gateway.adapters.base import AdapterError, Native
from gateway.adapters.forms import Answer, FormMap
from gateway.adapters.mapping import Page, Row
from gateway.messages import Canonical, Header, Problem

MEDIA_TYPE: Final = "application/vnd.referral-gateway.xgov-forms+json"


class XgovForms:
    """The `xgov-forms` adapter; with maps of your own, an adapter for your own forms."""

    def __init__(self, name: str = "xgov-forms", maps: Sequence[FormMap] = ()) -> None:
        self.name = name
        self.media_types = (MEDIA_TYPE if name == "xgov-forms" else f"application/vnd.{name}+json",)
        self._maps = (*maps, *forms.shipped())
        self.page = Page(
            "xGov (DEFRA) form runner",
            "The JSON that the runner's webhook posts: `name`, `questions`, `metadata`. Chosen by the form's name, a "
            "form map says what each field means, by its key; a part of a question is the key `question.part`. "
            "What no row takes goes into the note, forms without a map into the narrative. The runner wants "
            '`{"reference": …}` as its answer: whoever posts for it takes `message_id` of the node\'s answer.',
            [
                (
                    "The submission itself",
                    [
                        Row("name", "", "chooses the map"),
                        Row(
                            "metadata.paymentSkipped, fees, preferredLanguage",
                            "",
                            "about the form, not the person",
                        ),
                        Row("questions[].fields[].title", "note", "before the answer, where no row takes it"),
                        Row("questions[].category", "", "about the form"),
                    ],
                ),
                *forms.page_tables(self._maps),
            ],
            table.REFERRAL_DEFAULTS,
        )

    def to_canonical(self, native: Native) -> Canonical:
        """See Adapter."""
        document = strict_json.loads(native.body)
        if not isinstance(document, dict) or not isinstance(document.get("questions"), list):
            raise AdapterError([Problem("/questions", "a list of questions: the webhook's JSON")])
        answers: dict[str, Answer] = {}
        for i, question in enumerate(document["questions"]):
            fields = question.get("fields") if isinstance(question, dict) else None
            if not isinstance(fields, list):
                raise AdapterError([Problem(f"/questions/{i}/fields", "a list of fields")])
            for j, one in enumerate(fields):
                _add(answers, one, f"/questions/{i}/fields/{j}", forms.text_of(question.get("question")))
        return forms.read(forms.text_of(document.get("name")), list(answers.values()), self._maps, {})

    def from_canonical(self, header: Header, message: Canonical, media_type: str) -> Native:
        """See Adapter."""
        title, answers = forms.write(header, message, self._maps)
        document = {
            "name": title,
            "preferredLanguage": "en",
            "questions": [{"question": one.label, "fields": _fields(one)} for one in answers],
            "metadata": {"message_id": header.message_id},
        }
        return Native(media_type, json.dumps(document, ensure_ascii=False, indent=1).encode())


def _add(answers: dict[str, Answer], one: Any, pointer: str, asked: str) -> None:
    if not isinstance(one, dict) or not isinstance(one.get("key"), str):
        raise AdapterError([Problem(f"{pointer}/key", "required")])
    question, dot, part = one["key"].partition(".")
    text = forms.text_of(one.get("answer"))
    label = forms.text_of(one.get("title")) or asked or question
    before = answers.get(question)
    if dot and part:
        parts = dict(before.parts) if before else {}
        joined = " ".join(filter(None, (before.text if before else "", text)))
        answers[question] = Answer(question, asked or label, joined, parts | {part: text})
    else:
        answers[question] = Answer(question, label, text)


def _fields(one: Answer) -> list[dict[str, Any]]:
    pairs = one.parts.items() if one.parts else [("", one.text)]
    return [
        {
            "key": f"{one.question}.{part}" if part else one.question,
            "title": one.label,
            "type": "text",
            "answer": text,
        }
        for part, text in pairs
    ]


ADAPTER: Final = XgovForms()
