"""Other DICOM application entities that we talk to, who else tried to, and how much came from whom."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models

ae_title_validator = RegexValidator(
    r"^(?! +$)[ -\[\]-~]{1,16}$", "1 to 16 printable ASCII characters without backslash (PS3.5 6.2, AE)."
)
host_validator = RegexValidator(
    r"^[A-Za-z0-9]([A-Za-z0-9._:-]*[A-Za-z0-9.])?$|^::[0-9A-Fa-f:.]*$",
    "A host name or an IP address, without http:// and without the port.",
)


def split_addresses(text: str) -> list[str]:
    """The entries of a list that people write with commas, spaces or line ends between."""
    return text.replace(",", " ").split()


def validate_addresses(text: str) -> None:
    """Every entry is an IP address or a network. Raises ValidationError, naming those that are not."""
    wrong = [entry for entry in split_addresses(text) if not _is_network(entry)]
    if wrong:
        raise ValidationError(
            "Neither an address nor a network: %(entries)s. Write for example 10.0.0.7 or 10.0.0.0/24.",
            params={"entries": ", ".join(wrong)},
        )


def _is_network(entry: str) -> bool:
    try:
        ip_network(entry)
    except ValueError:
        return False
    return True


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


class RuleQuerySet(models.QuerySet[Any]):
    """Rows that decide who may connect: what changes many at once tells the receiver too, as saving one does."""

    def update(self, **values: Any) -> int:
        """As Django's; the rules follow on commit."""
        changed = super().update(**values)
        if self.model.RULE_FIELDS & values.keys():
            _publish_on_commit()
        return changed

    def bulk_create(self, objs: Iterable[Any], *args: Any, **options: Any) -> list[Any]:
        """As Django's; the rules follow on commit."""
        created = super().bulk_create(objs, *args, **options)
        _publish_on_commit()
        return created

    def bulk_update(self, objs: Iterable[Any], fields: Iterable[str], *args: Any, **options: Any) -> int:
        """As Django's; the rules follow on commit."""
        changed = super().bulk_update(objs, fields, *args, **options)
        _publish_on_commit()
        return changed


def _publish_on_commit() -> None:
    from apps.nodes.snapshot import publish_on_commit  # which reads these models

    publish_on_commit()


class RemoteNodeQuerySet(RuleQuerySet, models.QuerySet["RemoteNode"]):
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
    may_query = models.BooleanField("may query us", default=False, help_text="We answer its C-FIND.")
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
    check_address = models.BooleanField(
        "check its address",
        default=True,
        help_text="We accept it from its own addresses only. Switch off for a device whose address changes (DHCP).",
    )
    sender_addresses = models.CharField(
        "addresses it sends from",
        max_length=1000,
        blank=True,
        validators=[validate_addresses],
        help_text="Addresses or networks such as 10.0.0.7, 10.0.1.0/24. Empty: the addresses of its host.",
    )
    max_associations = models.PositiveSmallIntegerField(
        "associations at once",
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Empty: no limit but the one of the whole system.",
    )
    requires_tls = models.BooleanField("must use TLS", default=False, help_text="We accept it through DICOM TLS only.")
    identity_username = models.CharField(
        "user name",
        max_length=200,
        blank=True,
        help_text="What it has to send as user identity (PS3.7 D.3.3.7), where this system checks that.",
    )
    identity_password_hash = models.CharField(max_length=256, blank=True, editable=False)
    resolved_host = models.CharField(max_length=255, blank=True, editable=False)
    resolved_addresses = models.CharField("addresses of its host", max_length=2000, blank=True, editable=False)
    resolution_error = models.CharField("looking up its host", max_length=200, blank=True, editable=False)
    last_echo_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_echo_ok = models.BooleanField(null=True, editable=False)
    last_echo_result = models.CharField(max_length=500, blank=True, editable=False)

    objects = RemoteNodeQuerySet.as_manager()

    RULE_FIELDS = frozenset(
        {"ae_title", "host", "may_send", "is_active", "check_address", "sender_addresses", "max_associations"}
        | {"requires_tls", "identity_username", "identity_password_hash", "resolved_host", "resolved_addresses"}
    )

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["ae_title", "host", "port"], name="node_address")]

    def __str__(self) -> str:
        return f"{self.name} ({self.ae_title})"

    @property
    def allowed_addresses(self) -> list[str]:
        """The addresses and networks it may connect from; those of its host where none are written down."""
        return split_addresses(self.sender_addresses) or self.host_addresses

    @property
    def host_addresses(self) -> list[str]:
        """What its host name was found to be; nothing when that was another name."""
        return split_addresses(self.resolved_addresses) if self.resolved_host == self.host else []


class CalledTitle(models.Model):
    """One more AE title that we answer to, beside our own."""

    ae_title = models.CharField(
        "AE title",
        max_length=16,
        unique=True,
        validators=[ae_title_validator],
        help_text="What senders call us, beside our own AE title; capitals matter.",
    )
    description = models.CharField(max_length=200, blank=True, help_text="Who calls us so, for example.")

    objects = RuleQuerySet.as_manager()

    RULE_FIELDS = frozenset({"ae_title"})

    class Meta:
        ordering = ["ae_title"]
        verbose_name = "further AE title of ours"
        verbose_name_plural = "further AE titles of ours"
        default_permissions = ()  # those of the nodes decide

    def __str__(self) -> str:
        return self.ae_title


class RejectedCaller(models.Model):
    """Who asked for an association and was rejected, and why; texts hold printable ASCII only, whatever was sent."""

    calling_ae_title = models.CharField("calling AE title", max_length=64, db_collation="C")
    called_ae_title = models.CharField("called AE title", max_length=64, db_collation="C")
    address = models.CharField(max_length=64, db_collation="C")
    is_tls = models.BooleanField("TLS", default=False)
    reason = models.CharField(max_length=200, db_collation="C")
    first_seen_at = models.DateTimeField("first seen")
    last_seen_at = models.DateTimeField("last seen", db_index=True)
    count = models.PositiveBigIntegerField("times")

    class Meta:
        ordering = ["-last_seen_at", "-pk"]
        default_permissions = ()  # those of the nodes decide
        constraints = [
            models.UniqueConstraint(
                fields=["calling_ae_title", "called_ae_title", "address", "is_tls", "reason"], name="rejected_caller"
            )
        ]
        indexes = [models.Index(fields=["address", "-last_seen_at"], name="rejected_by_address")]

    def __str__(self) -> str:
        return f"{self.calling_ae_title or 'no AE title'} at {self.address or 'several addresses'}"


class TrafficMinute(models.Model):
    """What came from one calling AE title within one minute; an empty title stands for callers that are no nodes."""

    calling_ae_title = models.CharField("calling AE title", max_length=64, db_collation="C")
    minute = models.DateTimeField(db_index=True)
    address = models.CharField("last address", max_length=64, blank=True)
    associations = models.PositiveBigIntegerField(default=0)
    instances = models.PositiveBigIntegerField(default=0)
    size_bytes = models.PositiveBigIntegerField("bytes", default=0)
    rejections = models.PositiveBigIntegerField(default=0)
    refusals = models.PositiveBigIntegerField("refused C-STOREs", default=0)

    class Meta:
        verbose_name = "traffic"
        verbose_name_plural = "traffic"
        default_permissions = ()  # those of the nodes decide
        constraints = [models.UniqueConstraint(fields=["calling_ae_title", "minute"], name="traffic_minute")]

    def __str__(self) -> str:
        return f"{self.calling_ae_title} {self.minute:%Y-%m-%d %H:%M}"


class RefusalMinute(models.Model):
    """Why associations were rejected (a reason in words) or C-STOREs refused (a status), counted by minute."""

    calling_ae_title = models.CharField(max_length=64, db_collation="C")
    minute = models.DateTimeField(db_index=True)
    dimse_status = models.PositiveIntegerField(default=0, help_text="0: the association itself was rejected.")
    reason = models.CharField(max_length=200, blank=True, db_collation="C")
    count = models.PositiveBigIntegerField()

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(
                fields=["calling_ae_title", "minute", "dimse_status", "reason"], name="refusal_minute"
            )
        ]

    def __str__(self) -> str:
        return f"{self.calling_ae_title} {self.minute:%Y-%m-%d %H:%M} {self.reason or hex(self.dimse_status)}"


class FoldedFile(models.Model):
    """A file of the receiver's journal that is in the tables; written in the same transaction as its counts."""

    name = models.CharField(max_length=100, primary_key=True)
    folded_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.name
