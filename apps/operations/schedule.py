"""Beat's entries in the database: the administrator owns them once they exist."""

from django.conf import settings
from django_celery_beat.models import IntervalSchedule, PeriodicTask

SHORTEST_EXPIRY_S = 30


def create_missing_entries() -> int:
    """Create the default entries that do not exist; returns how many. Existing ones are never touched.

    A message that is not taken by the time the next is due expires: after a broker's pause nobody needs fifty sweeps.
    """
    created = 0
    for task_name, every_s, description in settings.DEFAULT_SCHEDULE:
        if PeriodicTask.objects.filter(name=task_name).exists():
            continue
        interval, _ = IntervalSchedule.objects.get_or_create(every=every_s, period=IntervalSchedule.SECONDS)
        expiry_s = max(every_s, SHORTEST_EXPIRY_S)
        PeriodicTask.objects.create(
            name=task_name, task=task_name, interval=interval, expire_seconds=expiry_s, description=description
        )
        created += 1
    return created
