"""The pages of the daily work: worklist, study, its images, help."""

from __future__ import annotations

from hashlib import sha256
from typing import cast

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotModified, QueryDict
from django.shortcuts import redirect, render
from django.templatetags.static import static
from django.views.decorators.http import require_GET, require_POST

from apps.accounts.access import requires, signed_in
from apps.accounts.models import User
from apps.archive.models import Instance, Series, Study
from apps.archive.queries import (
    StudyPage,
    coercion_rules,
    count_newer,
    find_instance,
    find_series,
    find_studies,
    find_study,
    list_instances,
    list_series,
    newest_key,
    prior_studies,
    recent_choices,
)
from apps.portal.forms import SearchForm
from apps.portal.thumbnails import LARGE_PX, SIZES_PX, THUMBNAIL_PX, thumbnail_key, thumbnail_png

SESSION_KEY = "worklist"
COMMON_MODALITIES = ("CT", "MR", "CR", "DX", "MG", "US", "XA")
RARER_MODALITIES = 4
GRID_SIZE = 60
PICTURE_MAX_AGE_S = 600


def _user(request: HttpRequest) -> User:
    return cast(User, request.user)


# --- Worklist: what is searched for travels in POST bodies and the session, never in an address


@require_GET
@signed_in
def worklist(request: HttpRequest) -> HttpResponse:
    """The start page: the studies, as they were last searched for."""
    user = _user(request)
    if not user.has_perm("archive.view_study"):
        return render(request, "portal/start.html")
    form = SearchForm(QueryDict(request.session.get(SESSION_KEY, "")))
    choices = recent_choices(user)
    offered = [*COMMON_MODALITIES, *(m for m in choices.modalities if m not in COMMON_MODALITIES)]
    context = {
        "modalities": offered,
        "sources": choices.sources,
        "has_scope": user.has_perm("archive.view_every_study"),
    }
    return render(request, "portal/worklist.html", context | _results(request, form))


@require_POST
@requires("archive.view_study")
def search(request: HttpRequest) -> HttpResponse:
    """The first page of what the form asks for; the session keeps it for the way back."""
    form = SearchForm(request.POST)
    sent = request.POST.copy()
    sent.pop("csrfmiddlewaretoken", None)
    request.session[SESSION_KEY] = sent.urlencode() if form.is_valid() else ""
    if not request.htmx:  # type: ignore[attr-defined]
        return redirect("portal:worklist")
    return render(request, "portal/worklist_results.html", _results(request, form))


@require_POST
@requires("archive.view_study")
def more(request: HttpRequest) -> HttpResponse:
    """The rows behind the study with the key `after`."""
    page = find_studies(_user(request), SearchForm(request.POST).criteria(), _number(request, "after"))
    return render(request, "portal/worklist_rows.html", {"page": page})


@require_POST
@requires("archive.view_study")
def poll(request: HttpRequest) -> HttpResponse:
    """204 while the first page is what the browser shows; else a hint, or (`quiet`) the new page itself."""
    form = SearchForm(request.POST)
    results = _results(request, form)
    if results["state"] == request.POST.get("state"):
        return HttpResponse(status=204)
    if request.POST.get("quiet"):
        return render(request, "portal/worklist_results.html", results)
    count = count_newer(_user(request), form.criteria(), _number(request, "newest"))
    return render(request, "portal/worklist_hint.html", {"count": count}) if count else HttpResponse(status=204)


def _results(request: HttpRequest, form: SearchForm) -> dict[str, object]:
    criteria = form.criteria()
    page = find_studies(_user(request), criteria)
    return {"form": form, "criteria": criteria, "page": page, "state": _state(page), "newest": newest_key()}


def _state(page: StudyPage) -> str:
    """Changes whenever the page would look different; the same in every process."""
    shown = [
        (row.study.pk, row.study.updated_at.isoformat(), row.study.instance_count, row.study.status)
        for row in page.rows
    ]
    return sha256(repr(shown).encode()).hexdigest()[:16]


def _number(request: HttpRequest, name: str) -> int:
    try:
        return int(request.POST.get(name, ""))
    except ValueError:
        return 0


# --- One study


@require_GET
@requires("archive.view_study")
def study(request: HttpRequest, study_uid: str) -> HttpResponse:
    """One study: patient, series with their covers, prior studies."""
    try:
        found = find_study(_user(request), study_uid)
    except Study.DoesNotExist as error:
        raise Http404 from error
    context = {
        "study": found,
        "shown": found.instance_count,
        "coercion": coercion_rules(found),
        "cards": list_series(found),
        "priors": prior_studies(_user(request), found),
        "size_px": THUMBNAIL_PX,
    }
    return render(request, "portal/study.html", context)


@require_GET
@requires("archive.view_study")
def arrival(request: HttpRequest, study_uid: str) -> HttpResponse:
    """How much of the study is here and whether more comes, as pieces of a page that showed `shown` objects."""
    try:
        found = find_study(_user(request), study_uid)
    except Study.DoesNotExist as error:
        raise Http404 from error
    shown = _position(request, "shown", found.instance_count)
    context = {"study": found, "shown": shown, "new_count": max(0, found.instance_count - shown)}
    return render(request, "portal/study_arrival.html", context)


@require_GET
@requires("archive.view_study")
def series(request: HttpRequest, series_uid: str) -> HttpResponse:
    """The images of one series as a piece of the study page, from position `start`."""
    try:
        found = find_series(_user(request), series_uid)
    except Series.DoesNotExist as error:
        raise Http404 from error
    start = _position(request, "start", 0)
    instances = list_instances(found, start, GRID_SIZE + 1)
    context = {
        "series": found,
        "instances": instances[:GRID_SIZE],
        "next_start": start + GRID_SIZE if len(instances) > GRID_SIZE else None,
        "size_px": THUMBNAIL_PX,
        "large_px": LARGE_PX,
    }
    return render(request, "portal/series.html", context)


@require_GET
@requires("archive.view_study")
def details(request: HttpRequest, sop_uid: str) -> HttpResponse:
    """What is known of one stored object, as a piece of the large view."""
    return render(request, "portal/details.html", {"instance": _instance(request, sop_uid)})


@require_GET
@requires("archive.view_study")
def thumbnail(request: HttpRequest, sop_uid: str, size_px: int) -> HttpResponse:
    """A picture of one frame (`frame`, from 1); a placeholder where it cannot be shown."""
    instance = _instance(request, sop_uid)
    frame = _position(request, "frame", 1)
    if size_px not in SIZES_PX or not 1 <= frame <= instance.number_of_frames or not instance.has_pixels:
        raise Http404
    etag = f'"{thumbnail_key(instance, frame, size_px)}"'
    if request.headers.get("If-None-Match") == etag:
        return _cached(HttpResponseNotModified(), etag)
    png = thumbnail_png(instance, frame, size_px)
    if png is None:
        return redirect(static("portal/undecodable.svg"))
    return _cached(HttpResponse(png, content_type="image/png"), etag)


def _instance(request: HttpRequest, sop_uid: str) -> Instance:
    try:
        return find_instance(_user(request), sop_uid)
    except Instance.DoesNotExist as error:
        raise Http404 from error


def _cached(response: HttpResponse, etag: str) -> HttpResponse:
    response["ETag"] = etag
    response["Cache-Control"] = f"private, max-age={PICTURE_MAX_AGE_S}"
    return response


def _position(request: HttpRequest, name: str, default: int) -> int:
    try:
        return max(0, int(request.GET.get(name, default)))
    except ValueError:
        return default


@require_GET
@signed_in
def help_page(request: HttpRequest) -> HttpResponse:
    """How images get here, how to search, which keys there are."""
    return render(request, "portal/help.html")
