"""Patients, studies, series and instances, and what could not become one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex, OpClass
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q

from apps.archive.coercion import ADD, CHARACTER_SETS, LEAVE, REPLACE, Rule
from apps.archive.identity import Identity
from apps.archive.names import format_person_name
from apps.archive.texts import LABEL_LENGTH
from apps.nodes.models import ae_title_validator
from apps.storage.models import Volume
from apps.storage.paths import instance_path

if TYPE_CHECKING:
    from apps.accounts.models import User
    from apps.nodes.rights import Rights

UID_LENGTH = 128  # the standard's limit is 64 (PS3.5 9.1); what real senders make longer is stored all the same


class Patient(models.Model):
    """One person as one issuer knows them (PS3.3 C.2.2).

    Where the Patient ID does not tell who it is, the patient belongs to one study, named by `only_study_uid`: without
    a Patient ID, and where the ID is known with another birth date or name. Else `only_study_uid` is empty.

    Who was found to be one person with another patient has no studies any more: `merged_into` names that patient, who
    is never merged into a third, and what still arrives under the old ID goes there.
    """

    patient_id = models.CharField(max_length=64, db_collation="C", blank=True)
    issuer = models.CharField(max_length=64, db_collation="C", default="", blank=True)
    only_study_uid = models.CharField(max_length=UID_LENGTH, db_collation="C", default="", blank=True)
    name = models.CharField(max_length=400, blank=True, help_text="Component groups separated by = (PS3.5 6.2.1).")
    name_search = models.CharField(max_length=500, blank=True, editable=False)
    birth_date = models.DateField(null=True, blank=True)
    sex = models.CharField(max_length=16, blank=True)
    birth_hmac = models.CharField(max_length=64, blank=True, default="", db_default="", editable=False)
    family_hmacs = ArrayField(models.CharField(max_length=64), default=list, db_default=[], blank=True, editable=False)
    merged_into = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="merged", editable=False
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["issuer", "patient_id", "only_study_uid"], name="patient_identity"),
            models.CheckConstraint(
                condition=~models.Q(patient_id="", only_study_uid=""), name="patient_id_or_only_study"
            ),
        ]
        indexes = [
            GinIndex(OpClass("name_search", name="gin_trgm_ops"), name="patient_name_search"),
            models.Index(OpClass("patient_id", name="text_pattern_ops"), name="patient_id_prefix"),
        ]

    def __str__(self) -> str:
        return f"Patient {self.pk}"

    @property
    def identity(self) -> Identity:
        """What tells this person from another."""
        return Identity(self.birth_hmac, frozenset(self.family_hmacs))

    @property
    def shares_id(self) -> bool:
        """Whether another person is known under the same Patient ID: somebody has to find out who is who."""
        others = Patient.objects.filter(issuer=self.issuer, patient_id=self.patient_id, merged_into=None)
        return bool(self.patient_id and self.only_study_uid) and others.exclude(pk=self.pk).exists()

    @property
    def display_name(self) -> str:
        """The name as people read it: "Family, Given"."""
        return format_person_name(self.name)


class StudyQuerySet(models.QuerySet["Study"]):
    """The only way to studies is `visible_to` for views and tasks, `visible_to_caller` for remote AEs."""

    def visible_to(self, user: User) -> StudyQuerySet:
        """Studies that this user may see; none without the right to see every study (scopes come later)."""
        return self.all() if user.has_perms(["archive.view_study", "archive.view_every_study"]) else self.none()

    def visible_to_caller(self, rights: Rights) -> StudyQuerySet:
        """Studies that a remote AE may see; none unless it may query us (scopes come later)."""
        return self.all() if rights.may_query else self.none()


class Study(models.Model):
    """One study (PS3.3 C.7.2.1) with the counts that the worklist shows, and whether it is still arriving."""

    class Status(models.TextChoices):
        """Nobody says when a study is whole: it is complete until an image says otherwise (`complete.py`)."""

        RECEIVING = "receiving", "Receiving"
        COMPLETE = "complete", "Complete"

    study_instance_uid = models.CharField(max_length=UID_LENGTH, unique=True, db_collation="C")
    patient = models.ForeignKey(Patient, on_delete=models.PROTECT, related_name="studies")
    arrived_as = models.ForeignKey(
        Patient,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        editable=False,
        help_text="Who its images name, where a person decided that it is of another patient.",
    )
    study_date = models.DateField(null=True, blank=True)
    study_time = models.TimeField(null=True, blank=True)
    study_id = models.CharField(max_length=64, blank=True)
    accession_number = models.CharField(max_length=64, blank=True, db_collation="C")
    description = models.CharField(max_length=256, blank=True)
    referring_physician = models.CharField(max_length=400, blank=True)
    institution = models.CharField(max_length=256, blank=True)
    received_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now_add=True, help_text="When the newest instance was stored.")
    series_count = models.PositiveIntegerField(default=0)
    instance_count = models.PositiveIntegerField(default=0)
    size_bytes = models.PositiveBigIntegerField(default=0)
    status = models.CharField(
        max_length=16, choices=Status.choices, default=Status.RECEIVING, db_default=Status.RECEIVING
    )
    completed_at = models.DateTimeField(null=True, blank=True, help_text="Empty while images arrive.")
    reopened_at = models.DateTimeField(null=True, blank=True, help_text="When an image last came after all.")
    reopened_count = models.PositiveIntegerField(default=0, db_default=0)
    expected_instance_count = models.PositiveIntegerField(
        null=True, blank=True, help_text="How many the sender spoke of, where one did."
    )
    coerced_by = models.JSONField(
        default=dict, db_default=models.Value({}, models.JSONField()), editable=False
    )  # what was changed of what its first instance said: {"issuer": key of the coercion rule, …}

    objects = StudyQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "studies"
        permissions = [("view_every_study", "Can view the studies of every department")]
        indexes = [
            models.Index("patient", models.F("study_date").desc(), name="study_of_patient"),
            models.Index(
                models.F("study_date").desc(nulls_last=True),
                models.F("study_time").desc(nulls_last=True),
                models.F("id").desc(),
                name="study_newest",
            ),
            models.Index(OpClass("accession_number", name="text_pattern_ops"), name="study_accession"),
            # By key only: an index on a time would make every batch write a new entry into all indexes (no HOT update)
            models.Index(fields=["id"], name="study_receiving", condition=models.Q(status="receiving")),
        ]

    def __str__(self) -> str:
        return self.study_instance_uid

    @property
    def is_receiving(self) -> bool:
        """Whether more images are likely."""
        return self.status == self.Status.RECEIVING

    @property
    def missing_count(self) -> int:
        """How many of the instances that the sender spoke of have not come."""
        return max(0, (self.expected_instance_count or 0) - self.instance_count)


class ExpectedStudy(models.Model):
    """How many instances a study will have, told before its first one was stored."""

    study_instance_uid = models.CharField(max_length=UID_LENGTH, unique=True, db_collation="C")
    instance_count = models.PositiveIntegerField()
    told_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return self.study_instance_uid


class Series(models.Model):
    """One series (PS3.3 C.7.3.1)."""

    series_instance_uid = models.CharField(max_length=UID_LENGTH, unique=True, db_collation="C")
    study = models.ForeignKey(Study, on_delete=models.PROTECT, related_name="series")
    modality = models.CharField(max_length=16, blank=True)
    series_number = models.IntegerField(null=True, blank=True)
    description = models.CharField(max_length=256, blank=True)
    body_part = models.CharField(max_length=64, blank=True)
    calling_ae_title = models.CharField(max_length=16, blank=True, help_text="Who sent its first instance.")
    instance_count = models.PositiveIntegerField(default=0)
    size_bytes = models.PositiveBigIntegerField(default=0)

    class Meta:
        verbose_name_plural = "series"
        indexes = [
            models.Index(fields=["modality", "study"], name="series_modality"),
            models.Index(fields=["calling_ae_title", "study"], name="series_source"),
        ]
        ordering = [models.F("series_number").asc(nulls_last=True), "id"]

    def __str__(self) -> str:
        return self.series_instance_uid


class Instance(models.Model):
    """One stored SOP Instance; the file store holds its bytes as received (UID: PS3.5 9)."""

    sop_instance_uid = models.CharField(max_length=UID_LENGTH, unique=True, db_collation="C")
    sop_class_uid = models.CharField(max_length=UID_LENGTH)
    transfer_syntax_uid = models.CharField(max_length=UID_LENGTH)
    series = models.ForeignKey(Series, on_delete=models.PROTECT, related_name="instances")
    instance_number = models.IntegerField(null=True, blank=True)
    rows = models.PositiveIntegerField(null=True, blank=True)
    columns = models.PositiveIntegerField(null=True, blank=True)
    number_of_frames = models.PositiveIntegerField(default=1)
    volume = models.ForeignKey(Volume, on_delete=models.PROTECT)  # the path follows from the UIDs
    file_sha256 = models.BinaryField(max_length=32)
    dataset_sha256 = models.BinaryField(max_length=32)
    size_bytes = models.PositiveBigIntegerField()
    file_variant = models.CharField(
        max_length=16,
        blank=True,
        db_default="",
        db_collation="C",
        editable=False,
        help_text="In the file's name behind the UID, where a person chose another file under the same UID.",
    )
    received_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = [models.F("instance_number").asc(nulls_last=True), "id"]

    def __str__(self) -> str:
        return self.sop_instance_uid

    @property
    def path(self) -> Path:
        """Where the file lies."""
        series = self.series
        return Path(self.volume.root) / instance_path(
            series.study.study_instance_uid, series.series_instance_uid, self.sop_instance_uid, self.file_variant
        )

    @property
    def has_pixels(self) -> bool:
        """Whether there is an image to show (PS3.3 C.7.6.3: Rows and Columns are type 1)."""
        return bool(self.rows and self.columns)

    def open_file(self) -> BinaryIO:
        """The stored Part 10 file, open for reading."""
        return self.path.open("rb")


class Decision(models.Model):
    """What a person decided about a conflict, with what undoing it needs.

    `effects` holds primary keys and digests only. The reason is for colleagues: it may speak of a person, so it is
    shown to those who may decide, and goes nowhere else.
    """

    class Action(models.TextChoices):
        """What was done."""

        KEEP = "keep", "Kept apart"
        MERGE = "merge", "Merged: one person"
        REASSIGN = "reassign", "Study given to another patient"
        STORE = "store", "Stored where they belong"
        REPLACE = "replace", "Stored image replaced"

    action = models.CharField(max_length=16, choices=Action.choices)
    case_key = models.CharField(max_length=64, db_collation="C")
    reason = models.CharField(max_length=500, blank=True)
    effects = models.JSONField(default=dict)
    decided_by = models.CharField(max_length=150)
    decided_at = models.DateTimeField(auto_now_add=True)
    undone_by = models.CharField(max_length=150, blank=True)
    undone_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["case_key"], name="decision_of_case")]

    def __str__(self) -> str:
        return f"Decision {self.pk}: {self.action}"


class AcceptedSender(models.Model):
    """Data sets that name another patient or study, and that belong to this study all the same: a person decided so.

    `named_patient` is a digest of the issuer and the Patient ID that they name (`identity.sender_token`).
    """

    study = models.ForeignKey(Study, on_delete=models.PROTECT, related_name="accepted_senders")
    named_study_uid = models.CharField(max_length=UID_LENGTH, db_collation="C")
    named_patient = models.CharField(max_length=64, db_collation="C")
    decision = models.ForeignKey(Decision, on_delete=models.PROTECT, related_name="accepted_senders")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["study", "named_study_uid", "named_patient"], name="accepted_sender_once")
        ]

    def __str__(self) -> str:
        return f"Accepted sender {self.pk}"


class ConflictQuerySet(models.QuerySet["Conflict"]):
    """Open ones wait for a person."""

    def open(self) -> ConflictQuerySet:
        """Not decided, or decided and undone."""
        return self.filter(resolved_at=None)


class Conflict(models.Model):
    """What a person has to decide: a file that arrived and was kept aside, or a patient who may be somebody else.

    A file is kept aside because storing it would have changed or mixed what is known; `held_file` is its name in the
    quarantine folder. Of a patient conflict the images are stored: `patient` has the Patient ID of `other_patient`,
    and clearly another birth date or family name. A reported one asks whether a stored study is really of `patient`.
    Conflicts with one `case_key` are decided together. Nothing here describes a person: the file does.
    """

    class Kind(models.TextChoices):
        """What is wrong."""

        UNREADABLE = "unreadable", "Not readable as DICOM"
        INSTANCE = "instance", "Known SOP Instance UID, other content"
        STUDY = "study", "Known Study Instance UID, other patient"
        SERIES = "series", "Known Series Instance UID, other study"
        PATIENT = "patient", "Known Patient ID, other person"
        REPORTED = "reported", "Wrong patient, as staff say"

    kind = models.CharField(max_length=16, choices=Kind.choices)
    case_key = models.CharField(max_length=64, db_collation="C")
    reason = models.CharField(max_length=300)
    held_file = models.CharField(max_length=100, unique=True, null=True)
    file_sha256 = models.BinaryField(max_length=32, null=True)
    size_bytes = models.PositiveBigIntegerField(default=0)
    sop_instance_uid = models.CharField(max_length=UID_LENGTH, blank=True, db_collation="C", db_index=True)
    series_instance_uid = models.CharField(max_length=UID_LENGTH, blank=True, db_collation="C")
    study_instance_uid = models.CharField(max_length=UID_LENGTH, blank=True, db_collation="C")
    calling_ae_title = models.CharField(max_length=16, blank=True)
    patient = models.ForeignKey(Patient, on_delete=models.PROTECT, null=True, related_name="+")
    other_patient = models.ForeignKey(Patient, on_delete=models.PROTECT, null=True, related_name="+")
    received_at = models.DateTimeField(auto_now_add=True)
    resolved_at = models.DateTimeField(null=True, blank=True)
    decision = models.ForeignKey(Decision, on_delete=models.PROTECT, null=True, related_name="conflicts")

    objects = ConflictQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        permissions = [("decide_conflict", "Can compare and decide conflicts")]
        constraints = [
            models.UniqueConstraint(fields=["file_sha256"], name="conflict_once_per_content"),
            models.UniqueConstraint(
                fields=["study_instance_uid"], condition=Q(kind="patient"), name="patient_conflict_once_per_study"
            ),
            models.UniqueConstraint(
                fields=["study_instance_uid"],
                condition=Q(kind="reported", resolved_at=None),
                name="reported_conflict_once_per_study",
            ),
            models.CheckConstraint(
                condition=Q(kind="patient", held_file=None, patient__isnull=False, other_patient__isnull=False)
                | Q(kind="reported", held_file=None, patient__isnull=False)
                | (~Q(kind__in=["patient", "reported"]) & Q(held_file__isnull=False, file_sha256__isnull=False)),
                name="conflict_file_or_patients",
            ),
        ]
        indexes = [
            models.Index(fields=["case_key"], name="conflict_open_case", condition=Q(resolved_at=None)),
            models.Index(fields=["case_key", "decision"], name="conflict_case"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.sop_instance_uid or self.study_instance_uid or self.held_file}"

    @property
    def held_path(self) -> Path | None:
        """Where the held file lies."""
        return settings.QUARANTINE_DIR / self.held_file if self.held_file else None


class CoercionRule(models.Model):
    """What the database is told instead of what a sender leaves out or gets wrong (`coercion.py`).

    Studies remember the rules that made their identity, so what a rule does never changes: who edits that makes a new
    rule, and the old one is retired (`replace_rule`).
    """

    class IssuerAction(models.TextChoices):
        """What becomes of the issuer."""

        LEAVE = LEAVE, "Leave as sent"
        ADD = ADD, "Add where there is none"
        REPLACE = REPLACE, "Replace always"

    EFFECT = ("calling_ae_title", "issuer_action", "issuer", "patient_id_prefix", "character_set")

    _text = RegexValidator(r"^[^\\\x00-\x1f\x7f-\x9f]*$", "No backslash, no control character (PS3.5 6.2).")

    name = models.CharField(max_length=100, help_text="What staff read beside a study that it changed.")
    calling_ae_title = models.CharField(
        "calling AE title",
        max_length=16,
        blank=True,
        validators=[ae_title_validator],
        help_text="Exactly as it is sent; capitals matter. Empty: every sender.",
    )
    position = models.PositiveSmallIntegerField(
        "order", default=100, help_text="The lowest first. For each question the first rule that answers it decides."
    )
    is_active = models.BooleanField(default=True)
    issuer_action = models.CharField(
        "issuer of Patient ID", max_length=8, choices=IssuerAction.choices, default=LEAVE, blank=True
    )
    issuer = models.CharField("this issuer", max_length=64, blank=True, validators=[_text], help_text="(0010,0021)")
    patient_id_prefix = models.CharField(
        "prefix of Patient ID",
        max_length=16,
        blank=True,
        validators=[_text],
        help_text="Put before every Patient ID that does not begin with it already.",
    )
    character_set = models.CharField(
        "character set",
        max_length=16,
        blank=True,
        choices={"": "Leave it to guessing", **CHARACTER_SETS},
        help_text="How texts are read where the data set names no Specific Character Set.",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    retired_at = models.DateTimeField(null=True, blank=True, editable=False)
    replaced_by = models.ForeignKey("self", on_delete=models.PROTECT, null=True, blank=True, editable=False)

    class Meta:
        ordering = [models.F("retired_at").desc(nulls_first=True), "position", "id"]
        constraints = [
            models.UniqueConstraint(fields=["name"], condition=models.Q(retired_at=None), name="coercion_rule_name"),
            models.CheckConstraint(
                condition=models.Q(retired_at=None) | models.Q(is_active=False), name="retired_rule_is_not_active"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """A rule does something, says which issuer, and has a name of its own."""
        if CoercionRule.objects.filter(name=self.name, retired_at=None).exclude(pk=self.pk).exists():
            raise ValidationError({"name": "Another rule has this name."})
        if not (self.issuer_action or self.patient_id_prefix or self.character_set):
            raise ValidationError("The rule does nothing yet: choose an issuer, a prefix or a character set.")
        if self.issuer_action and not self.issuer:
            raise ValidationError({"issuer": "Which issuer?"})
        if self.issuer and not self.issuer_action:
            raise ValidationError({"issuer_action": "Say whether this issuer is added or replaces what was sent."})

    @property
    def effect(self) -> str:
        """What it does, in one line."""
        words = {ADD: f"issuer {self.issuer} where none is sent", REPLACE: f"issuer {self.issuer}"}
        parts = [
            words.get(self.issuer_action, ""),
            self.patient_id_prefix and f"prefix {self.patient_id_prefix}",
            self.character_set and f"texts as {self.character_set} where nothing else is said",
        ]
        return ", ".join(part for part in parts if part)

    def as_rule(self) -> Rule:
        """As it acts; the key of one that is not saved is 0."""
        return Rule(self.pk or 0, **{name: getattr(self, name) for name in self.EFFECT})


class DoubtfulText(models.Model):
    """A study whose texts do not seem to be written as its files say (PS3.3 C.12.1.1.2), and what people decided.

    Files of the study that name the character set `labelled` are read in the set `assumed`, where that is not empty.
    `previous` is what was assumed before; `wanted` is what shall be from now on, until that is carried out (empty: as
    labelled). Nothing here describes a person: the bytes of the texts stay in the stored files, which never change.
    """

    class Reason(models.TextChoices):
        """What was found (`charset_doubts.Doubt`)."""

        MISSING = "missing", "Texts are not plain ASCII"
        UNKNOWN = "unknown", "Unknown character set"
        IMPOSSIBLE = "impossible", "Bytes that the character set does not have"
        UNICODE = "unicode", "Looks like Unicode"
        UNLIKELY = "unlikely", "Looks like another alphabet"

    class State(models.TextChoices):
        """What was decided."""

        OPEN = "open", "To decide"
        REPAIRED = "repaired", "Repaired"
        RIGHT = "right", "Right as it is"

    class Problem(models.TextChoices):
        """What a repair had to leave."""

        TAKEN = "taken", "Patient ID left as it was: the repaired one belongs to another patient"
        SHARED = "shared", "Patient ID left as it was until the other studies of the patient are repaired alike"
        CHANGED = "changed", "Patient ID left as it was: it is not the one that the files name"
        UNREADABLE = "unreadable", "Not repaired: a stored file cannot be read"

    study = models.OneToOneField(Study, on_delete=models.CASCADE, related_name="doubtful_text")
    calling_ae_title = models.CharField(max_length=16, blank=True, help_text="Who sent the file in doubt.")
    labelled = models.CharField(max_length=LABEL_LENGTH, blank=True)
    reason = models.CharField(max_length=16, choices=Reason.choices)
    state = models.CharField(max_length=16, choices=State.choices, default=State.OPEN)
    assumed = models.CharField(max_length=32, blank=True)
    previous = models.CharField(max_length=32, blank=True)
    wanted = models.CharField(max_length=32, null=True, blank=True)
    problem = models.CharField(max_length=16, choices=Problem.choices, blank=True)
    found_at = models.DateTimeField(auto_now_add=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL)

    class Meta:
        permissions = [("repair_text", "Can repair texts with a wrong character set")]
        indexes = [
            models.Index(fields=["calling_ae_title", "labelled", "state"], name="doubtful_text_group"),
            models.Index(fields=["id"], condition=models.Q(wanted__isnull=False), name="doubtful_text_wanted"),
        ]

    def __str__(self) -> str:
        return f"Texts of study {self.study_id}"
