"""The worklist's search form, and what is decided about a conflict."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from django import forms
from django.utils.timezone import localdate

from apps.archive.deciding import Choice
from apps.archive.models import Decision
from apps.archive.queries import BY_ARRIVAL, BY_STUDY_DATE, StudyCriteria

ANY_DAY, TODAY, YESTERDAY, WEEK, RANGE = "", "today", "yesterday", "week", "range"


class ModalitiesField(forms.MultipleChoiceField):
    """Any codes: the chips on offer change with what arrives."""

    def valid_value(self, value: Any) -> bool:
        """PS3.5 6.2, CS: at most 16 characters."""
        return len(str(value)) <= 16


class SearchForm(forms.Form):
    """What the worklist shows. Sent by POST only: names have no place in an address."""

    text = forms.CharField(required=False, max_length=100)
    modality = ModalitiesField(required=False)
    day = forms.ChoiceField(
        required=False,
        choices=[(ANY_DAY, "Any day"), (TODAY, "Today"), (YESTERDAY, "Yesterday"), (WEEK, "7 days"), (RANGE, "Range")],
    )
    date_from = forms.DateField(required=False)
    date_to = forms.DateField(required=False)
    source = forms.CharField(required=False, max_length=16)
    receiving = forms.BooleanField(required=False)
    order = forms.ChoiceField(required=False, choices=[(BY_STUDY_DATE, "Study date"), (BY_ARRIVAL, "Received")])

    def clean(self) -> dict[str, Any]:
        """A range that ends before it begins would match nothing."""
        begin, end = self.cleaned_data.get("date_from"), self.cleaned_data.get("date_to")
        if self.cleaned_data.get("day") == RANGE and begin and end and begin > end:
            self.add_error("date_to", "The range ends before it begins.")
        return self.cleaned_data

    def criteria(self) -> StudyCriteria:
        """What the archive is asked; fields that are not valid ask for nothing."""
        self.full_clean()
        data = self.cleaned_data
        begin, end = self._days(data.get("day", ANY_DAY))
        return StudyCriteria(
            text=data.get("text", ""),
            modalities=tuple(data.get("modality", ())),
            date_from=begin,
            date_to=end,
            source=data.get("source", ""),
            is_receiving=data.get("receiving", False),
            order=data.get("order") or BY_STUDY_DATE,
        )

    def _days(self, day: str) -> tuple[date | None, date | None]:
        today = localdate()
        spans: dict[str, tuple[date | None, date | None]] = {
            TODAY: (today, today),
            YESTERDAY: (today - timedelta(days=1), today - timedelta(days=1)),
            WEEK: (today - timedelta(days=6), today),
            RANGE: (self.cleaned_data.get("date_from"), self.cleaned_data.get("date_to")),
        }
        return spans.get(day, (None, None))


class DecisionForm(forms.Form):
    """What a person chose for a conflict. Replacing a stored image has to be confirmed."""

    TARGET, THIS = "target", "this"

    action = forms.ChoiceField(
        choices=Decision.Action.choices,
        error_messages={"required": "Choose one of the answers.", "invalid_choice": "Choose one of the answers."},
    )
    target = forms.IntegerField(required=False, min_value=1)
    stays = forms.ChoiceField(required=False, choices=[(TARGET, "the chosen patient"), (THIS, "the study's patient")])
    reason = forms.CharField(required=False, max_length=500)
    seen = forms.IntegerField(required=False, min_value=1)
    only_this = forms.BooleanField(required=False)
    confirmed = forms.BooleanField(required=False)

    def clean(self) -> dict[str, Any]:
        """A replacement is never an accident."""
        if self.cleaned_data.get("action") == Decision.Action.REPLACE and not self.cleaned_data.get("confirmed"):
            self.add_error(None, "Confirm that the stored image is to be replaced.")
        return self.cleaned_data

    def choice(self) -> Choice:
        """For the archive."""
        data = self.cleaned_data
        return Choice(
            action=Decision.Action(data["action"]),
            target=data["target"],
            target_stays=data["stays"] != self.THIS,
            reason=data["reason"],
            files=data["seen"],
            only_this=data["only_this"],
        )
