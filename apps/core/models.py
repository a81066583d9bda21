"""The outbox: what has been asked for and not yet handed to the broker."""

from django.db import models


class Outbox(models.Model):
    """One task to publish: its name and primary keys, never what describes a person."""

    task_name = models.CharField(max_length=100)
    arguments = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "outbox"
        indexes = [models.Index("id", name="outbox_unsent", condition=models.Q(sent_at=None))]

    def __str__(self) -> str:
        return f"{self.task_name} {self.arguments}"
