"""What may go wrong with a peer: now (a retry may help) or as things are set up (it cannot)."""

from apps.core.errors import DicomsysError, PermanentError, RetryableError
from apps.nodes.status import is_retryable, meaning_of


class DimseStatusError(DicomsysError):
    """A peer answered with a Failure status, `status` (16 bits, PS3.7 Annex C)."""

    def __init__(self, service: str, status: int) -> None:
        super().__init__(f"{service} answered 0x{status:04X}: {meaning_of(service, status)}")
        self.service = service
        self.status = status
        self.retryable = is_retryable(service, status)


class PeerUnavailableError(RetryableError):
    """The peer could not be reached, broke off, or said that it cannot now. The text says what to check."""


class PeerRefusedError(PermanentError):
    """The peer answered and will not, as things are set up. The text says what to change."""


def peer_error(text: str, status_error: DimseStatusError) -> DicomsysError:
    """What to raise `from` a failure status: PeerUnavailableError where a retry may help, else PeerRefusedError."""
    return PeerUnavailableError(text) if status_error.retryable else PeerRefusedError(text)
