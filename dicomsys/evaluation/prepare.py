"""Before anything of ours can run: service user, code it can read, virtual environment. Then our own command.

`./start` and `./check` run this file with the system's Python and nothing but its standard library, first as
`prepare.py evaluation|check set-up`, then as `prepare.py evaluation|check use WORD…`. As root it goes on as the user
`dicomsys` as early as it can; all that root writes lies in folders of root.
"""

import fcntl
import hashlib
import os
import pwd
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

CLONE = Path(__file__).resolve().parent.parent.parent
SERVICE_USER = "dicomsys"
STATE = Path("/var/lib/dicomsys")
OLDEST_PYTHON = (3, 11)
NOT_COPIED = frozenset({".git", "var"})  # at the top
NEVER_COPIED = {"__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".import_linter_cache"}
PIP_WHEELS = Path("/usr/share/python-wheels")
LOCKED = {"evaluation": ["requirements.txt"], "check": ["requirements.txt", "requirements-check.txt"]}
KEPT_VARIABLES = ("TERM", "COLUMNS", "LINES", "LANG", "NO_COLOR", "FORCE_COLOR", "PYTEST_ADDOPTS", "CI", "PAGER")
NETWORK_VARIABLES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy", "ssl_cert_file", "ssl_cert_dir")
BAD_FOR_PIP = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT")


class SetUpError(Exception):
    """Nothing can be started before somebody has changed what the text says."""


@dataclass(frozen=True)
class Place:
    """Where code and instance lie, and what must be kept from changing while it runs."""

    code: Path
    folder: Path

    @property
    def venv(self) -> Path:
        return self.folder / "venv"


def main(kind: str, mode: str, words: list[str]) -> None:
    """Mode set-up makes what is missing; mode use makes nothing and becomes our own command with those words."""
    os.umask(0o022)
    if sys.version_info < OLDEST_PYTHON:
        raise SetUpError(f"{sys.executable} is Python {sys.version.split()[0]}: 3.11 or later is needed")
    is_root = os.geteuid() == 0
    if not is_root and (CLONE / "var").is_symlink():
        raise SetUpError(f"{CLONE / 'var'} was made by root: run this as root, or remove that link")
    place = place_of(kind, mode == "set-up") if is_root else Place(CLONE, CLONE / "var" / kind)
    test_data = test_data_folder() if mode == "use" else None
    if is_root:
        test_data = test_data and readable_copy(test_data)
        become(SERVICE_USER)
    refuse_folder_of_others(place.folder)
    if mode == "set-up":
        make_venv(place, LOCKED[kind])
    elif not (place.venv / "made-from").exists():
        raise SetUpError("nothing is set up here yet: run ./start first")
    else:
        run(place, words, test_data)


def place_of(kind: str, may_change: bool) -> Place:
    """As root: the clone itself where the service user can read it, else a copy below /var/lib/dicomsys."""
    try:
        pwd.getpwnam(SERVICE_USER)
    except KeyError as error:
        raise SetUpError("nothing is set up here yet: run ./start first") from error
    var = CLONE / "var"
    if not var.is_symlink() and can_read(SERVICE_USER, CLONE):
        if may_change:
            give_folder(var, SERVICE_USER)
        return Place(CLONE, var / kind)
    state = STATE / clone_identity()
    code = state if kind == "evaluation" else state.with_name(f"{state.name}-{kind}")
    place = Place(code, state / "var" / kind)
    if may_change:
        state.mkdir(parents=True, exist_ok=True)
        with only_one(state.with_name(f"{state.name}.lock")):
            give_folder(state / "var", SERVICE_USER)
            link(var, state / "var")
            if not is_running(place.folder, "lock" if kind == "evaluation" else "check-lock"):
                copy_tree(CLONE, code)
    return place


def clone_identity() -> str:
    """A short word that tells this clone from others on the machine."""
    return hashlib.sha256(os.fsencode(CLONE)).hexdigest()[:8]


def can_read(user: str, folder: Path) -> bool:
    """Whether the user can read every file of a folder, apart from what is never its business."""
    spared = ["-path", str(folder / ".git"), "-o", "-path", str(folder / "var"), "-o", "-name", "__pycache__"]
    spared += ["-o", "-name", ".*_cache"]
    search = ["find", str(folder), "(", *spared, ")", "-prune", "-o", "!", "-readable", "-print", "-quit"]
    result = subprocess.run(
        search, user=user, group=pwd.getpwnam(user).pw_gid, extra_groups=[], cwd="/", capture_output=True, check=False
    )
    return result.returncode == 0 and not result.stdout


def give_folder(folder: Path, user: str) -> None:
    """Make a folder of the user's own. Raises SetUpError where something else is in the way."""
    folder.mkdir(exist_ok=True)
    if folder.is_symlink() or not folder.is_dir():
        raise SetUpError(f"{folder} is not a folder: remove it")
    os.chown(folder, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid, follow_symlinks=False)


def link(path: Path, target: Path) -> None:
    """Let the clone's `var` lead to the state folder's."""
    if path.is_symlink():
        if path.readlink() == target:
            return
        path.unlink()  # a clone that was moved or copied here
    elif path.exists():
        try:
            path.rmdir()
        except OSError as error:
            raise SetUpError(f"{path} holds data that {SERVICE_USER} cannot reach here: move it away first") from error
    path.symlink_to(target)


def copy_tree(source: Path, target: Path, spared: frozenset[str] = NOT_COPIED) -> None:
    """Make `target` the same as `source`, but for the spared names: what is gone there goes here. All may read it."""
    target.mkdir(exist_ok=True)
    target.chmod(0o755)
    wanted = {entry.name: entry for entry in os.scandir(source) if entry.name not in spared | NEVER_COPIED}
    for entry in os.scandir(target):
        if entry.name not in spared and not (entry.name in wanted and _kind(entry) == _kind(wanted[entry.name])):
            shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else Path(entry.path).unlink()
    for name, entry in wanted.items():
        if entry.is_dir(follow_symlinks=False):
            copy_tree(Path(entry.path), target / name, frozenset())
        else:
            _copy_file(Path(entry.path), target / name)


def _kind(entry: "os.DirEntry[str]") -> int:
    return stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode)


def _copy_file(source: Path, target: Path) -> None:
    old = target.lstat() if target.is_symlink() or target.exists() else None
    new = source.lstat()
    if stat.S_ISREG(new.st_mode) and old and (old.st_size, old.st_mtime_ns) == (new.st_size, new.st_mtime_ns):
        return
    partial = target.with_name(f".{target.name}.new")
    shutil.copy2(source, partial, follow_symlinks=False)
    if not partial.is_symlink():
        partial.chmod(0o755 if new.st_mode & stat.S_IXUSR else 0o644)
    partial.replace(target)


def readable_copy(folder: Path) -> Path:
    """As root: the folder itself where the service user can read it, else a copy."""
    if can_read(SERVICE_USER, folder):
        return folder
    copy = STATE / f"{clone_identity()}-data"
    STATE.mkdir(exist_ok=True)
    copy_tree(folder, copy, frozenset())
    return copy


def test_data_folder() -> Path | None:
    """Where the caller has real files for the tests. Raises SetUpError where there is no such folder."""
    named = os.environ.get("DICOMSYS_TEST_DATA")
    if not named:
        return None
    if not Path(named).is_dir():
        raise SetUpError(f"DICOMSYS_TEST_DATA is {named!r}, which is no folder")
    return Path(named).absolute()


def become(user: str) -> None:
    """Go on as the user, for good."""
    account = pwd.getpwnam(user)
    os.setgroups([])
    os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)


def refuse_folder_of_others(folder: Path) -> None:
    """An instance is used by the user who made it. Raises SetUpError for others."""
    if folder.exists() and folder.stat().st_uid != os.getuid():
        owner = "root" if folder.owner() == SERVICE_USER else folder.owner()
        raise SetUpError(f"{folder} was made by {owner}: run this as {owner}, or remove that folder")


def is_running(folder: Path, lock: str = "lock") -> bool:
    """Whether a supervisor holds the folder (see instance.py)."""
    try:
        number = os.open(folder / "run" / lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    with os.fdopen(number) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def only_one(lock: Path) -> Iterator[None]:
    """Wait for others that set up the same thing at the same time."""
    with os.fdopen(os.open(lock, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def make_venv(place: Place, requirements: list[str]) -> None:
    """The virtual environment with exactly the pinned packages, made anew when the pins or the Python have changed."""
    try:
        place.folder.mkdir(parents=True, exist_ok=True)
        place.folder.chmod(0o700)
    except OSError as error:
        raise SetUpError(f"cannot write into {place.folder}: {error.strerror}") from error
    with only_one(place.folder / "prepare.lock"):
        stamp, origin = place.venv / "made-from", _origin(place.code, requirements)
        if is_running(place.folder) or (stamp.is_file() and stamp.read_text() == origin):
            return
        since = time.monotonic()
        print("           installing the pinned Python packages …", flush=True)
        _install(place, requirements)
        stamp.write_text(origin)
        print(f"  {time.monotonic() - since:5.1f} s  Python packages installed", flush=True)


def _install(place: Place, requirements: list[str]) -> None:
    # The distribution's own pip is used from its wheel: to install a copy of it first takes as long as Django does.
    wheels = sorted(PIP_WHEELS.glob("pip-*.whl"))
    without_pip = ["--without-pip"] if wheels else []
    _run_quietly(place, [sys.executable, "-m", "venv", "--clear", *without_pip, str(place.venv)])
    install = [str(place.venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-compile"]
    install += ["--require-hashes", "--only-binary", ":all:", "--disable-pip-version-check", "--no-input"]
    install += [word for name in requirements for word in ("-r", str(place.code / name))]
    _run_quietly(place, install, {"PYTHONPATH": str(wheels[-1])} if wheels else {})


def _origin(code: Path, requirements: list[str]) -> str:
    digest = hashlib.sha256(sys.version.encode())
    for name in requirements:
        digest.update((code / name).read_bytes())
    return digest.hexdigest()


def _run_quietly(place: Place, command: list[str], more: dict[str, str] | None = None) -> None:
    result = subprocess.run(
        command,
        env=_installers_environment(place) | (more or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        last = "\n".join((result.stdout + result.stderr).splitlines()[-25:])
        raise SetUpError(f"{' '.join(command[1:4])} failed (exit {result.returncode}):\n{last}")


def _installers_environment(place: Place) -> dict[str, str]:
    """pip keeps what the caller set for it: its own variables, proxies and certificates."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if (name.startswith("PIP_") and name not in BAD_FOR_PIP) or name.lower() in NETWORK_VARIABLES
    }
    home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    cache = {"PIP_CACHE_DIR": str(place.folder.parent / "pip-cache")}
    own_home = {"HOME": str(home)} if os.access(home, os.W_OK) else cache
    return _environment(place) | own_home | kept


def _environment(place: Place) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in KEPT_VARIABLES}
    (place.folder / "home").mkdir(mode=0o700, exist_ok=True)
    return kept | {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(place.folder / "home")}


def run(place: Place, words: list[str], test_data: Path | None) -> NoReturn:
    """Become `python -m dicomsys.evaluation`, in the caller's folder where that may be."""
    environment = _environment(place)
    environment |= {name: value for name, value in os.environ.items() if name.startswith("DICOMSYS_")}
    environment |= {"PYTHONPATH": str(place.code), "PYTHONPYCACHEPREFIX": str(place.folder / "cache" / "bytecode")}
    if test_data is not None:
        environment["DICOMSYS_TEST_DATA"] = str(test_data)
    if not os.access(".", os.R_OK | os.X_OK):
        os.chdir(place.code)
    python = str(place.venv / "bin" / "python")
    command, *rest = words
    # -P: a folder of the caller's with a familiar name shall not be taken for ours
    words = [python, "-P", "-m", "dicomsys.evaluation", command, "--folder", str(place.folder), *rest]
    os.execve(python, words, environment)  # noqa: S606 - no shell


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2], sys.argv[3:])
    except SetUpError as problem:
        sys.exit(f"failed: {problem}")
