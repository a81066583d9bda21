"""Adding to the trail: in the transaction of what was done, so that both happen or neither does."""

from collections.abc import Mapping, Sequence

from apps.audit.models import AuditEvent

Detail = Mapping[str, int | str | None | Sequence[int] | Sequence[str]]


def record(
    actor: str,
    action: str,
    object_kind: str,
    object_key: int | str,
    detail: Detail | None = None,
    remote_address: str | None = None,
) -> None:
    """Write one event. detail holds primary keys, UIDs and codes: nothing that describes a person, no free text."""
    AuditEvent.objects.create(
        actor=actor,
        action=action,
        object_kind=object_kind,
        object_key=str(object_key),
        detail=dict(detail or {}),
        remote_address=remote_address,
    )
