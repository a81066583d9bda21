"""The archive, to look at only; and what was kept aside, to be settled.

A search here becomes part of the address, so it takes UIDs, never what describes a person.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from apps.archive.models import Conflict, Instance, Patient, Series, Study

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
        "received_at", "study_instance_uid",
    )  # fmt: skip
    list_filter = ("series__modality", "received_at")
    list_select_related = ("patient",)
    search_fields = ("study_instance_uid__exact",)
    search_help_text = "A Study Instance UID. For a name or number of a person use the worklist."
    raw_id_fields = ("patient",)
    ordering = ("-id",)

    @admin.display(description="patient", ordering="patient")
    def patient_link(self, study: Study) -> SafeString:
        """The patient, by name."""
        return link(study.patient, study.patient.display_name or "No name")

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
