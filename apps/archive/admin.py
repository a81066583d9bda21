"""The archive, to look at only; and what was kept aside, to be settled.

A search here becomes part of the address, so it takes UIDs, never what describes a person.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import get_object_or_404, render
from django.template.defaultfilters import filesizeformat
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from apps.archive.dry_run import dry_run
from apps.archive.models import CoercionRule, Conflict, Instance, Patient, Series, Study
from apps.archive.queries import coercion_rules
from apps.archive.rulebook import replace_rule

if TYPE_CHECKING:
    from apps.accounts.models import User


class ReadOnlyAdmin(admin.ModelAdmin):
    """Clinical rows come from images, and only from them."""

    show_full_result_count = False  # counting millions of rows takes longer than looking at a page
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """No row without an image."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nothing is edited here."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nothing is deleted here."""
        return False


def visible_studies(request: HttpRequest) -> QuerySet[Study]:
    """What the signed-in user may see."""
    return Study.objects.visible_to(cast("User", request.user))


def link(row: Model, text: str) -> SafeString:
    """A link to the row's page in the administration."""
    address = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])
    return format_html('<a href="{}">{}</a>', address, text)


@admin.register(Patient)
class PatientAdmin(ReadOnlyAdmin):
    """Patients of the studies that the user may see."""

    list_display = ("id", "display_name", "patient_id", "issuer", "birth_date", "sex", "created_at")
    list_filter = ("created_at",)
    ordering = ("-id",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Patient]:
        """Those with a visible study."""
        return super().get_queryset(request).filter(studies__in=visible_studies(request)).distinct()


@admin.register(Study)
class StudyAdmin(ReadOnlyAdmin):
    """Studies that the user may see."""

    list_display = (
        "id", "patient_link", "study_date", "accession_number", "description", "series_count", "instance_count",
        "status", "received_at", "study_instance_uid",
    )  # fmt: skip
    list_filter = ("status", "series__modality", "received_at")
    list_select_related = ("patient",)
    search_fields = ("study_instance_uid__exact",)
    search_help_text = "A Study Instance UID. For a name or number of a person use the worklist."
    readonly_fields = ("coerced",)
    raw_id_fields = ("patient",)
    ordering = ("-id",)

    @admin.display(description="patient", ordering="patient")
    def patient_link(self, study: Study) -> SafeString:
        """The patient, by name."""
        return link(study.patient, study.patient.display_name or "No name")

    @admin.display(description="coerced on receipt")
    def coerced(self, study: Study) -> SafeString | str:
        """What was changed of what the first instance said, and by which rule."""
        parts = [(words, link(rule, rule.name)) for words, rule in coercion_rules(study)]
        return format_html_join(", ", "{} by {}", parts) or "no"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Study]:
        """Visible ones."""
        return visible_studies(request)


@admin.register(Series)
class SeriesAdmin(ReadOnlyAdmin):
    """Series of the studies that the user may see."""

    list_display = (
        "series_instance_uid", "modality", "series_number", "description", "body_part", "calling_ae_title",
        "instance_count", "size",
    )  # fmt: skip
    list_filter = ("modality", "calling_ae_title")
    search_fields = ("series_instance_uid__exact", "study__study_instance_uid__exact")
    search_help_text = "A Series or Study Instance UID."
    ordering = ("-id",)

    @admin.display(description="size", ordering="size_bytes")
    def size(self, series: Series) -> str:
        """In units for people."""
        return filesizeformat(series.size_bytes)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Series]:
        """Those of visible studies."""
        return super().get_queryset(request).filter(study__in=visible_studies(request))


@admin.register(Instance)
class InstanceAdmin(ReadOnlyAdmin):
    """Stored objects of the studies that the user may see."""

    list_display = (
        "sop_instance_uid", "sop_class_uid", "transfer_syntax_uid", "instance_number", "rows", "columns",
        "number_of_frames", "size", "received_at",
    )  # fmt: skip
    list_filter = ("transfer_syntax_uid", "received_at")
    search_fields = ("sop_instance_uid__exact", "series__series_instance_uid__exact")
    search_help_text = "A SOP or Series Instance UID."
    exclude = ("file_sha256", "dataset_sha256")
    readonly_fields = ("file_digest", "dataset_digest", "stored_at")
    ordering = ("-id",)

    @admin.display(description="size", ordering="size_bytes")
    def size(self, instance: Instance) -> str:
        """In units for people."""
        return filesizeformat(instance.size_bytes)

    @admin.display(description="SHA-256 of the file")
    def file_digest(self, instance: Instance) -> str:
        """In hexadecimal."""
        return bytes(instance.file_sha256).hex()

    @admin.display(description="SHA-256 of the data set")
    def dataset_digest(self, instance: Instance) -> str:
        """In hexadecimal."""
        return bytes(instance.dataset_sha256).hex()

    @admin.display(description="file")
    def stored_at(self, instance: Instance) -> str:
        """Where it lies."""
        return str(instance.path)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Instance]:
        """Those of visible studies."""
        visible = super().get_queryset(request).filter(series__study__in=visible_studies(request))
        return visible.select_related("series__study", "volume")


@admin.register(Conflict)
class ConflictAdmin(ReadOnlyAdmin):
    """What waits for a decision or was decided, without a word of the person; decided on the pages for staff."""

    list_display = (
        "id",
        "kind",
        "reason",
        "sop_instance_uid",
        "calling_ae_title",
        "size",
        "received_at",
        "resolved_at",
    )
    list_filter = ("kind", ("resolved_at", admin.EmptyFieldListFilter), "calling_ae_title", "received_at")
    search_fields = (
        "sop_instance_uid__exact", "series_instance_uid__exact", "study_instance_uid__exact", "held_file__exact",
    )  # fmt: skip
    search_help_text = "A SOP, Series or Study Instance UID, or the name of the held file."
    exclude = ("file_sha256",)
    date_hierarchy = "received_at"

    @admin.display(description="size", ordering="size_bytes")
    def size(self, conflict: Conflict) -> str:
        """In units for people."""
        return filesizeformat(conflict.size_bytes)


@admin.register(CoercionRule)
class CoercionRuleAdmin(admin.ModelAdmin):
    """Rules for what senders leave out; "Dry run" shows what one would do to the newest studies.

    Another effect is another rule, and the old one is retired: studies name the rules that they came by.
    """

    change_form_template = "archive/admin/coercion_rule.html"
    list_display = ("name", "sender", "effect", "position", "is_active", "retired_at")
    list_filter = ("is_active", ("retired_at", admin.EmptyFieldListFilter), "calling_ae_title")
    search_fields = ("name", "calling_ae_title")
    readonly_fields = ("created_at", "retired_at", "replaced_by")
    fieldsets = (
        (None, {"fields": ("name", "calling_ae_title", "position", "is_active")}),
        ("Whose Patient ID it is", {"fields": ("issuer_action", "issuer", "patient_id_prefix")}),
        ("How texts are read", {"fields": ("character_set",)}),
        ("History", {"fields": ("created_at", "retired_at", "replaced_by")}),
    )

    def get_fieldsets(self, request: HttpRequest, obj: CoercionRule | None = None) -> Any:
        """Only a retired rule has a history."""
        return super().get_fieldsets(request, obj)[: None if obj and obj.retired_at else -1]

    @admin.display(description="sender", ordering="calling_ae_title", empty_value="every sender")
    def sender(self, rule: CoercionRule) -> str | None:
        """Whom it concerns."""
        return rule.calling_ae_title or None

    def has_change_permission(self, request: HttpRequest, obj: CoercionRule | None = None) -> bool:
        """A retired rule is only looked at."""
        return super().has_change_permission(request, obj) and not (obj and obj.retired_at)

    def has_delete_permission(self, request: HttpRequest, obj: CoercionRule | None = None) -> bool:
        """Studies may name it: take it out of use instead."""
        return False

    def get_urls(self) -> list[URLPattern]:
        """The admin's own addresses and the dry run's, of a new rule and of a saved one."""
        view = self.admin_site.admin_view(self.dry_run)
        return [
            path("dry-run/", view, name="archive_coercionrule_dry_run_new"),
            path("<int:rule_id>/dry-run/", view, name="archive_coercionrule_dry_run"),
            *super().get_urls(),
        ]

    def dry_run(self, request: HttpRequest, rule_id: int | None = None) -> HttpResponse:
        """What the rule in the form would do; nothing is saved."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        saved = get_object_or_404(CoercionRule, pk=rule_id) if rule_id else None
        if not (self.has_change_permission(request, saved) if saved else self.has_add_permission(request)):
            raise PermissionDenied
        form = self.get_form(request, saved, change=saved is not None)(request.POST, instance=saved)
        if not form.is_valid():
            return render(request, "archive/admin/dry_run.html", {"form": form}, status=422)
        result = dry_run(form.instance, cast("User", request.user))
        return render(request, "archive/admin/dry_run.html", {"form": form, "result": result, "rule": form.instance})

    def save_model(self, request: HttpRequest, obj: CoercionRule, form: ModelForm, change: bool) -> None:
        """Names, order and use may change; what a rule does makes another rule."""
        if change and set(CoercionRule.EFFECT) & set(form.changed_data):
            replace_rule(obj)
        else:
            super().save_model(request, obj, form, change)
