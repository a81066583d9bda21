"""What may be wrong with a request of ours, before any peer is asked."""

from apps.core.errors import PermanentError


class QueryRefusedError(PermanentError):
    """The criteria cannot be asked for. The text says what to change and quotes nothing that was typed."""


class RetrieveRefusedError(PermanentError):
    """The study may not be fetched so. The text says why."""
