"""Settings file and environments: what django-environ reads back, and no secret in either."""

import environ
import pytest

from apps.core.secrets import SERVICE, SecretError, open_keyring
from dicomsys.evaluation.environment import application_environment, instance_settings, write_env_file
from dicomsys.evaluation.passwords import SECRET_NAMES, ensure_secrets, legible_password, password_of

PORTS = {"web": 8000, "dicom": 11112, "postgres": 5433, "amqps": 5671}


def test_the_env_file_is_read_back_as_it_was_written(tmp_path, monkeypatch):
    settings = {"PLAIN_X": "amqps://u@127.0.0.1:5671/v", "SPACE_X": "/a b/#c=$d", "EMPTY_X": ""}
    write_env_file(tmp_path / "env", settings)
    monkeypatch.setattr(environ.Env, "ENVIRON", {})
    environ.Env.read_env(tmp_path / "env")
    assert settings == environ.Env.ENVIRON
    assert (tmp_path / "env").stat().st_mode & 0o777 == 0o600


def test_a_value_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot be written"):
        write_env_file(tmp_path / "env", {"A": "it's"})


def test_no_secret_is_in_settings_or_environment(folder, monkeypatch):
    monkeypatch.setenv("DATABASE_PASSWORD", "of-somebody-else")
    ensure_secrets(folder)
    told = repr([instance_settings(folder, PORTS), application_environment(folder)])
    assert not [name for name in SECRET_NAMES if password_of(folder, name) in told]
    assert "of-somebody-else" not in told


def test_a_choice_of_the_caller_reaches_the_settings(folder, monkeypatch):
    monkeypatch.setenv("DICOMSYS_AE_TITLE", "WARD7")
    assert instance_settings(folder, PORTS)["DICOMSYS_AE_TITLE"] == "WARD7"


def test_secrets_are_made_once_and_closed_to_others(folder):
    ensure_secrets(folder)
    first = {name: password_of(folder, name) for name in SECRET_NAMES}
    ensure_secrets(folder)
    assert {name: password_of(folder, name) for name in SECRET_NAMES} == first
    assert len(set(first.values())) == len(SECRET_NAMES)
    assert folder.master_key_file.stat().st_mode & 0o777 == 0o400
    assert folder.keyring_file.stat().st_mode & 0o777 == 0o600
    assert not any(secret in folder.keyring_file.read_text() for secret in first.values())


def test_the_keyring_needs_its_master_key(folder):
    ensure_secrets(folder)
    folder.master_key_file.chmod(0o600)
    folder.master_key_file.write_bytes(bytes(32))
    with pytest.raises(SecretError, match="wrong master key"):
        open_keyring(folder.keyring_file, str(folder.master_key_file)).get_password(SERVICE, SECRET_NAMES[0])


def test_the_first_password_is_long_enough_and_each_time_another():
    passwords = {legible_password() for _ in range(50)}
    assert len(passwords) == 50
    assert {len(password) for password in passwords} == {19}
