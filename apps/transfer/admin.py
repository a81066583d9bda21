"""Fetches from other systems, to look at only: they are started, stopped and repeated from their page."""

from django.contrib import admin
from django.http import HttpRequest

from apps.transfer.models import RetrieveJob


@admin.register(RetrieveJob)
class RetrieveJobAdmin(admin.ModelAdmin):
    """One row a fetch."""

    list_display = (
        "id",
        "node",
        "study_instance_uid",
        "state",
        "completed_count",
        "failed_count",
        "attempts",
        "created_at",
    )
    list_filter = ("state", "node")
    list_select_related = ("node",)
    search_fields = ("=study_instance_uid",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Started from the search page."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: RetrieveJob | None = None) -> bool:
        """The worker writes it."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: RetrieveJob | None = None) -> bool:
        """Kept as the history of what came from where."""
        return False
