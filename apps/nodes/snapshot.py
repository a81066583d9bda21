"""Who may connect, written where the receiver reads it: one signed file, so that it needs no database.

Everything that changes a rule publishes after its commit. What changes rows past Django is healed by beat, which
also looks up the host names again; the receiver itself never asks a name server.
"""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection, transaction

from apps.nodes.models import CalledTitle, RemoteNode
from apps.nodes.resolving import Resolution, resolve
from apps.nodes.signed import UnfitFileError, read_signed, write_signed
from apps.nodes.titles import bare

logger = logging.getLogger(__name__)

VERSION = 1
ADDRESSES_MAX = 40  # of one host name
_LOOKED_UP = ("host", "resolved_host", "resolved_addresses", "resolution_error")


def rules_file() -> Path:
    """Where the receiver looks."""
    return Path(settings.DATA_DIR) / "rules" / "callers.json"


def publish_on_commit() -> None:
    """Publish the rules once when the transaction at hand commits; a failure is logged and healed by beat."""
    if not any(entry[1] is publish_rules for entry in connection.run_on_commit):
        transaction.on_commit(publish_rules, robust=True)


def publish_rules(*, look_up_again: bool = False) -> bool:
    """Bring the file up to date with the tables; returns whether it had to be written. Raises OSError.

    Looks up the host names that are new, or all of them, which takes up to 5 s. Not for use within a transaction.
    """
    _look_up_hosts(again=look_up_again)
    path = rules_file()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _one_writer(path):  # who comes second reads later, so the file never goes back
        rules = collect_rules()
        if _written(path) == rules:
            return False
        write_signed(path, rules, settings.RULES_KEY)
    logger.info("rules for %d callers written", len(rules["callers"]))
    return True


def collect_rules() -> dict[str, Any]:
    """What the receiver has to know, from the tables: plain JSON values."""
    nodes = RemoteNode.objects.filter(is_active=True).order_by("pk")
    titles = CalledTitle.objects.values_list("ae_title", flat=True)
    return {
        "version": VERSION,
        "called": sorted(bare(title) for title in titles),
        "callers": [_caller(node) for node in nodes],
    }


def is_published() -> bool:
    """Whether the file says what the tables say."""
    return _written(rules_file()) == collect_rules()


def _caller(node: RemoteNode) -> dict[str, Any]:
    identity = {"username": node.identity_username, "password_hash": node.identity_password_hash}
    return {
        "node": node.pk,
        "ae_title": bare(node.ae_title),
        "networks": node.allowed_addresses if node.check_address else None,
        "may_send": node.may_send,
        "max_associations": node.max_associations,
        "requires_tls": node.requires_tls,
        "identity": identity if node.identity_username else None,
    }


def _written(path: Path) -> dict[str, Any] | None:
    try:
        return read_signed(path, settings.RULES_KEY)
    except FileNotFoundError:
        return None
    except (UnfitFileError, OSError) as error:
        logger.warning("%s is not usable and will be replaced: %s", path.name, error)
        return None


@contextmanager
def _one_writer(path: Path) -> Iterator[None]:
    with os.fdopen(os.open(path.with_suffix(".lock"), os.O_WRONLY | os.O_CREAT, 0o600), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _look_up_hosts(again: bool) -> None:
    nodes = list(RemoteNode.objects.filter(is_active=True, check_address=True).only(*_LOOKED_UP))
    due = [node for node in nodes if again or node.resolved_host != node.host]
    answers = resolve(node.host for node in due)
    for node in due:
        _keep(node, answers[node.host])


def _keep(node: RemoteNode, found: Resolution) -> None:
    """A name server that is away takes no caller away: the last addresses of the same name stay."""
    addresses = " ".join(found.addresses[:ADDRESSES_MAX] or node.host_addresses)
    new = {"resolved_host": node.host, "resolved_addresses": addresses, "resolution_error": found.error}
    if any(getattr(node, field) != value for field, value in new.items()):
        # not through `objects`, which would publish: that is what we do
        RemoteNode._base_manager.filter(pk=node.pk, host=node.host).update(**new)
