"""Film sheets: how they look, what is on them, and the rasters that were made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q

from apps.archive.models import Instance, Study
from apps.films.geometry import FILM_SIZE_LABELS, LANDSCAPE, PORTRAIT, film_mm

if TYPE_CHECKING:
    from apps.accounts.models import User

GRID_LIMITS = [MinValueValidator(1), MaxValueValidator(12)]


class FilmTemplateManager(models.Manager["FilmTemplate"]):
    """Templates are known by their name."""

    def get_by_natural_key(self, name: str) -> FilmTemplate:
        """The template of that name; fixtures name it so."""
        return self.get(name=name)


class FilmTemplate(models.Model):
    """How sheets look. Once a sheet was made with it, only its name and whether it is offered may change."""

    class Orientation(models.TextChoices):
        """Film Orientation (PS3.3 C.13.3)."""

        PORTRAIT = PORTRAIT, "Upright"
        LANDSCAPE = LANDSCAPE, "Across"

    FREE = frozenset({"id", "name", "is_active", "position"})

    name = models.CharField(max_length=80, unique=True)
    film_size = models.CharField(max_length=16, choices=list(FILM_SIZE_LABELS.items()), default="14INX17IN")
    orientation = models.CharField(max_length=16, choices=Orientation.choices, default=Orientation.PORTRAIT)
    margin_mm = models.FloatField("margin (mm)", default=6.0, validators=[MinValueValidator(0), MaxValueValidator(50)])
    gap_mm = models.FloatField(
        "gap between images (mm)", default=2.0, validators=[MinValueValidator(0), MaxValueValidator(20)]
    )
    columns = models.PositiveSmallIntegerField(default=4, validators=GRID_LIMITS, help_text="Offered first.")
    rows = models.PositiveSmallIntegerField(default=5, validators=GRID_LIMITS, help_text="Offered first.")
    text_mm = models.FloatField(
        "text height (mm)",
        default=2.5,
        validators=[MinValueValidator(1.5), MaxValueValidator(8)],
        help_text="Height of a capital letter.",
    )
    has_ruler = models.BooleanField("rulers", default=True, help_text="Beside each image, and one for the sheet.")
    position = models.PositiveSmallIntegerField(default=1, help_text="Templates are offered in this order.")
    is_active = models.BooleanField("offered", default=True)

    objects = FilmTemplateManager()

    class Meta:
        ordering = ["position", "name"]

    def __str__(self) -> str:
        return self.name

    def natural_key(self) -> tuple[str]:
        """What fixtures call it."""
        return (self.name,)

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height of a sheet as it is looked at."""
        return film_mm(self.film_size, self.orientation)

    def is_used(self) -> bool:
        """Whether a sheet was made with it."""
        return self.pk is not None and FilmSheet.objects.filter(template_id=self.pk).exists()

    def clean(self) -> None:
        """Refuse to change the look of sheets that exist."""
        if self.is_used() and self._has_other_look():
            raise ValidationError("Sheets were made with this template. Give it another name and save it as new.")

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Raises ValidationError like `clean`."""
        self.clean()
        super().save(*args, **kwargs)

    def _has_other_look(self) -> bool:
        fixed = [field.attname for field in self._meta.concrete_fields if field.attname not in self.FREE]
        stored = FilmTemplate.objects.filter(pk=self.pk).values(*fixed).get()
        return any(stored[name] != getattr(self, name) for name in fixed)


class FilmRaster(models.Model):
    """One drawn page, known by the SHA-256 of its shape and pixels; the file store holds it in the blob `blob`.

    The row outlives the blob, so that it can always be said what was printed.
    """

    sha256 = models.CharField("SHA-256 of shape and pixels", max_length=64, unique=True, db_collation="C")
    blob = models.CharField("stored as", max_length=64, db_collation="C", help_text="SHA-256 of the stored bytes.")
    preview = models.CharField(max_length=64, blank=True, db_collation="C", help_text="A reduction of it, as PNG.")
    width_px = models.PositiveIntegerField()
    height_px = models.PositiveIntegerField()
    samples = models.PositiveSmallIntegerField(help_text="1 gray, 3 RGB.")
    bits = models.PositiveSmallIntegerField(default=8)
    size_bytes = models.PositiveBigIntegerField(help_text="As stored.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(samples__in=[1, 3]), name="raster_gray_or_rgb")]

    def __str__(self) -> str:
        return self.sha256[:12]


class FilmSheetQuerySet(models.QuerySet["FilmSheet"]):
    """The only way to sheets for views is `visible_to`."""

    def visible_to(self, user: User) -> FilmSheetQuerySet:
        """Sheets of studies that this user may see."""
        return self.filter(study__in=Study.objects.visible_to(user))


class FilmSheet(models.Model):
    """One page of film: `recipe` says everything that is drawn, in image pixels and millimetres, and never changes.

    The recipe holds the header's texts and so describes a person. `raster` is what it last gave, for `profile`.
    """

    study = models.ForeignKey(Study, on_delete=models.PROTECT, related_name="film_sheets")
    template = models.ForeignKey(FilmTemplate, on_delete=models.PROTECT, related_name="sheets")
    page = models.PositiveSmallIntegerField(default=1)
    page_count = models.PositiveSmallIntegerField(default=1)
    recipe = models.JSONField(editable=False)
    recipe_sha256 = models.CharField(max_length=64, db_collation="C", editable=False)
    raster = models.ForeignKey(FilmRaster, on_delete=models.PROTECT, null=True, editable=False, related_name="sheets")
    profile = models.CharField(max_length=60, blank=True, editable=False)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = FilmSheetQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=Q(page__gte=1) & Q(page__lte=F("page_count")), name="sheet_page_of_count"),
            models.CheckConstraint(condition=Q(raster=None) ^ ~Q(profile=""), name="sheet_raster_has_profile"),
        ]

    def __str__(self) -> str:
        return f"Sheet {self.pk}"


class FilmSheetInstance(models.Model):
    """Which frame of which instance a cell of a sheet shows: an index of the recipe."""

    sheet = models.ForeignKey(FilmSheet, on_delete=models.PROTECT, related_name="cells")
    position = models.PositiveSmallIntegerField(help_text="Image Box Position, from 1 (PS3.3 C.13.5).")
    instance = models.ForeignKey(Instance, on_delete=models.PROTECT, related_name="film_cells")
    frame = models.PositiveIntegerField(default=1, help_text="From 1.")

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["sheet", "position"], name="cell_once_per_sheet")]

    def __str__(self) -> str:
        return f"{self.sheet_id}/{self.position}"
