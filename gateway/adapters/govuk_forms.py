"""GOV.UK Forms: the JSON of a submission, version 1 (schema `json-submissions/v1` of alphagov/forms-runner).

What may live here: the platform's envelope. What the questions mean is in form maps (forms.py).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from gateway.adapters import forms, strict_json, table
from gateway.adapters.base import AdapterError, Native
from gateway.adapters.forms import Answer, FormMap
from gateway.adapters.mapping import Page, Row
from gateway.adapters.table import MOMENT
from gateway.messages import Canonical, Header, Problem

MEDIA_TYPE: Final = "application/vnd.referral-gateway.govuk-forms+json"
_FIXED: Final = ("question_id", "question_text", "answer_text", "selections", "can_have_multiple_answers")


class GovukForms:
    """The `govuk-forms` adapter; with maps of your own, an adapter for your own forms."""

    def __init__(self, name: str = "govuk-forms", maps: Sequence[FormMap] = ()) -> None:
        self.name = name
        self.media_types = (MEDIA_TYPE if name == "govuk-forms" else f"application/vnd.{name}+json",)
        self._maps = (*maps, *forms.shipped())
        self.page = Page(
            "GOV.UK Forms",
            "The JSON that GOV.UK Forms sends for a submission, version 1. Chosen by its form's name, a form map "
            "says what each question means; answers without a row go into the note, forms without a map into the "
            "narrative. Written: the same JSON, by the map for the purpose, and a decision as the form "
            f"`{forms.DECISION_FORM}`. Names and addresses with several answers are read as one text.",
            [
                (
                    "The submission itself",
                    [
                        Row("submission_reference", "reference", "where no question gives one"),
                        Row("submitted_at", "writtenAt", "only with its offset"),
                        Row("form_name", "", "chooses the map"),
                        Row("answers[].question_text", "note", "before the answer, where no row takes it"),
                        Row("answers[].selections", "", "answer_text says the same"),
                        Row(
                            "answers[].can_have_multiple_answers",
                            "",
                            "several answers are put below each other",
                        ),
                    ],
                ),
                *forms.page_tables(self._maps),
            ],
            table.REFERRAL_DEFAULTS,
        )

    def to_canonical(self, native: Native) -> Canonical:
        """See Adapter."""
        document = strict_json.loads(native.body)
        if not isinstance(document, dict) or not isinstance(document.get("answers"), list):
            raise AdapterError([Problem("/answers", "a list of answers")])
        answers = [_answer(one, number) for number, one in enumerate(document["answers"])]
        extra = {
            "reference": table.TEXT.read(document.get("submission_reference")),
            "writtenAt": MOMENT.read(document.get("submitted_at")),
        }
        return forms.read(forms.text_of(document.get("form_name")), answers, self._maps, extra)

    def from_canonical(self, header: Header, message: Canonical, media_type: str) -> Native:
        """See Adapter."""
        title, answers = forms.write(header, message, self._maps)
        document = {
            "form_name": title,
            "submission_reference": message.document.get("reference") or header.message_id,
            "submitted_at": table.moment_of(header.created),
            "answers": [
                {
                    "question_id": one.question,
                    "question_text": one.label,
                    "answer_text": one.text,
                    **one.parts,
                }
                for one in answers
            ],
        }
        return Native(media_type, json.dumps(document, ensure_ascii=False, indent=1).encode())


def _answer(one: Any, number: int) -> Answer:
    if not isinstance(one, dict) or not isinstance(one.get("question_id"), str | int):
        raise AdapterError([Problem(f"/answers/{number}/question_id", "required")])
    parts = {name: forms.text_of(value) for name, value in one.items() if name not in _FIXED}
    label = forms.text_of(one.get("question_text")) or str(one["question_id"])
    text = forms.text_of(one.get("answer_text")) or forms.text_of(one.get("selections"))
    return Answer(str(one["question_id"]), label, text, parts)


ADAPTER: Final = GovukForms()
