"""The security trail (PS3.15 A.5): who did what to which object. Rows are added, never changed, never removed."""

from django.db import models


class AuditEvent(models.Model):
    """One thing that was done. It names objects by UIDs and primary keys, and describes nobody.

    The actor is kept as text, so the row outlives the account. The application's database role may insert and read,
    and no more.
    """

    occurred_at = models.DateTimeField(auto_now_add=True)
    actor = models.CharField(max_length=150, help_text="A user name, an AE title, or the part of the program.")
    action = models.CharField(max_length=60, db_collation="C", help_text="object.verb, such as conflict.merged.")
    object_kind = models.CharField(max_length=40, db_collation="C")
    object_key = models.CharField(max_length=128, db_collation="C", help_text="A UID or a primary key.")
    detail = models.JSONField(default=dict)
    remote_address = models.GenericIPAddressField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["object_kind", "object_key"], name="audit_object"),
            models.Index(fields=["occurred_at"], name="audit_time"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.object_kind} {self.object_key}"
