"""Printers, print jobs, and each sheet on its way to a printer."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now

from apps.archive.models import Study
from apps.films.geometry import FILM_SIZE_LABELS, Profile, profile_of
from apps.films.models import FilmRaster, FilmSheet

if TYPE_CHECKING:
    from apps.accounts.models import User

TELL_AGAIN_S = 60  # a message is not lost; this is for the case that one was


class PrinterManager(models.Manager["Printer"]):
    """Printers are known by their name."""

    def get_by_natural_key(self, name: str) -> Printer:
        """The printer of that name; fixtures name it so."""
        return self.get(name=name)


class Printer(models.Model):
    """Where sheets go, and what it can draw (`Profile`)."""

    class Kind(models.TextChoices):
        """How it is spoken to."""

        PDF = "pdf", "PDF file to download"

    class Bits(models.IntegerChoices):
        """Depth of a sample."""

        EIGHT = 8, "8 bits"

    name = models.CharField(max_length=80, unique=True, help_text="What staff read.")
    kind = models.CharField(max_length=8, choices=Kind.choices, default=Kind.PDF)
    device = models.CharField(
        max_length=80,
        blank=True,
        help_text="Printers that are one machine share a name here; it prints one sheet at a time. Empty: on its own.",
    )
    dpi = models.PositiveSmallIntegerField(
        "resolution (dpi)", default=300, validators=[MinValueValidator(72), MaxValueValidator(650)]
    )
    bits = models.PositiveSmallIntegerField("depth", choices=Bits.choices, default=Bits.EIGHT)
    colour = models.BooleanField(default=True, help_text="Else colour images are printed in gray.")
    film_size = models.CharField(
        max_length=16,
        choices=list(FILM_SIZE_LABELS.items()),
        blank=True,
        help_text="The only size it takes. Empty: any.",
    )
    position = models.PositiveSmallIntegerField(default=1, help_text="Printers are offered in this order.")
    is_active = models.BooleanField("in use", default=True, help_text="Else nothing is sent to it; its sheets wait.")
    told_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = PrinterManager()

    class Meta:
        ordering = ["position", "name"]

    def __str__(self) -> str:
        return self.name

    def natural_key(self) -> tuple[str]:
        """What fixtures call it."""
        return (self.name,)

    @property
    def lock_name(self) -> str:
        """The same for printers that are one machine."""
        return self.device or f"printer {self.pk}"

    def profile(self, width_mm: float, height_mm: float) -> Profile:
        """What it draws a sheet of this size with."""
        return profile_of(width_mm, height_mm, self.dpi, self.colour)


class PrintJobQuerySet(models.QuerySet["PrintJob"]):
    """The only way to jobs for views is `visible_to`."""

    def visible_to(self, user: User) -> PrintJobQuerySet:
        """Jobs of studies that this user may see."""
        return self.filter(study__in=Study.objects.visible_to(user))


class PrintJob(models.Model):
    """One wish to print sheets of one study; its state follows from its SheetPrints.

    `key` is made with the form: the same form sent twice is one job. `document` is the blob of the finished file, for
    printers that make one.
    """

    class Priority(models.IntegerChoices):
        """Print Priority (PS3.3 C.13.1); lower goes first."""

        HIGH = 1, "High"
        MEDIUM = 2, "Normal"
        LOW = 3, "Low"

    key = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    printer = models.ForeignKey(Printer, on_delete=models.PROTECT, related_name="jobs")
    study = models.ForeignKey(Study, on_delete=models.PROTECT, related_name="print_jobs")
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    priority = models.PositiveSmallIntegerField(choices=Priority.choices, default=Priority.MEDIUM)
    document = models.CharField(max_length=64, blank=True, db_collation="C", editable=False)
    document_bytes = models.PositiveBigIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(db_default=Now())

    objects = PrintJobQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=Q(priority__in=[1, 2, 3]), name="job_priority_known"),
        ]

    def __str__(self) -> str:
        return f"Job {self.pk}"


class SheetPrintQuerySet(models.QuerySet["SheetPrint"]):
    """Sheets by what is due; the database's clock decides."""

    def due(self) -> SheetPrintQuerySet:
        """Waiting sheets whose time has come, whose printer is in use and whose job is not held up before them."""
        before = SheetPrint.objects.filter(job=OuterRef("job")).exclude(state__in=SheetPrint.SETTLED)
        earlier = Q(position__lt=OuterRef("position")) | Q(position=OuterRef("position"), copy__lt=OuterRef("copy"))
        waiting = self.filter(state=SheetPrint.State.QUEUED, next_attempt_at__lte=Now(), job__printer__is_active=True)
        return waiting.filter(~Exists(before.filter(earlier))).order_by("job__priority", "job_id", "position", "copy")

    def lapsed(self) -> SheetPrintQuerySet:
        """Held by a worker that did not renew its lease."""
        return self.filter(lease_until__lt=Now())


class SheetPrint(models.Model):
    """One sheet and copy of a job: the unit that is printed once.

    A worker holds it by a lease while it is SENDING or FIRED. FIRED is committed before the printer is told to print;
    what happens then and is not answered is UNKNOWN, and only a person or the printer's own word resolves it.
    """

    class State(models.TextChoices):
        """QUEUED → SENDING → FIRED → ACCEPTED → PRINTED."""

        QUEUED = "QUEUED", "Waiting"
        SENDING = "SENDING", "Being made"
        FIRED = "FIRED", "Printing"
        ACCEPTED = "ACCEPTED", "Taken by the printer"
        PRINTED = "PRINTED", "Done"
        HELD = "HELD", "On hold"
        CANCELLED = "CANCELLED", "Cancelled"
        FAILED = "FAILED", "Failed"
        UNKNOWN = "UNKNOWN", "Not known whether printed"

    SETTLED = (State.ACCEPTED, State.PRINTED, State.CANCELLED)  # the next sheet of the job may follow
    HOLDING = (State.SENDING, State.FIRED)  # a worker has it
    GROUPS = {
        "waiting": (State.QUEUED, State.HELD),
        "running": HOLDING,
        "done": (State.ACCEPTED, State.PRINTED),
        "failed": (State.FAILED,),
        "unknown": (State.UNKNOWN,),
        "cancelled": (State.CANCELLED,),
    }

    job = models.ForeignKey(PrintJob, on_delete=models.PROTECT, related_name="sheet_prints")
    sheet = models.ForeignKey(FilmSheet, on_delete=models.PROTECT, related_name="prints")
    position = models.PositiveSmallIntegerField(help_text="Sheet of the job, from 1.")
    copy = models.PositiveSmallIntegerField(default=1)
    state = models.CharField(max_length=12, choices=State.choices, default=State.QUEUED)
    raster = models.ForeignKey(FilmRaster, on_delete=models.PROTECT, null=True, related_name="prints")
    claimed_by = models.CharField(max_length=100, blank=True)
    lease_until = models.DateTimeField(null=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(db_default=Now())
    last_error = models.CharField(max_length=500, blank=True)
    reference = models.CharField(max_length=64, blank=True, help_text="What the printer calls it.")
    fired_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects = SheetPrintQuerySet.as_manager()

    class Meta:
        ordering = ["job_id", "position", "copy"]
        constraints = [
            models.UniqueConstraint(fields=["job", "position", "copy"], name="sheet_print_once"),
            models.CheckConstraint(
                condition=Q(state__in=["SENDING", "FIRED"], lease_until__isnull=False) & ~Q(claimed_by="")
                | ~Q(state__in=["SENDING", "FIRED"]) & Q(lease_until=None, claimed_by=""),
                name="sheet_print_leased_while_held",
            ),
            models.CheckConstraint(
                condition=Q(raster__isnull=False) | ~Q(state__in=["FIRED", "ACCEPTED", "PRINTED", "UNKNOWN"]),
                name="sheet_print_names_raster",
            ),
        ]
        indexes = [
            models.Index(
                "job",
                "position",
                "copy",
                name="sheet_print_open",
                condition=Q(state__in=["QUEUED", "SENDING", "FIRED", "HELD", "FAILED", "UNKNOWN"]),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.job_id}/{self.position}.{self.copy}"
