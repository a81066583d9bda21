"""The roots of every error of this project: its type answers "may a retry help?"."""


class DicomsysError(Exception):
    """Root of all errors of this project. The text carries UIDs and AE titles, never what describes a person."""


class RetryableError(DicomsysError):
    """What failed may work later: a peer was away, a disk was full, a row was held."""


class PermanentError(DicomsysError):
    """A retry cannot help: the input or the set-up has to change first."""
