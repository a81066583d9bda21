"""Loading default rows without undoing what an administrator changed."""

from pathlib import Path

from django.conf import settings
from django.core import serializers
from django.core.serializers.base import DeserializedObject


def load_missing(name: str) -> int:
    """Save the objects of fixtures/<name>.json that do not exist yet; returns how many. Others stay as they are."""
    path = Path(settings.FIXTURE_DIRS[0]) / f"{name}.json"
    created = 0
    for row in serializers.deserialize("json", path.read_text(encoding="utf-8")):
        if not _exists(row):
            row.save()
            created += 1
    return created


def _exists(row: DeserializedObject) -> bool:
    model = type(row.object)
    if row.object.pk is not None:  # the fixture names it, or its natural key was found
        return model._default_manager.filter(pk=row.object.pk).exists()
    return False
