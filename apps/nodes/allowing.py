"""Learning from who was rejected: what has to change so that a caller may connect, in words first, then in the rows."""

from dataclasses import dataclass
from ipaddress import ip_network

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction

from apps.core.errors import PermanentError
from apps.nodes.models import CalledTitle, RejectedCaller, RemoteNode, ae_title_validator
from apps.nodes.reasons import MENDED_BY_ALLOWING
from apps.nodes.titles import Address, bare, read_address

DEFAULT_PORT = 104


class CannotAllowError(PermanentError):
    """Allowing would not help, or cannot be done so; the text says why."""


@dataclass(frozen=True)
class Way:
    """One way to allow a caller: through `node`, which need not be saved yet, and what that means in sentences."""

    node: RemoteNode
    sentences: tuple[str, ...]

    @property
    def key(self) -> str:
        """What a form calls it."""
        return str(self.node.pk or "new")


def hindrance(caller: RejectedCaller) -> str:
    """Why one click cannot allow this caller; empty where it can."""
    if caller.reason not in MENDED_BY_ALLOWING:
        return f"It was rejected because {caller.reason}: that is not mended by allowing it."
    if not _is_ae_title(caller.calling_ae_title):
        return "What it calls itself is no AE title (PS3.5 6.2): it has to be corrected on that system."
    if read_address(caller.address) is None:
        return "Its address is not known."
    if _is_called_wrongly(caller) and not _is_ae_title(caller.called_ae_title):
        return "What it calls us is no AE title (PS3.5 6.2): it has to be corrected on that system."
    return ""


def ways_to_allow(caller: RejectedCaller) -> list[Way]:
    """Through each node of that AE title, or through a new one."""
    address = read_address(caller.address)
    if address is None:
        return []
    nodes = [node for node in RemoteNode.objects.order_by("name") if bare(node.ae_title) == caller.calling_ae_title]
    ways = [Way(node, (*_called_sentence(caller), *_extend(node, address))) for node in nodes]
    new = _new_node(caller.calling_ae_title, address)
    sentence = f"A new node “{new.name}” with the AE title {new.ae_title} at {new.host} may send to us."
    return [*ways, Way(new, (*_called_sentence(caller), sentence))]


@transaction.atomic
def allow(caller: RejectedCaller, key: str) -> RemoteNode:
    """Allow it in the way that `key` names, and forget that it was rejected; returns the node, changed or new.

    Raises CannotAllowError; the receiver follows on commit.
    """
    if reason := hindrance(caller):
        raise CannotAllowError(reason)
    way = next((way for way in ways_to_allow(caller) if way.key == key), None)
    if way is None:
        raise CannotAllowError("That node is no longer there, or has another AE title now.")
    try:
        way.node.full_clean()
    except ValidationError as error:
        raise CannotAllowError(f"The node cannot hold this: {' '.join(error.messages)}") from error
    way.node.save()
    if _is_called_wrongly(caller):
        CalledTitle.objects.create(
            ae_title=caller.called_ae_title, description=f"As {caller.calling_ae_title} calls us."
        )
    same = RejectedCaller.objects.filter(calling_ae_title=caller.calling_ae_title, address=caller.address)
    same.filter(called_ae_title=caller.called_ae_title, reason__in=MENDED_BY_ALLOWING).delete()
    return way.node


def _is_ae_title(text: str) -> bool:
    try:
        ae_title_validator(text)
    except ValidationError:
        return False
    return True


def _is_called_wrongly(caller: RejectedCaller) -> bool:
    ours = {settings.AE_TITLE, *CalledTitle.objects.values_list("ae_title", flat=True)}
    return caller.called_ae_title not in {bare(title) for title in ours}


def _called_sentence(caller: RejectedCaller) -> list[str]:
    if not _is_called_wrongly(caller):
        return []
    return [f"We answer to the AE title {caller.called_ae_title} too, whoever calls us so."]


def _extend(node: RemoteNode, address: Address) -> list[str]:
    """Change the node, unsaved, and tell what changed."""
    sentences = []
    if not node.is_active:
        node.is_active = True
        sentences.append(f"The node “{node.name}” is switched on.")
    if not node.may_send:
        node.may_send = True
        sentences.append(f"The node “{node.name}” may send to us.")
    before = node.allowed_addresses
    if node.check_address and not any(address in ip_network(network) for network in before):
        node.sender_addresses = ", ".join([*before, str(address)])
        beside = f" beside {', '.join(before)}" if before else ", and from nowhere else"
        sentences.append(f"The node “{node.name}” may connect from {address}{beside}.")
    return sentences or [f"The node “{node.name}” lets it in already; no rule changes."]


def _new_node(ae_title: str, address: Address) -> RemoteNode:
    return RemoteNode(name=_free_name(ae_title), ae_title=ae_title, host=str(address), port=DEFAULT_PORT)


def _free_name(name: str) -> str:
    taken = set(RemoteNode.objects.filter(name__startswith=name).values_list("name", flat=True))
    names = [name, *(f"{name} {number}" for number in range(2, len(taken) + 3))]
    return next(each for each in names if each not in taken)
