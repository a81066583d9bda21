"""Paths of an instance: closed to others, and short enough for sockets."""

import pytest

from dicomsys.evaluation.folder import Folder, write_private
from dicomsys.evaluation.prepare import SetUpError, copy_tree, refuse_folder_of_others


def test_every_folder_is_closed_to_others(folder):
    assert folder.path.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.path.iterdir())


def test_a_private_file_is_closed_from_its_first_moment(folder):
    write_private(folder.env_file, "A=1\n")
    write_private(folder.env_file, "A=2\n")
    assert folder.env_file.read_text() == "A=2\n"
    assert folder.env_file.stat().st_mode & 0o777 == 0o600


def test_a_long_path_gets_a_short_link_that_is_removed(tmp_path):
    folder = Folder(tmp_path / "a folder with spaces" / ("long" * 30))
    folder.create()
    short = folder.short()
    assert len(str(short)) < 60
    assert " " not in str(short)
    assert short.resolve() == folder.path.resolve()
    assert folder.short() == short
    folder.forget_short()
    assert not short.parent.exists()


def test_two_folders_have_two_identities(tmp_path):
    assert Folder(tmp_path / "a").identity != Folder(tmp_path / "b").identity


def test_a_copied_tree_follows_its_source(tmp_path):
    source, target = tmp_path / "clone", tmp_path / "copy"
    for name in (
        "apps/core/a.py",
        "apps/core/__pycache__/a.pyc",
        ".git/config",
        "var/evaluation/env",
        "start",
        "old/x",
    ):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    (source / "start").chmod(0o700)
    copy_tree(source, target)
    (target / "var" / "evaluation").mkdir(parents=True)
    (source / "old" / "x").unlink()
    (source / "old").rmdir()
    (source / "apps" / "core" / "a.py").write_text("changed")
    copy_tree(source, target)
    assert (target / "apps" / "core" / "a.py").read_text() == "changed"
    assert (target / "start").stat().st_mode & 0o777 == 0o755
    assert {path.name for path in target.iterdir()} == {"apps", "start", "var"}
    assert not (target / "apps" / "core" / "__pycache__").exists()


def test_an_instance_of_somebody_else_is_refused(tmp_path, monkeypatch):
    refuse_folder_of_others(tmp_path)
    refuse_folder_of_others(tmp_path / "nothing yet")
    monkeypatch.setattr("os.getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(SetUpError, match=f"made by {tmp_path.owner()}: run this as|made by root"):
        refuse_folder_of_others(tmp_path)
