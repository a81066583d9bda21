"""Other DICOM application entities that we talk to."""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models

ae_title_validator = RegexValidator(
    r"^(?! +$)[ -\[\]-~]{1,16}$", "1 to 16 printable ASCII characters without backslash (PS3.5 6.2, AE)."
)
host_validator = RegexValidator(
    r"^[A-Za-z0-9]([A-Za-z0-9._:-]*[A-Za-z0-9.])?$|^::[0-9A-Fa-f:.]*$",
    "A host name or an IP address, without http:// and without the port.",
)


class CharacterSet(models.TextChoices):
    """Specific Character Sets that a query may be written in (PS3.3 C.12.1.1.2)."""

    UNICODE = "ISO_IR 192", "Unicode (ISO_IR 192)"
    LATIN_1 = "ISO_IR 100", "Latin 1, Western Europe (ISO_IR 100)"
    LATIN_2 = "ISO_IR 101", "Latin 2, Central Europe (ISO_IR 101)"
    LATIN_5 = "ISO_IR 148", "Latin 5, Turkish (ISO_IR 148)"
    CYRILLIC = "ISO_IR 144", "Cyrillic (ISO_IR 144)"
    GREEK = "ISO_IR 126", "Greek (ISO_IR 126)"
    ARABIC = "ISO_IR 127", "Arabic (ISO_IR 127)"
    HEBREW = "ISO_IR 138", "Hebrew (ISO_IR 138)"
    THAI = "ISO_IR 166", "Thai (ISO_IR 166)"
    CHINESE = "GB18030", "Chinese (GB18030)"


class RemoteNodeQuerySet(models.QuerySet["RemoteNode"]):
    """Nodes by what we may ask of them."""

    def queryable(self) -> RemoteNodeQuerySet:
        """Those we may send C-FIND to."""
        return self.filter(is_active=True, may_be_queried=True)

    def retrievable(self) -> RemoteNodeQuerySet:
        """Those we may send C-MOVE to."""
        return self.filter(is_active=True, may_be_retrieved_from=True)


class RemoteNode(models.Model):
    """One remote AE: where it is, and what it and we may do with each other."""

    name = models.CharField(max_length=100, unique=True, help_text="What staff read, for example: Main PACS.")
    ae_title = models.CharField(
        "AE title",
        max_length=16,
        validators=[ae_title_validator],
        help_text="As that system writes it; capitals matter.",
    )
    host = models.CharField(max_length=255, validators=[host_validator], help_text="Host name or address.")
    port = models.PositiveIntegerField(default=104, validators=[MinValueValidator(1), MaxValueValidator(65535)])
    may_send = models.BooleanField("may send to us", default=True, help_text="We accept C-STORE from it.")
    may_be_queried = models.BooleanField(default=False, help_text="We send C-FIND to it.")
    may_be_retrieved_from = models.BooleanField(default=False, help_text="We send C-MOVE to it.")
    query_character_set = models.CharField(
        max_length=16,
        choices=CharacterSet.choices,
        default=CharacterSet.UNICODE,
        help_text="How queries write letters outside ASCII: Unicode, unless that system cannot.",
    )
    study_quiet_s = models.PositiveIntegerField(
        "quiet time of a study (s)",
        null=True,
        blank=True,
        validators=[MinValueValidator(5), MaxValueValidator(86400)],
        help_text="A study from it is complete when no image came for so many seconds. Empty: as for everybody.",
    )
    is_active = models.BooleanField(default=True)
    last_echo_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_echo_ok = models.BooleanField(null=True, editable=False)
    last_echo_result = models.CharField(max_length=500, blank=True, editable=False)

    objects = RemoteNodeQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["ae_title", "host", "port"], name="node_address")]

    def __str__(self) -> str:
        return f"{self.name} ({self.ae_title})"
