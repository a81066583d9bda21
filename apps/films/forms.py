"""The choices of the "make film" page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast
from uuid import uuid4

from django import forms

from apps.films.models import FilmTemplate
from apps.films.queries import SeriesChoice, first_grid
from apps.films.services import Layout

MAX_GRID, MAX_EVERY = 12, 100


def _number(label: str, most: int) -> forms.IntegerField:
    widget = forms.NumberInput(attrs={"class": "form-control", "min": 1, "max": most})
    said = dict.fromkeys(
        ("required", "invalid", "min_value", "max_value"), f"{label}: choose a number from 1 to {most}."
    )
    return forms.IntegerField(label=label, min_value=1, max_value=most, widget=widget, error_messages=said)


class FilmForm(forms.Form):
    """Which series, on which film, in which grid."""

    series = forms.TypedMultipleChoiceField(
        coerce=int,
        error_messages={
            "required": "Choose at least one series.",
            "invalid_choice": "A film shows one study of one patient; a chosen series is not part of it.",
        },
    )
    template = forms.ModelChoiceField(
        label="Film",
        queryset=FilmTemplate.objects.filter(is_active=True),
        empty_label=None,
        widget=forms.Select(attrs={"class": "form-select"}),
        error_messages={
            "required": "Choose a film. An administrator can add templates.",
            "invalid_choice": "This film is no longer offered. Choose another one.",
        },
    )
    columns = _number("Columns", MAX_GRID)
    rows = _number("Rows", MAX_GRID)
    every = _number("Every n-th image", MAX_EVERY)
    key = forms.UUIDField(widget=forms.HiddenInput)

    def __init__(self, choices: Sequence[SeriesChoice], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.choices = choices
        offered = cast(forms.TypedMultipleChoiceField, self.fields["series"])
        offered.choices = [(choice.series.pk, str(choice.series.pk)) for choice in choices]

    @classmethod
    def begin(cls, choices: Sequence[SeriesChoice], wanted: str | None = None) -> FilmForm:
        """A fresh form: the first template, a grid that suits, and the series `wanted` or the only one."""
        template = FilmTemplate.objects.filter(is_active=True).first()
        columns, rows = first_grid(choices, (template.columns, template.rows) if template else (4, 5))
        pks = [str(choice.series.pk) for choice in choices]
        chosen = [pk for pk in pks if pk == wanted] or (pks if len(pks) == 1 else [])
        initial = {"series": chosen, "template": template, "columns": columns, "rows": rows, "every": 1}
        return cls(choices, initial={**initial, "key": uuid4()})

    def chosen(self) -> list[str]:
        """The primary keys that are ticked."""
        return [str(pk) for pk in self["series"].value() or []]

    def first_layout(self) -> Layout | None:
        """What a fresh form begins with, None without a template."""
        values = self.initial
        return Layout(values["template"], values["columns"], values["rows"]) if values.get("template") else None

    def layout(self) -> Layout:
        """The valid form as a layout."""
        values = self.cleaned_data
        return Layout(values["template"], values["columns"], values["rows"], values["every"])
