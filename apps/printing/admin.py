"""Printers to edit; jobs and their sheets to look up."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from apps.printing.models import Printer, PrintJob, SheetPrint


@admin.register(Printer)
class PrinterAdmin(admin.ModelAdmin):
    """Where sheets go, and what it can draw."""

    list_display = ("name", "kind", "dpi", "colour", "film_size", "is_active", "position")
    list_filter = ("kind", "is_active")
    list_editable = ("is_active", "position")
    search_fields = ("name", "device")
    fieldsets = (
        (None, {"fields": ("name", "kind", "device", "is_active", "position")}),
        ("What it draws", {"fields": ("dpi", "bits", "colour", "film_size")}),
    )

    def has_delete_permission(self, request: HttpRequest, obj: Printer | None = None) -> bool:
        """Not while jobs name it: take it out of use instead."""
        return super().has_delete_permission(request, obj) and not (obj and obj.jobs.exists())


class ReadOnly:
    """Rows that only the work itself changes."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never."""
        return False


class SheetPrintInline(ReadOnly, admin.TabularInline):
    """The sheets of a job."""

    model = SheetPrint
    fields = (
        *("position", "copy", "state", "attempts", "next_attempt_at"),
        *("last_error", "claimed_by", "lease_until", "raster", "finished_at"),
    )
    ordering = ("position", "copy")
    extra = 0


@admin.register(PrintJob)
class PrintJobAdmin(ReadOnly, admin.ModelAdmin):
    """Which jobs there were and what became of each sheet; no patient is named."""

    list_display = ("id", "printer", "study_uid", "priority", "requested_by", "created_at", "has_document")
    list_filter = ("printer", "sheet_prints__state", "created_at")
    search_fields = ("=id", "=study__study_instance_uid", "=requested_by__username", "=document")
    fields = ("printer", "study_uid", "priority", "requested_by", "created_at", "document", "document_bytes")
    date_hierarchy = "created_at"
    inlines = (SheetPrintInline,)

    @admin.display(description="Study Instance UID")
    def study_uid(self, job: PrintJob) -> str:
        """A UID, and no more of the study."""
        return job.study.study_instance_uid

    @admin.display(description="file", boolean=True)
    def has_document(self, job: PrintJob) -> bool:
        """Whether its file was made."""
        return bool(job.document)

    def get_queryset(self, request: HttpRequest) -> QuerySet[PrintJob]:
        """Each job once, whatever filter joins its sheets."""
        return super().get_queryset(request).select_related("printer", "study", "requested_by").distinct()
