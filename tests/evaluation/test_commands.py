"""The words of ./start, ./check and of `python -m dicomsys.evaluation`."""

import subprocess

import pytest

from dicomsys.evaluation.__main__ import main, split_words
from dicomsys.evaluation.folder import CODE


@pytest.mark.parametrize("script", ["start", "check"])
def test_help_needs_no_set_up(script):
    said = subprocess.run([CODE / script, "--help"], capture_output=True, text=True, check=True).stdout
    assert f"./{script} " in said


@pytest.mark.parametrize("words", [["begin"], ["--detached"], ["--detach", "--nodemo"], ["stop", "now"]])
def test_an_unknown_word_is_refused_before_anything_is_done(words):
    result = subprocess.run([CODE / "start", *words], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert f": {words[-1]} (see ./start --help)" in result.stderr


def test_an_unknown_benchmark_is_refused():
    result = subprocess.run([CODE / "check", "--bench", "nothing"], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "no tests/benchmarks/nothing.py" in result.stderr


@pytest.mark.parametrize(
    ("words", "own", "passed_on"),
    [
        (["status", "--folder", "x"], ["status", "--folder", "x"], []),
        (["psql", "--folder", "x", "-c", "select 1"], ["psql", "--folder", "x"], ["-c", "select 1"]),
        (["manage", "--folder", "x", "migrate", "--help"], ["manage", "--folder", "x"], ["migrate", "--help"]),
        (["check", "--folder", "x", "--bench", "pdf", "-v"], ["check", "--folder", "x", "--bench", "pdf"], ["-v"]),
        (["check", "--folder=x", "-k", "a", "tests/core"], ["check", "--folder=x"], ["-k", "a", "tests/core"]),
    ],
)
def test_words_for_other_programs_reach_them_unread(words, own, passed_on):
    assert split_words(words) == (own, passed_on)


def test_what_does_not_run_says_so(folder, capsys):
    place = ["--folder", str(folder.path)]
    assert main(["status", *place]) == 1
    assert main(["stop", *place]) == 0
    assert main(["psql", *place]) == 1
    assert main(["logs", *place, "nothing"]) == 2
    said = capsys.readouterr()
    assert "not running" in said.out
    assert "no log of 'nothing'" in said.err


def test_a_reset_that_is_not_confirmed_removes_nothing(folder, monkeypatch):
    (folder.data / "image").touch()
    monkeypatch.setattr("builtins.input", lambda question: "no")
    assert main(["start", "--reset", "--folder", str(folder.path)]) == 1
    assert (folder.data / "image").exists()


def test_a_package_that_is_missing_is_named():
    command = ["sh", str(CODE / "dicomsys" / "evaluation" / "packages.sh"), "--missing", "libc6", "no-such-package"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == ["no-such-package"]
