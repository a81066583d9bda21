"""Why the receiver rejects an association, in words that name nobody; the administration knows them too."""

WRONG_CALLED = "it calls us by an AE title that is not ours"
UNKNOWN = "no active node has its AE title"
WRONG_ADDRESS = "its node has another address"
MAY_NOT_SEND = "its node may not send to us"
NO_TLS = "its node must use TLS"
NO_IDENTITY = "it sent no user name, and its node must"
WRONG_IDENTITY = "its user name or password is wrong"
OTHER_IDENTITY = "it proves its user in a way that is not supported here"

MENDED_BY_ALLOWING = frozenset({WRONG_CALLED, UNKNOWN, WRONG_ADDRESS, MAY_NOT_SEND})
