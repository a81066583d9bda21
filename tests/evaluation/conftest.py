"""A folder for an instance, and the process's own keyring back afterwards."""

from collections.abc import Iterator

import keyring
import pytest

from dicomsys.evaluation.folder import Folder


@pytest.fixture
def folder(tmp_path) -> Iterator[Folder]:
    present = keyring.get_keyring()
    folder = Folder(tmp_path / "instance")
    folder.create()
    yield folder
    folder.forget_short()
    keyring.set_keyring(present)
