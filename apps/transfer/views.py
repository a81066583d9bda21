"""Searching a PACS and fetching from it. What describes a person travels in bodies only, never in an address."""

from typing import cast

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from apps.accounts.access import requires
from apps.accounts.models import User
from apps.core.errors import DicomsysError
from apps.nodes.models import RemoteNode
from apps.transfer.errors import RetrieveRefusedError
from apps.transfer.find import find_studies
from apps.transfer.forms import MODALITIES, QueryForm, RetrieveForm
from apps.transfer.models import RetrieveJob
from apps.transfer.queries import lines_of_found, lines_of_jobs
from apps.transfer.services import cancel_retrieve, request_retrieve, retry_retrieve

JOBS_A_PAGE = 50
NOT_FETCHABLE = (
    "This study cannot be retrieved from there. Search again; an administrator can see what that system may."
)


@requires("transfer.query_node")
@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_post_parameters()
def query(request: HttpRequest) -> HttpResponse:
    """The search form; posted, it asks the chosen node and shows what it has."""
    return (
        _search(request, QueryForm(request.POST)) if request.method == "POST" else _render_query(request, QueryForm())
    )


def _search(request: HttpRequest, form: QueryForm) -> HttpResponse:
    if not form.is_valid():
        return _render_query(request, form, status=422)
    criteria = dict(form.cleaned_data)
    node = criteria.pop("node")
    try:
        found = find_studies(node, **criteria)
    except DicomsysError as error:
        return _render_query(request, form, error=str(error))
    return _render_query(
        request, form, found=found, node=node, lines=lines_of_found(_user(request), node, found.studies)
    )


@requires("transfer.add_retrievejob")
@require_POST
def retrieve(request: HttpRequest) -> HttpResponse:
    """Ask for one study; the answer is its line."""
    form = RetrieveForm(request.POST)
    if not form.is_valid():
        return _refuse(request, NOT_FETCHABLE)
    node, study_instance_uid = form.cleaned_data["node"], form.cleaned_data["study_instance_uid"]
    try:
        job = request_retrieve(_user(request), node, study_instance_uid, form.cleaned_data["image_count"])
    except RetrieveRefusedError as error:
        return _refuse(request, str(error))
    return _line_or_jobs(request, job.pk)


@requires("transfer.view_retrievejob")
@require_safe
def line(request: HttpRequest, job_id: int) -> HttpResponse:
    """How far one study is, for a page that looks every 2 s."""
    return _render_line(request, job_id)


@requires("transfer.view_retrievejob")
@require_safe
def jobs(request: HttpRequest) -> HttpResponse:
    """All fetches, the newest first."""
    newest_first = RetrieveJob.objects.select_related("node", "requested_by")
    page = Paginator(newest_first, JOBS_A_PAGE).get_page(request.GET.get("page"))
    lines = lines_of_jobs(_user(request), list(page))
    context = {"page": page, "lines": lines, "is_moving": any(each.is_moving for each in lines)}
    return render(request, "transfer/jobs.html", context)


@requires("transfer.change_retrievejob")
@require_POST
def cancel(request: HttpRequest, job_id: int) -> HttpResponse:
    """Stop one fetch; what has come stays."""
    if not cancel_retrieve(job_id) and not _is_htmx(request):
        messages.info(request, "This retrieval had ended already.")
    return _line_or_jobs(request, job_id)


@requires("transfer.change_retrievejob")
@require_POST
def retry(request: HttpRequest, job_id: int) -> HttpResponse:
    """Start a failed or cancelled fetch again."""
    if not retry_retrieve(job_id) and not _is_htmx(request):
        messages.info(request, "This study is being retrieved already.")
    return _line_or_jobs(request, job_id)


def _render_query(request: HttpRequest, form: QueryForm, status: int = 200, **more: object) -> HttpResponse:
    has_nodes = RemoteNode.objects.queryable().exists()
    context = {"form": form, "modalities": MODALITIES, "has_nodes": has_nodes, **more}
    return render(request, "transfer/query.html", context, status=status)


def _refuse(request: HttpRequest, text: str) -> HttpResponse:
    if _is_htmx(request):
        return render(request, "transfer/refused.html", {"text": text}, status=422)
    messages.error(request, text)
    return redirect("transfer:query")


def _render_line(request: HttpRequest, job_id: int) -> HttpResponse:
    job = get_object_or_404(RetrieveJob.objects.select_related("node"), pk=job_id)
    return render(request, "transfer/line.html", {"line": lines_of_jobs(_user(request), [job])[0]})


def _line_or_jobs(request: HttpRequest, job_id: int) -> HttpResponse:
    """The study's line for htmx, the list of jobs for a page without it."""
    return _render_line(request, job_id) if _is_htmx(request) else redirect("transfer:jobs")


def _is_htmx(request: HttpRequest) -> bool:
    return bool(getattr(request, "htmx", False))


def _user(request: HttpRequest) -> User:
    return cast(User, request.user)
