"""The instance's secrets: made once at random, kept only in the encrypted keyring beside their master key."""

import os
import secrets

from apps.core.secrets import MASTER_KEY_BYTES, SERVICE, open_keyring, read_secret
from dicomsys.evaluation.folder import Folder

SECRET_NAMES = (
    "django-secret-key",
    "identity-key",
    "rules-key",
    "database-postgres",
    "database-dicomsys_owner",
    "database-dicomsys_app",
    "broker-dicomsys",
)
LEGIBLE = "abcdefghijkmnpqrstuvwxyz23456789"  # nothing that looks like something else in print


def ensure_secrets(folder: Folder) -> None:
    """Make the master key and every secret that is missing, and make the keyring this process's own."""
    if not folder.master_key_file.exists():
        key = os.open(folder.master_key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
        with os.fdopen(key, "wb") as file:
            file.write(os.urandom(MASTER_KEY_BYTES))
    keyring = open_keyring(folder.keyring_file, str(folder.master_key_file))
    for name in SECRET_NAMES:
        if keyring.get_password(SERVICE, name) is None:
            keyring.set_password(SERVICE, name, secrets.token_urlsafe(48))


def password_of(folder: Folder, name: str) -> str:
    """One secret of the instance. Raises SecretError where it is missing."""
    open_keyring(folder.keyring_file, str(folder.master_key_file))
    return read_secret(name)


def legible_password() -> str:
    """A password to read and type: four groups of four characters, 80 bits."""
    return "-".join("".join(secrets.choice(LEGIBLE) for _ in range(4)) for _ in range(4))
