"""The trail, to look at only."""

from django.contrib import admin
from django.http import HttpRequest

from apps.audit.models import AuditEvent


@admin.register(AuditEvent)
class AuditEventAdmin(admin.ModelAdmin):
    """Who did what to which object, newest first. Searched by UID or key: an address holds nothing of a person."""

    list_display = ("occurred_at", "actor", "action", "object_kind", "object_key", "remote_address")
    list_filter = ("action", "object_kind", "actor", "occurred_at")
    search_fields = ("object_key__exact",)
    search_help_text = "A UID or a primary key."
    show_full_result_count = False
    list_per_page = 50
    ordering = ("-id",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Only what is done writes here."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: AuditEvent | None = None) -> bool:
        """An event is never edited."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: AuditEvent | None = None) -> bool:
        """An event is never removed."""
        return False
