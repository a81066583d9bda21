"""Other DICOM application entities that we talk to."""

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models

ae_title_validator = RegexValidator(
    r"^(?! +$)[ -\[\]-~]{1,16}$", "1 to 16 printable ASCII characters without backslash (PS3.5 6.2, AE)."
)


class RemoteNode(models.Model):
    """One remote AE: where it is, and what it and we may do with each other."""

    name = models.CharField(max_length=100, unique=True, help_text="What staff read, for example: Main PACS.")
    ae_title = models.CharField("AE title", max_length=16, validators=[ae_title_validator])
    host = models.CharField(max_length=255, help_text="Host name or address.")
    port = models.PositiveIntegerField(default=104, validators=[MinValueValidator(1), MaxValueValidator(65535)])
    may_send = models.BooleanField("may send to us", default=True, help_text="We accept C-STORE from it.")
    may_be_queried = models.BooleanField(default=False, help_text="We send C-FIND to it.")
    may_be_retrieved_from = models.BooleanField(default=False, help_text="We send C-MOVE to it.")
    is_active = models.BooleanField(default=True)
    last_echo_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_echo_result = models.CharField(max_length=300, blank=True, editable=False)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["ae_title", "host", "port"], name="node_address")]

    def __str__(self) -> str:
        return f"{self.name} ({self.ae_title})"
