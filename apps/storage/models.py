"""Where stored objects lie."""

from django.db import models


class Volume(models.Model):
    """One folder (a disk or a mounted share) of the file store. New objects go to the first writable one."""

    name = models.CharField(max_length=50, unique=True)
    root = models.CharField(max_length=500, unique=True, help_text="Absolute path of the folder.")
    position = models.PositiveSmallIntegerField(default=1, help_text="Volumes fill in this order.")
    is_writable = models.BooleanField(default=True)

    class Meta:
        ordering = ["position", "id"]

    def __str__(self) -> str:
        return self.name
