"""Film templates to edit; sheets and rasters to look up."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from apps.films.models import FilmSheet, FilmTemplate


@admin.register(FilmTemplate)
class FilmTemplateAdmin(admin.ModelAdmin):
    """How sheets look. A template that was used keeps its look: change it and press "Save as new"."""

    list_display = ("name", "film_size", "orientation", "columns", "rows", "text_mm", "is_active", "position")
    list_filter = ("is_active", "film_size")
    list_editable = ("position",)
    search_fields = ("name",)
    save_as = True

    def has_delete_permission(self, request: HttpRequest, obj: FilmTemplate | None = None) -> bool:
        """Not while sheets name it."""
        return super().has_delete_permission(request, obj) and not (obj and obj.is_used())


@admin.register(FilmSheet)
class FilmSheetAdmin(admin.ModelAdmin):
    """Which sheets were made, by whom, of which study; the recipe, which describes a person, is not shown."""

    list_display = ("id", "study_uid", "page", "page_count", "template", "created_by", "created_at")
    list_filter = ("template", "created_at")
    search_fields = ("=id", "=study__study_instance_uid", "=raster__sha256", "=recipe_sha256")
    fields = (
        *("study_uid", "template", "page", "page_count", "recipe_sha256"),
        *("profile", "raster_sha256", "created_by", "created_at"),
    )
    date_hierarchy = "created_at"

    @admin.display(description="Study Instance UID")
    def study_uid(self, sheet: FilmSheet) -> str:
        """A UID, and no more of the study."""
        return sheet.study.study_instance_uid

    @admin.display(description="raster")
    def raster_sha256(self, sheet: FilmSheet) -> str:
        """The identity of what was drawn last."""
        return sheet.raster.sha256 if sheet.raster else ""

    def get_queryset(self, request: HttpRequest) -> QuerySet[FilmSheet]:
        """With the rows that the list names."""
        return super().get_queryset(request).select_related("study", "template", "raster", "created_by").defer("recipe")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Sheets are made from a study's page."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A sheet never changes."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """What was printed stays known."""
        return False
