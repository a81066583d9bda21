"""The outbox, to look at only."""

from django.contrib import admin
from django.http import HttpRequest

from apps.core.models import Outbox


@admin.register(Outbox)
class OutboxAdmin(admin.ModelAdmin):
    """Work that was asked for; the relay publishes it and marks it sent."""

    list_display = ("id", "task_name", "arguments", "created_at", "sent_at")
    list_filter = ("task_name", ("sent_at", admin.EmptyFieldListFilter))

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Only the program asks for work."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Outbox | None = None) -> bool:
        """A row is never edited."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Outbox | None = None) -> bool:
        """Sent rows are removed by beat."""
        return False
