"""The pages where people decide what ingest could not: the list, both sides of one conflict, deciding and undoing.

They show what describes people, to those who may decide. Addresses hold primary keys only.
"""

from __future__ import annotations

from typing import cast

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.templatetags.static import static
from django.views.decorators.http import require_POST, require_safe

from apps.accounts.access import requires
from apps.accounts.models import User
from apps.archive.conflicts import (
    compare_sides,
    count_kinds,
    count_left,
    decisions,
    describe,
    find_patients,
    neighbours,
    open_cases,
    patient_in_question,
    root_of,
    same_id,
    sides,
)
from apps.archive.deciding import (
    ACTIONS,
    AlreadyDecidedError,
    DecisionError,
    Person,
    decide,
    report_study,
    undo,
    why_not_undone,
)
from apps.archive.models import Conflict, Decision, Study
from apps.core.errors import PermanentError
from apps.portal.forms import DecisionForm
from apps.portal.thumbnails import LARGE_PX, SIZES_PX
from apps.rendering.thumbnail import render_thumbnail

MAY_DECIDE = ("archive.view_study", "archive.view_every_study", "archive.decide_conflict")
CASES_A_PAGE = DECISIONS_A_PAGE = 25
SIDES = ("left", "right")

Kind, Action = Conflict.Kind, Decision.Action

QUESTIONS = {
    Kind.UNREADABLE: "This file is not readable as DICOM. It was kept, and nothing of it is stored.",
    Kind.INSTANCE: "A file arrived under a SOP Instance UID that is stored with other content. It was kept aside.",
    Kind.STUDY: "Files arrived for a stored study, and name another patient. They were kept aside.",
    Kind.SERIES: "Files arrived for a stored series, and name another study. They were kept aside.",
    Kind.PATIENT: "A study arrived under a known patient ID, with another birth date or family name. It is stored as of"
    " a patient of its own.",
    Kind.REPORTED: "Somebody asked whether this study is of the right patient.",
}
OPTIONS = {
    (Kind.UNREADABLE, Action.KEEP): ("Leave it aside", "It stays in the quarantine folder."),
    (Kind.INSTANCE, Action.KEEP): ("Keep the stored image", "The other file stays aside. Nothing changes."),
    (Kind.INSTANCE, Action.REPLACE): (
        "Replace the stored image",
        "The file that was kept aside is shown from now on. The former one is kept, and undo brings it back.",
    ),
    (Kind.STUDY, Action.KEEP): ("Keep the files apart", "They stay aside. Nothing changes."),
    (Kind.STUDY, Action.STORE): (
        "The files belong to the stored study",
        "They are stored with it, under its patient. Further files that name the other patient follow.",
    ),
    (Kind.STUDY, Action.REASSIGN): (
        "The whole study is of another patient",
        "The stored images and these files are of the patient you choose. Further files of the study follow.",
    ),
    (Kind.STUDY, Action.MERGE): (
        "Both are one person",
        "Every study of both is under one record, and these files are stored. What arrives later for either follows.",
    ),
    (Kind.SERIES, Action.KEEP): ("Keep the files apart", "They stay aside. Nothing changes."),
    (Kind.SERIES, Action.STORE): (
        "The files belong to the stored study",
        "They are stored with their series, whatever study and patient they name. Further ones follow.",
    ),
    (Kind.PATIENT, Action.KEEP): ("Two persons", "Both stay as they are: two patients with one ID."),
    (Kind.PATIENT, Action.MERGE): (
        "One person",
        "Every study of both is under one record. What arrives later for either follows.",
    ),
    (Kind.PATIENT, Action.REASSIGN): (
        "The study is of somebody else",
        "The study goes to the patient you choose, and its further images follow.",
    ),
    (Kind.REPORTED, Action.KEEP): ("The patient is right", "Nothing changes."),
    (Kind.REPORTED, Action.MERGE): (
        "This patient and another one are one person",
        "Every study of both is under one record. What arrives later for either follows.",
    ),
    (Kind.REPORTED, Action.REASSIGN): (
        "The study is of another patient",
        "The study goes to the patient you choose, and its further images follow.",
    ),
}


@requires(*MAY_DECIDE)
@require_safe
def waiting(request: HttpRequest) -> HttpResponse:
    """What waits for a decision, the newest first; `kind` shows one kind only."""
    kind = request.GET.get("kind", "")
    page = Paginator(open_cases(kind if kind in Kind.values else ""), CASES_A_PAGE).get_page(request.GET.get("page"))
    counts = count_kinds()
    kinds = [(value, label, counts[value]) for value, label in Kind.choices if value in counts]
    context = {"page": page, "cases": describe(page.object_list), "kinds": kinds, "kind": kind}
    return render(request, "conflicts/waiting.html", context | {"total": sum(counts.values())})


@requires(*MAY_DECIDE)
@require_safe
def decided(request: HttpRequest) -> HttpResponse:
    """What was decided, by whom and why, the newest first."""
    page = Paginator(decisions(), DECISIONS_A_PAGE).get_page(request.GET.get("page"))
    return render(request, "conflicts/decided.html", {"page": page})


@requires(*MAY_DECIDE)
@require_safe
def conflict(request: HttpRequest, pk: int) -> HttpResponse:
    """Both sides of one conflict, and what can be decided; or what was, and whether it can be undone."""
    found = get_object_or_404(Conflict.objects.select_related("decision", "patient", "other_patient"), pk=pk)
    return _render(request, found)


def _render(request: HttpRequest, found: Conflict, form: DecisionForm | None = None, status: int = 200) -> HttpResponse:
    before, after, position, total = neighbours(found)
    context = {
        "conflict": found,
        "question": QUESTIONS[Kind(found.kind)],
        "comparison": compare_sides(found),
        "large_px": LARGE_PX,
        "previous": before,
        "next": after,
        "position": position,
        "total": total,
        "why_not": why_not_undone(found.decision) if found.decision else "",
        "form": form,
    }
    return render(request, "conflicts/conflict.html", context | _choices(found), status=status)


def _choices(found: Conflict) -> dict[str, object]:
    kind, this = Kind(found.kind), patient_in_question(found)
    return {
        "options": [(action, *OPTIONS[kind, action]) for action in ACTIONS[kind]],
        "needs_patient": Action.MERGE in ACTIONS[kind],
        "this": this,
        "other": root_of(found.other_patient),
        "candidates": same_id(this),
    }


@requires(*MAY_DECIDE)
@require_POST
def decision(request: HttpRequest, pk: int) -> HttpResponse:
    """Carry out a decision; who comes second is told what the first one decided."""
    found = get_object_or_404(Conflict, pk=pk)
    form = DecisionForm(request.POST)
    if not form.is_valid():
        return _render(request, found, form, status=422)
    try:
        made = decide(pk, form.choice(), _person(request))
    except AlreadyDecidedError as error:
        messages.warning(request, _told(error.decision))
    except DecisionError as error:
        form.add_error(None, str(error))
        return _render(request, Conflict.objects.get(pk=pk), form, status=422)
    else:
        messages.success(request, f"{made.get_action_display()}.")
        if left := count_left(made):
            messages.info(request, f"Of this case {left} still wait{'s' * (left == 1)}.")
    return redirect("conflicts:conflict", pk=pk)


def _told(made: Decision | None) -> str:
    if made is None:
        return "Somebody else decided this, and it was undone. Look again."
    return f"{made.decided_by} decided this before you: {made.get_action_display().lower()}. Nothing more was done."


def _person(request: HttpRequest) -> Person:
    return Person(cast(User, request.user).get_username(), request.META.get("REMOTE_ADDR") or None)


@requires(*MAY_DECIDE)
@require_POST
def undoing(request: HttpRequest, pk: int) -> HttpResponse:
    """Take a decision back, or say why that is not possible."""
    made = get_object_or_404(decisions(), pk=pk)
    try:
        undo(pk, _person(request))
        messages.success(request, "Undone. The conflict waits for a decision again.")
    except DecisionError as error:
        messages.error(request, str(error))
    target: int | None = made.conflict  # type: ignore[attr-defined]  # annotated
    return redirect("conflicts:conflict", pk=target) if target else redirect("conflicts:decided")


@requires(*MAY_DECIDE)
@require_POST
def report(request: HttpRequest, study_pk: int) -> HttpResponse:
    """Ask whose a study is: from here it is given to another patient, or two patients become one."""
    visible = Study.objects.visible_to(cast(User, request.user)).select_related("patient")
    return redirect("conflicts:conflict", pk=report_study(get_object_or_404(visible, pk=study_pk), _person(request)).pk)


@requires(*MAY_DECIDE)
@require_POST
def patients(request: HttpRequest, pk: int) -> HttpResponse:
    """Patients to choose from, as a piece of the page."""
    found = get_object_or_404(Conflict, pk=pk)
    text = request.POST.get("text", "")
    people = find_patients(cast(User, request.user), text, besides=patient_in_question(found))
    context = {"patients": people, "text": text.strip()}
    return render(request, "conflicts/patients.html", context)


@requires(*MAY_DECIDE)
@require_safe
def picture(request: HttpRequest, pk: int, side: str, size_px: int) -> HttpResponse:
    """The picture of one side, made anew each time: what was kept aside is in no cache."""
    found = get_object_or_404(Conflict.objects.select_related("patient", "other_patient"), pk=pk)
    if side not in SIDES or size_px not in SIZES_PX:
        raise Http404
    shown = sides(found)[SIDES.index(side)]
    if not shown.frames or shown.path is None:
        raise Http404
    try:
        png = render_thumbnail(shown.path, shown.frames // 2 + 1, size_px)
    except (PermanentError, OSError):
        return redirect(static("portal/undecodable.svg"))
    return HttpResponse(png, content_type="image/png")
