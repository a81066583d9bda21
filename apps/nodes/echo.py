"""C-ECHO (PS3.7 9.1.5): does the peer answer, and if not, what should be checked?"""

import time
from dataclasses import dataclass

from django.utils import timezone
from pydicom.uid import UID

from apps.core.errors import DicomsysError
from apps.nodes.associations import Peer, associate, describe
from apps.nodes.errors import DimseStatusError
from apps.nodes.models import RemoteNode
from apps.nodes.status import SUCCESS

VERIFICATION = UID("1.2.840.10008.1.1")


@dataclass(frozen=True)
class EchoResult:
    """What came of one C-ECHO: `text` is for people and says what to check; `duration_ms` is the whole association."""

    ok: bool
    text: str
    duration_ms: int


def echo(peer: Peer) -> EchoResult:
    """Send one C-ECHO. Never raises for what a peer or a network does: that is the result."""
    started = time.monotonic()
    try:
        _send_echo(peer)
    except DicomsysError as error:
        return EchoResult(False, str(error), _ms_since(started))
    duration_ms = _ms_since(started)
    return EchoResult(True, f"{describe(peer)} answered in {duration_ms} ms.", duration_ms)


def verify_node(node: RemoteNode) -> EchoResult:
    """Send one C-ECHO and keep its result in the node."""
    result = echo(node)
    node.last_echo_at, node.last_echo_ok, node.last_echo_result = timezone.now(), result.ok, result.text[:500]
    node.save(update_fields=["last_echo_at", "last_echo_ok", "last_echo_result"])
    return result


def _send_echo(peer: Peer) -> None:
    with associate(peer, [VERIFICATION]) as link:
        status = link.status_of("C-ECHO", link.ready("C-ECHO").send_c_echo())
    if status != SUCCESS:
        raise DimseStatusError("C-ECHO", status)


def _ms_since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
