"""The "make film" page's choices with a printer."""

from django import forms

from apps.films.forms import FilmForm
from apps.printing.models import Printer


class PrintFilmForm(FilmForm):
    """Which series, on which film, in which grid, on which printer."""

    printer = forms.ModelChoiceField(
        queryset=Printer.objects.filter(is_active=True),
        error_messages={
            "required": "Choose a printer. An administrator can add one.",
            "invalid_choice": "This printer is not in use. Choose another one.",
        },
    )
