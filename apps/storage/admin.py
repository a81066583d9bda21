"""Volumes of the file store."""

from django.contrib import admin
from django.http import HttpRequest

from apps.storage.models import Volume


@admin.register(Volume)
class VolumeAdmin(admin.ModelAdmin):
    """Where images lie. A folder that holds images cannot be renamed here: their paths follow from it."""

    list_display = ("name", "root", "position", "is_writable")
    list_editable = ("position", "is_writable")

    def get_readonly_fields(self, request: HttpRequest, obj: Volume | None = None) -> tuple[str, ...]:
        """The folder is chosen once."""
        return ("root",) if obj else ()

    def has_delete_permission(self, request: HttpRequest, obj: Volume | None = None) -> bool:
        """A volume is emptied first, by the work of operations."""
        return False
