"""What the ingest benchmark sends to: our own instance, Orthanc with SQLite and PostgreSQL, DCMTK's storescp.

The others are made with DCMTK, whose answers wait for the sender's delayed acknowledgement (about 22 a second) unless
TCP_NODELAY is in the environment of the *receiver*. They get it where the sender has it, so the comparison is with
their best; where the sender is as shipped, they are as shipped.
"""

import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from django.conf import settings
from psycopg import sql
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE

from apps.core.secrets import read_secret
from tests.lots import Lot
from tests.peers import answers, free_port, listens, system_program, wait_until
from tests.processes import cpu_s, memory_bytes
from tests.system.conftest import System, started

STUDY_ROOT_FIND = UID("1.2.840.10008.5.1.4.1.2.2.1")
POLL_S = 0.01
POSTGRESQL_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancPostgreSQLIndex.so")
START_PATIENCE_S = 60.0
NO_INDEX = "storescp"
COUNT = "SELECT coalesce(sum(instance_count), 0) FROM archive_study WHERE study_instance_uid = ANY(%s)"


@dataclass
class Target:
    """A C-STORE receiver, and the process trees that work for it: name → process id of the root."""

    name: str
    ae_title: str
    port: int
    programs: dict[str, int]
    told: str = "-"  # its settings, in one line
    system: System | None = None
    _finds: bool | None = field(default=None, init=False)
    _connection: psycopg.Connection | None = field(default=None, init=False)

    def cpu_s(self) -> dict[str, float]:
        """Processor time so far, by program."""
        return {name: cpu_s(pid) for name, pid in self.programs.items()}

    def memory_bytes(self) -> dict[str, int]:
        """By program."""
        return {name: memory_bytes(pid) for name, pid in self.programs.items()}

    @property
    def has_index(self) -> bool:
        """Whether what was sent can be asked for."""
        return self.name != NO_INDEX

    def wait_until_found(self, lot: Lot, limit_s: float) -> bool:
        """Whether C-FIND reports every instance in time; where C-FIND is not offered, the tables must hold them."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            if self._counts_all(lot):
                return True
            time.sleep(POLL_S)
        return False

    def _counts_all(self, lot: Lot) -> bool:
        if self.finds:
            return all(counted >= len(lot.instances[uid]) for uid, counted in self._find(list(lot.instances)).items())
        if self._connection is None:
            assert self.system is not None
            self._connection = self.system.connect(autocommit=True)
        row = self._connection.execute(COUNT, [list(lot.instances)]).fetchone()
        return row is not None and row[0] >= lot.count

    @property
    def finds(self) -> bool:
        """Whether it offers C-FIND at STUDY level; our own tables may be asked where it does not."""
        if self._finds is None:
            self._finds = self.system is None or self._accepts_find()
        return self._finds

    def _accepts_find(self) -> bool:
        assoc = self._associate()
        is_accepted = bool(assoc.is_established)
        if is_accepted:
            assoc.release()
        return is_accepted

    def _associate(self):
        ae = AE(ae_title="BENCH")
        ae.add_requested_context(STUDY_ROOT_FIND)
        return ae.associate("127.0.0.1", self.port, ae_title=self.ae_title)

    def _find(self, study_uids: list[str]) -> dict[str, int]:
        """Study UID → NumberOfStudyRelatedInstances, one query a study in one association."""
        counts = dict.fromkeys(study_uids, -1)
        assoc = self._associate()
        if not assoc.is_established:
            return counts
        for uid in study_uids:
            query = Dataset()
            query.QueryRetrieveLevel, query.StudyInstanceUID, query.NumberOfStudyRelatedInstances = "STUDY", uid, ""
            for _, found in assoc.send_c_find(query, STUDY_ROOT_FIND):
                if found is not None:
                    counts[uid] = int(found.get("NumberOfStudyRelatedInstances") or 0)
        assoc.release()
        return counts


@contextmanager
def ours(folder: Path) -> Iterator[Target]:
    """A whole instance as ./start makes it, without demonstration studies."""
    with started(folder) as system:
        _, port, ae_title = system.dicom
        names = json.loads((system.folder / "run" / "state.json").read_text())["processes"]
        programs = {name: pid for name in names if (pid := system.pid(name))}
        yield Target("dicomsys", ae_title, port, programs, "as ./start", system)


@contextmanager
def orthanc(folder: Path, nagle: bool) -> Iterator[Target]:
    """The distribution's Orthanc with SQLite."""
    with _orthanc("orthanc-sqlite", folder, nagle, {}, {}) as target:
        yield target


@contextmanager
def orthanc_postgresql(folder: Path, nagle: bool) -> Iterator[Target]:
    """The same with its index in the PostgreSQL of this check, over TLS; pixel files stay files."""
    name = f"bench_orthanc_{secrets.token_hex(4)}"
    with _database(name) as (uri, postmaster):
        plugin = {"EnableIndex": True, "EnableStorage": False, "ConnectionUri": uri, "Lock": False}
        changes = {"Plugins": [str(POSTGRESQL_PLUGIN)], "PostgreSQL": plugin}
        with _orthanc("orthanc-postgresql", folder, nagle, changes, {"postgresql": postmaster}) as target:
            yield target


@contextmanager
def _database(name: str) -> Iterator[tuple[str, int]]:
    """A database of its own: its URI with the password, and the process id of the server."""
    given = settings.DATABASES["default"]
    password = read_secret("database-dicomsys_owner")
    where = {"host": given["HOST"], "port": given["PORT"], "user": "dicomsys_owner", "password": password}
    where |= {key: given["OPTIONS"][key] for key in ("sslmode", "sslrootcert")}
    with psycopg.connect(**where, dbname="postgres", autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        postmaster = _parent(connection.info.backend_pid)
        try:
            authority = f"{where['host']}:{where['port']}"
            yield f"postgresql://dicomsys_owner:{password}@{authority}/{name}?sslmode=require", postmaster
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _parent(pid: int) -> int:
    return int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])


@contextmanager
def _orthanc(name: str, folder: Path, nagle: bool, changes: dict, programs: dict[str, int]) -> Iterator[Target]:
    """Default settings but for addresses, names and who may ask; the log level is the default one."""
    folder.mkdir(parents=True, exist_ok=True)
    port, http = free_port(), free_port()
    chosen = {
        "Name": "bench",
        "StorageDirectory": str(folder / "store"),
        "IndexDirectory": str(folder / "store"),
        "Plugins": [],
        "DicomAet": "ORTHANC",
        "DicomPort": port,
        "HttpPort": http,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomAlwaysAllowFind": True,
        **changes,
    }
    path = folder / "orthanc.json"
    path.touch(0o600)
    path.write_text(json.dumps(chosen))
    with (folder / "log").open("wb") as log:
        words = [system_program("Orthanc", "orthanc"), str(path)]
        process = subprocess.Popen(words, env=environment(nagle), stdout=log, stderr=log)
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{http}/system"), START_PATIENCE_S)
        yield Target(name, "ORTHANC", port, {"orthanc": process.pid, **programs}, f"{_told(chosen)}, {_nagle(nagle)}")
    finally:
        _end(process)


def environment(nagle: bool) -> dict[str, str]:
    """For DCMTK's programs and what is made with it."""
    kept = {name: value for name, value in os.environ.items() if name != "TCP_NODELAY"}
    return kept if nagle else kept | {"TCP_NODELAY": "1"}


def _nagle(nagle: bool) -> str:
    return "as shipped" if nagle else "TCP_NODELAY=1"


def _told(chosen: dict) -> str:
    """The settings as printed: no password, no address."""
    hidden = {"StorageDirectory", "IndexDirectory", "DicomPort", "HttpPort"}
    shown = {key: value for key, value in chosen.items() if key not in hidden}
    shown["Plugins"] = [Path(plugin).name for plugin in chosen["Plugins"]]
    if "PostgreSQL" in shown:
        shown["PostgreSQL"] = {key: value for key, value in shown["PostgreSQL"].items() if key != "ConnectionUri"}
    return json.dumps(shown)


@contextmanager
def storescp(folder: Path, nagle: bool) -> Iterator[Target]:
    """DCMTK's receiver as shipped: files only, no index, nothing synced; one process an association."""
    (folder / "in").mkdir(parents=True)
    port = free_port()
    words = ["--fork", "-pdu", "131072", "-aet", "STORESCP", "-od", str(folder / "in"), str(port)]
    words.insert(0, system_program(NO_INDEX, "dcmtk"))
    process = subprocess.Popen(words, env=environment(nagle), stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: listens(port), START_PATIENCE_S)
        yield Target(NO_INDEX, "STORESCP", port, {NO_INDEX: process.pid}, f"{' '.join(words[1:6])}, {_nagle(nagle)}")
    finally:
        _end(process)


def _end(process: subprocess.Popen) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(20)
    process.kill()
    process.wait()


OURS = "dicomsys"
PEERS = {
    "orthanc-sqlite": orthanc,
    "orthanc-postgresql": orthanc_postgresql,
    NO_INDEX: storescp,
}
