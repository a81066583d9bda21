"""The text repair pages: which texts are in doubt, how each character set would show them, and what people decide.

A character set may stand in an address, what it shows may not.
"""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from apps.accounts.access import requires
from apps.accounts.models import User
from apps.archive.charset_guesses import CANDIDATES
from apps.archive.models import DoubtfulText
from apps.archive.text_queries import (
    Group,
    doubts_of_group,
    find_group,
    list_groups,
    preview_candidates,
    preview_studies,
    progress_of,
)
from apps.archive.text_repair import ask_for_repair, ask_for_undo, mark_as_right, repair_texts

PAGE_SIZE = 25
AT_ONCE = 25  # so many studies are repaired while the person waits; more are left to a worker
AT_ONCE_S = 5.0
REPAIR, RIGHT, UNDO = "repair", "right", "undo"
STATES = DoubtfulText.State.choices


class DecisionForm(forms.Form):
    """What to do with which studies of a group: all in one state, or those that are chosen."""

    action = forms.ChoiceField(choices=[(REPAIR, ""), (RIGHT, ""), (UNDO, "")])
    label = forms.ChoiceField(choices=list(CANDIDATES.items()), required=False)
    state = forms.ChoiceField(choices=STATES)
    everything = forms.BooleanField(required=False)
    doubt = forms.ModelMultipleChoiceField(DoubtfulText.objects.none(), required=False)

    def __init__(self, data: QueryDict, doubts: QuerySet[DoubtfulText]) -> None:
        super().__init__(data)
        cast(forms.ModelMultipleChoiceField, self.fields["doubt"]).queryset = doubts

    def clean(self) -> dict[str, Any]:
        """A repair needs a character set; without "everything" some study."""
        fields = super().clean() or {}
        if fields.get("action") == REPAIR and not fields.get("label"):
            self.add_error(None, "Choose a character set first.")
        if not fields.get("everything") and not fields.get("doubt"):
            self.add_error(None, "Choose at least one study.")
        return fields

    def chosen(self) -> list[int]:
        """Primary keys of the rows, as they are before anything changes."""
        fields = self.cleaned_data
        if not fields["everything"]:
            return [doubt.pk for doubt in fields["doubt"]]
        every = cast(forms.ModelMultipleChoiceField, self.fields["doubt"]).queryset
        return list(every.filter(state=fields["state"]).values_list("pk", flat=True)) if every is not None else []


def _user(request: HttpRequest) -> User:
    return cast(User, request.user)


@require_safe
@requires("archive.repair_text", "archive.view_study")
def groups(request: HttpRequest) -> HttpResponse:
    """Senders and labels whose texts are in doubt."""
    return render(request, "archive/text_groups.html", {"groups": list_groups(_user(request))})


@require_safe
@requires("archive.repair_text", "archive.view_study")
def group(request: HttpRequest, pk: int) -> HttpResponse:
    """One group: candidates with examples, and its studies as they are and as the chosen candidate shows them."""
    found = _find(request, pk)
    state = request.GET.get("state", "")
    if state not in DoubtfulText.State.values:
        state = found.first_state
    previews = preview_candidates(_user(request), found)
    label = request.GET.get("charset", "")
    if label not in CANDIDATES:
        label = previews[0].candidate.label if previews else ""
    doubts = doubts_of_group(_user(request), found).filter(state=state).select_related("study__patient", "decided_by")
    page = Paginator(doubts.order_by("-pk"), PAGE_SIZE).get_page(request.GET.get("page"))
    likely = {preview.candidate.label for preview in previews}
    context = {
        "group": found,
        "state": state,
        "states": [(value, words, found.count(value)) for value, words in STATES],
        "previews": previews,
        "label": label,
        "label_words": CANDIDATES.get(label, ""),
        "others": [(key, words) for key, words in CANDIDATES.items() if key not in likely],
        "page": page,
        "lines": preview_studies(list(page), label),
    }
    return render(request, "archive/text_group.html", context)


@require_POST
@requires("archive.repair_text", "archive.view_study")
def decide(request: HttpRequest, pk: int) -> HttpResponse:
    """Repair, leave or undo the chosen studies, or all that are in the same state."""
    form = DecisionForm(request.POST, doubts_of_group(_user(request), _find(request, pk)))
    if not form.is_valid():
        for error in form.non_field_errors() or ["This cannot be done: try again on this page."]:
            messages.error(request, str(error))
        return redirect("texts:group", pk=pk)
    fields = form.cleaned_data
    _carry_out(request, fields["action"], fields["label"], form.chosen())
    return redirect(f"{reverse('texts:group', args=[pk])}?state={fields['state']}")


def _carry_out(request: HttpRequest, action: str, label: str, keys: list[int]) -> None:
    user, chosen = _user(request), DoubtfulText.objects.filter(pk__in=keys)
    if action == RIGHT:
        messages.success(request, f"{_studies(mark_as_right(user, chosen))} left as shown.")
        return
    count = ask_for_repair(user, chosen, label) if action == REPAIR else ask_for_undo(user, chosen)
    if count <= AT_ONCE:
        repair_texts(run_s=AT_ONCE_S, limit=count)
    waiting, left = progress_of(keys)
    if waiting:
        messages.info(request, f"{_studies(waiting)} of {count} to go: this goes on by itself.")
    else:
        messages.success(request, f"{_studies(count)} {'repaired' if action == REPAIR else 'set back'}.")
    for words, number in left.items():
        messages.warning(request, f"{_studies(number)}: {words}.")


def _studies(count: int) -> str:
    return f"{count} {'study' if count == 1 else 'studies'}"


def _find(request: HttpRequest, pk: int) -> Group:
    try:
        return find_group(_user(request), pk)
    except DoubtfulText.DoesNotExist as error:
        raise Http404 from error
