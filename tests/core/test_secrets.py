import json
import os

import pytest

from apps.core.secrets import SERVICE, FileKeyring, SecretError, read_master_key

KEY = bytes(range(32))


@pytest.fixture
def ring(tmp_path):
    return FileKeyring(tmp_path / "secrets", KEY)


def test_a_secret_comes_back_and_is_not_in_the_file(ring):
    ring.set_password(SERVICE, "one", "hunter2 é")
    assert ring.get_password(SERVICE, "one") == "hunter2 é"
    assert "hunter2" not in ring.path.read_text()
    assert ring.path.stat().st_mode & 0o777 == 0o600


def test_another_master_key_reads_nothing(ring):
    ring.set_password(SERVICE, "one", "x")
    with pytest.raises(SecretError, match="one"):
        FileKeyring(ring.path, bytes(32)).get_password(SERVICE, "one")


def test_exchanged_entries_are_noticed(ring):
    ring.set_password(SERVICE, "one", "1")
    ring.set_password(SERVICE, "two", "2")
    entries = json.loads(ring.path.read_text())
    entries[f"{SERVICE}/one"], entries[f"{SERVICE}/two"] = entries[f"{SERVICE}/two"], entries[f"{SERVICE}/one"]
    ring.path.write_text(json.dumps(entries))
    with pytest.raises(SecretError):
        ring.get_password(SERVICE, "one")


def test_a_file_that_others_can_read_is_refused(ring):
    ring.set_password(SERVICE, "one", "1")
    ring.path.chmod(0o644)
    with pytest.raises(SecretError, match="chmod"):
        ring.get_password(SERVICE, "one")


def test_the_master_key_must_be_private_and_present(tmp_path, monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(SecretError, match="no master key"):
        read_master_key(str(tmp_path / "absent"))
    key = tmp_path / "key"
    key.write_bytes(KEY)
    key.chmod(0o644)
    with pytest.raises(SecretError, match="others"):
        read_master_key(str(key))
    key.chmod(0o400)
    assert read_master_key(str(key)) == KEY


def test_systemd_credentials_come_first(tmp_path, monkeypatch):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "master.key").write_bytes(KEY)
    assert read_master_key("/nowhere") == KEY


def test_a_missing_secret_names_itself(ring, monkeypatch):
    import keyring

    from apps.core.secrets import read_secret

    before = keyring.get_keyring()
    keyring.set_keyring(ring)
    try:
        with pytest.raises(SecretError, match="django-secret-key"):
            read_secret("django-secret-key")
    finally:
        keyring.set_keyring(before)


@pytest.mark.parametrize(
    ("present", "missing"),
    [
        ([], "django-secret-key"),
        (["django-secret-key"], "rules-key"),
        (["django-secret-key", "rules-key"], "identity-key"),
    ],
)
def test_settings_stop_and_name_the_missing_secret(tmp_path, present, missing):
    import subprocess
    import sys

    from django.conf import settings

    (tmp_path / "key").write_bytes(os.urandom(32))
    (tmp_path / "key").chmod(0o400)
    ring = FileKeyring(tmp_path / "none", (tmp_path / "key").read_bytes())
    for name in present:
        ring.set_password(SERVICE, name, "x")
    environment = {
        **os.environ,
        "DICOMSYS_KEYRING_FILE": str(tmp_path / "none"),
        "DICOMSYS_MASTER_KEY_FILE": str(tmp_path / "key"),
    }
    done = subprocess.run(
        [sys.executable, "manage.py", "check"], env=environment, cwd=settings.BASE_DIR, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert f"secret '{missing}' is missing" in done.stderr
