"""Choosing what goes on film. Printing it is the printing app's part."""

from __future__ import annotations

from typing import cast

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from apps.accounts.access import requires
from apps.accounts.models import User
from apps.archive.models import Study
from apps.films.forms import FilmForm
from apps.films.queries import PRESETS, plan_film, printable_series
from apps.films.services import MAX_SHEETS

MAY_MAKE_FILM = ("films.add_filmsheet", "archive.view_study", "printing.add_printjob")


@requires(*MAY_MAKE_FILM)
@require_safe
def new(request: HttpRequest, study_pk: int) -> HttpResponse:
    """The page; `series` is the primary key of a series to begin with."""
    study = visible_study(request, study_pk)
    form = FilmForm.begin(printable_series(study), request.GET.get("series"))
    return render_new(request, study, form)


@requires(*MAY_MAKE_FILM)
@require_safe
def plan(request: HttpRequest, study_pk: int) -> HttpResponse:
    """The drawing and the number of sheets for what is chosen now, as a piece of the page."""
    study = visible_study(request, study_pk)
    form = FilmForm(printable_series(study), request.GET)
    return render(request, "films/plan.html", {"study": study, **_plan(form)})


def render_new(request: HttpRequest, study: Study, form: FilmForm, error: str = "", status: int = 200) -> HttpResponse:
    """The whole page with this form."""
    context = {"study": study, "form": form, "presets": PRESETS, "error": error, **_plan(form)}
    return render(request, "films/new.html", context, status=status)


def visible_study(request: HttpRequest, study_pk: int) -> Study:
    """The study, or 404 where this user may not see it."""
    visible = Study.objects.visible_to(cast(User, request.user)).select_related("patient")
    return get_object_or_404(visible, pk=study_pk)


def _plan(form: FilmForm) -> dict[str, object]:
    """The plan, or why there is none."""
    chosen = set(form.chosen())
    series = [choice.series for choice in form.choices if str(choice.series.pk) in chosen]
    if not form.choices:
        return {"plan_error": "This study has no images."}
    if form.is_bound and not form.is_valid():
        return {"plan_error": next(iter(form.errors.values()))[0]}
    layout = form.layout() if form.is_bound else form.first_layout()
    if layout is None or not series:
        return {"plan_error": "Choose at least one series."}
    try:
        drawn = plan_film(series, layout)
    except ValueError:
        return {"plan_error": f"{layout.columns} × {layout.rows} images are too many for this film."}
    if drawn.sheet_count > MAX_SHEETS:
        return {"plan_error": f"This would be {drawn.sheet_count} sheets. At most {MAX_SHEETS} can be made at once."}
    return {"plan": drawn, "layout": layout}
