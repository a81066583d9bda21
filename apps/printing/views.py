"""The print queue, one job, and its files. Addresses hold primary keys only."""

from __future__ import annotations

from typing import cast

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseNotModified
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from apps.accounts.access import requires
from apps.accounts.models import User
from apps.films.queries import printable_series
from apps.films.services import FilmError
from apps.films.views import MAY_MAKE_FILM, render_new, visible_study
from apps.printing.forms import PrintFilmForm
from apps.printing.models import PrintJob, SheetPrint
from apps.printing.queries import jobs_of, lines_of, sheets_of
from apps.printing.services import PrintError, cancel_job, make_film, retry_job
from apps.storage.blobs import DamagedBlobError, MissingBlobError, open_blob

JOBS_A_PAGE = 25
GONE = "This file is no longer stored, or it is damaged. Make the film again from its study."


@requires(*MAY_MAKE_FILM)
@require_POST
def film(request: HttpRequest, study_pk: int) -> HttpResponse:
    """Make the sheets that were chosen and print them; sent twice, it is one job."""
    study = visible_study(request, study_pk)
    form = PrintFilmForm(printable_series(study), request.POST)
    if not form.is_valid():
        return render_new(request, study, form, str(next(iter(form.errors.values()))[0]), status=422)
    values = form.cleaned_data
    try:
        job = make_film(_user(request), study, values["series"], form.layout(), values["printer"], values["key"])
    except (FilmError, PrintError) as error:
        return render_new(request, study, form, str(error), status=422)
    return redirect("printing:job", pk=job.pk)


@requires("printing.view_printjob")
@require_safe
def queue(request: HttpRequest) -> HttpResponse:
    """Jobs, the newest first; `mine` shows only one's own."""
    is_mine_only = request.GET.get("mine") == "1"
    page = Paginator(jobs_of(_user(request), is_mine_only), JOBS_A_PAGE).get_page(request.GET.get("page"))
    lines = lines_of(page)
    is_moving = any(line.progress.is_moving for line in lines)
    context = {"page": page, "lines": lines, "is_moving": is_moving, "is_mine_only": is_mine_only}
    return render(request, "printing/queue.html", context)


@requires("printing.view_printjob")
@require_safe
def job(request: HttpRequest, pk: int) -> HttpResponse:
    """One job: how far each sheet is; asked by htmx, only the part that changes."""
    found = _job(request, pk)
    line = lines_of([found])[0]
    template = "printing/job_body.html" if getattr(request, "htmx", False) else "printing/job.html"
    return render(request, template, {"line": line, "job": found, "sheets": sheets_of(found)})


@requires("printing.change_printjob")
@require_POST
def cancel(request: HttpRequest, pk: int) -> HttpResponse:
    """Take back what has not been printed."""
    found = _job(request, pk)
    if not cancel_job(found):
        messages.info(request, "Every sheet of this job has been printed or is being printed.")
    return redirect("printing:job", pk=found.pk)


@requires("printing.change_printjob")
@require_POST
def retry(request: HttpRequest, pk: int) -> HttpResponse:
    """Try again at once."""
    found = _job(request, pk)
    if not retry_job(found):
        messages.info(request, "No sheet of this job waits for another try.")
    return redirect("printing:job", pk=found.pk)


@requires("printing.view_printjob")
@require_safe
def preview(request: HttpRequest, pk: int) -> HttpResponseBase:
    """One sheet as a small picture: a reduction of the raster that was printed."""
    sheets = SheetPrint.objects.filter(job__in=PrintJob.objects.visible_to(_user(request))).select_related("raster")
    sheet = get_object_or_404(sheets, pk=pk)
    if sheet.raster is None or not sheet.raster.preview:
        raise Http404
    etag = f'"{sheet.raster.preview}"'
    response: HttpResponseBase
    if request.headers.get("If-None-Match") == etag:
        response = HttpResponseNotModified()
    else:
        response = _file(sheet.raster.preview, "image/png")
    response["ETag"] = etag
    return response


@requires("printing.view_printjob")
@require_safe
def download(request: HttpRequest, pk: int) -> HttpResponseBase:
    """The finished file; its name says nothing of a person."""
    found = _job(request, pk)
    if not found.document:
        messages.info(request, "The file is not ready yet.")
        return redirect("printing:job", pk=found.pk)
    try:
        response = FileResponse(open_blob(found.document), content_type="application/pdf")
    except (MissingBlobError, DamagedBlobError):
        messages.error(request, GONE)
        return redirect("printing:job", pk=found.pk)
    response["Content-Disposition"] = f'attachment; filename="film-{found.pk}.pdf"'
    return response


def _file(blob: str, content_type: str) -> FileResponse:
    try:
        return FileResponse(open_blob(blob), content_type=content_type)
    except (MissingBlobError, DamagedBlobError) as error:
        raise Http404 from error


def _job(request: HttpRequest, pk: int) -> PrintJob:
    return get_object_or_404(jobs_of(_user(request), is_mine_only=False), pk=pk)


def _user(request: HttpRequest) -> User:
    return cast(User, request.user)
