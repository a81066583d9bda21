"""Peers on loopback: an Orthanc, a C-STORE receiver, and a PACS that can be told to fail at each step."""

import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from typing import Any
from urllib.request import Request, urlopen

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, _config, evt
from pynetdicom.dimse_primitives import C_MOVE

START_PATIENCE_S = 20.0
VERIFICATION = UID("1.2.840.10008.1.1")
STUDY_ROOT_FIND, STUDY_ROOT_MOVE = UID("1.2.840.10008.5.1.4.1.2.2.1"), UID("1.2.840.10008.5.1.4.1.2.2.2")
CT_IMAGE_STORAGE = UID("1.2.840.10008.5.1.4.1.1.2")


def system_program(name: str, package: str) -> str:
    """The system's own program: pynetdicom puts a storescu and an echoscu of its own first in PATH."""
    path = which(name, path="/usr/bin:/usr/sbin:/usr/local/bin")
    if path is None:
        raise RuntimeError(f"{name} is not installed: apt-get install {package}")
    return path


def free_port() -> int:
    """A TCP port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass(frozen=True)
class Address:
    """Where a peer is, as `apps.nodes.associations.Peer`."""

    port: int
    ae_title: str = "PEER"
    host: str = "127.0.0.1"


# --- Orthanc


@dataclass
class Orthanc:
    """A running Orthanc, empty at the start of each test."""

    port: int
    url: str
    ae_title: str = "ORTHANC"
    host: str = "127.0.0.1"

    def register_modality(self, ae_title: str, port: int, host: str = "127.0.0.1") -> None:
        """Tell it of an AE that it may send to (the destination of C-MOVE)."""
        self._call("PUT", f"/modalities/{ae_title}", {"AET": ae_title, "Host": host, "Port": port})

    def forget_modality(self, ae_title: str) -> None:
        """The opposite."""
        self._call("DELETE", f"/modalities/{ae_title}")

    def store(self, folder: Path, datasets: Sequence[Dataset]) -> None:
        """Send data sets with DCMTK's storescu, by way of files in `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        for number, dataset in enumerate(datasets):
            dataset.save_as(folder / f"{number}.dcm", enforce_file_format=True)
        command = [
            system_program("storescu", "dcmtk"),
            "-aec",
            self.ae_title,
            "+sd",
            "-R",
            self.host,
            str(self.port),
            str(folder),
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=60)

    def empty(self) -> None:
        """Remove every patient and every modality."""
        for patient in self._call("GET", "/patients"):
            self._call("DELETE", f"/patients/{patient}")
        for modality in self._call("GET", "/modalities"):
            self._call("DELETE", f"/modalities/{modality}")

    def _call(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(self.url + path, data, method=method), timeout=10) as answer:
            text = answer.read()
        return json.loads(text) if text.strip().startswith((b"[", b"{")) else text


def store(peer: Orthanc | Address, folder: Path, datasets: Sequence[Dataset]) -> None:
    """Send data sets with DCMTK's storescu, by way of files in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, dataset in enumerate(datasets):
        dataset.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    where = ["-aec", peer.ae_title, "+sd", "-R", peer.host, str(peer.port), str(folder)]
    subprocess.run([system_program("storescu", "dcmtk"), *where], check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="session")
def orthanc_process(tmp_path_factory) -> Iterator[Orthanc]:
    """One Orthanc a session, with a folder and ports of its own."""
    program = system_program("Orthanc", "orthanc")
    folder = tmp_path_factory.mktemp("orthanc")
    server = Orthanc(free_port(), f"http://127.0.0.1:{free_port()}")
    (folder / "orthanc.json").write_text(json.dumps(orthanc_settings(server, folder)))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log)
    try:
        wait_until(lambda: answers(server.url + "/system"), START_PATIENCE_S)
        yield server
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def orthanc(orthanc_process) -> Orthanc:
    """The session's Orthanc, emptied."""
    orthanc_process.empty()
    return orthanc_process


def orthanc_settings(server: Orthanc, folder: Path) -> dict[str, object]:
    """Its configuration file: loopback only, no accounts, UTF-8 answers, everyone may query and move."""
    return {
        "Name": "test peer",
        "StorageDirectory": str(folder / "store"),
        "IndexDirectory": str(folder / "store"),
        "Plugins": [],
        "DicomAet": server.ae_title,
        "DicomPort": server.port,
        "HttpPort": int(server.url.rpartition(":")[2]),
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "RegisteredUsers": {},
        "DicomModalities": {},
        "DicomModalitiesInDatabase": True,
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowMove": True,
        "UnknownSopClassAccepted": True,
        "DefaultEncoding": "Utf8",
    }


def answers(url: str) -> bool:
    """Whether an HTTP server answers there."""
    try:
        with urlopen(url, timeout=1):
            return True
    except OSError:
        return False


def wait_until(is_true: Callable[[], bool], patience_s: float = 5.0) -> None:
    """Poll until it is true. Raises TimeoutError."""
    deadline = time.monotonic() + patience_s
    while not is_true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so within {patience_s} s")
        time.sleep(0.02)


# --- DCMTK's dcmqrscp


@pytest.fixture
def start_dcmqrscp(tmp_path) -> Iterator[Callable[[str, int], Address]]:
    """Starts a dcmqrscp (AE title QR) that may send to one AE: `start_dcmqrscp(ae_title, port)`; its store is kept."""
    port = free_port()
    running: list[subprocess.Popen] = []
    (tmp_path / "qr").mkdir()

    def start(destination_ae_title: str, destination_port: int) -> Address:
        stop(running)
        path = tmp_path / "dcmqrscp.cfg"
        path.write_text(dcmqrscp_settings(port, tmp_path / "qr", destination_ae_title, destination_port))
        command = [system_program("dcmqrscp", "dcmtk"), "-c", str(path)]
        running.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        wait_until(lambda: listens(port), START_PATIENCE_S)
        return Address(port, "QR")

    yield start
    stop(running)


def stop(processes: list[subprocess.Popen]) -> None:
    """End them and wait."""
    while processes:
        process = processes.pop()
        process.terminate()
        process.wait(10)


def listens(port: int) -> bool:
    """Whether a TCP server listens on that port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def dcmqrscp_settings(port: int, folder: Path, destination_ae_title: str, destination_port: int) -> str:
    """Its configuration file: anyone may store, query and move, to one destination."""
    return f"""NetworkTCPPort = {port}
MaxPDUSize = 16384
MaxAssociations = 16
HostTable BEGIN
destination = ({destination_ae_title}, 127.0.0.1, {destination_port})
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
QR {folder} RW (200, 1024mb) ANY
AETable END
"""


# --- SCPs made with pynetdicom


def start_scp(ae_title: str, sop_class_uids: Sequence[UID], handlers: Sequence[Any] = ()) -> Any:
    """pynetdicom's server on a free port, `server_address[1]`; `stop_scp` ends it."""
    _config.LOG_HANDLER_LEVEL = "none"
    ae = AE(ae_title=ae_title)
    for sop_class_uid in sop_class_uids:
        ae.add_supported_context(sop_class_uid)
    return ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=list(handlers))


def stop_scp(server: Any) -> None:
    """End it without waiting for its half-second poll."""
    threading.Thread(target=server.shutdown, daemon=True).start()


@dataclass
class StoreReceiver:
    """Stands in for our own AE: takes what C-MOVE sends."""

    port: int
    sop_instance_uids: list[str] = field(default_factory=list)
    refuse_with: int = 0x0000
    delay_s: float = 0.0

    def store(self, event: Any) -> int:
        """C-STORE handler."""
        time.sleep(self.delay_s)
        if self.refuse_with == 0x0000:
            self.sop_instance_uids.append(event.request.AffectedSOPInstanceUID)
        return self.refuse_with


@pytest.fixture
def store_receiver(settings) -> Iterator[StoreReceiver]:
    """A C-STORE receiver with our AE title on a port of its own."""
    receiver = StoreReceiver(0)
    server = start_scp(settings.AE_TITLE, [CT_IMAGE_STORAGE], [(evt.EVT_C_STORE, receiver.store)])
    receiver.port = server.server_address[1]
    yield receiver
    stop_scp(server)


@dataclass
class Move:
    """A C-MOVE request at the scripted PACS, and the means to answer it."""

    request: C_MOVE
    context_id: int
    association: Any
    destination: str

    def answer(self, status: int, **counts: int) -> None:
        """Send one response; counts are remaining, completed, failed, warning."""
        response = C_MOVE()
        response.MessageIDBeingRespondedTo = self.request.MessageID
        response.AffectedSOPClassUID = self.request.AffectedSOPClassUID
        response.Status = status
        for name, count in counts.items():
            setattr(response, f"NumberOf{name.capitalize()}Suboperations", count)
        self.association.dimse.send_msg(response, self.context_id)

    @property
    def is_cancelled(self) -> bool:
        """Whether C-CANCEL came."""
        return self.request.MessageID in self.association.dimse.cancel_req


@dataclass
class ScriptedPacs:
    """A PACS whose answers a test writes: `on_find(event)` yields (status, identifier), `on_move(move)` answers."""

    port: int = 0
    ae_title: str = "PACS"
    host: str = "127.0.0.1"
    reject_with: tuple[int, int, int] | None = None  # result, source, reason (PS3.8 9.3.4)
    abort_request: bool = False
    on_echo: Callable[[evt.Event], int] = lambda event: 0x0000
    on_find: Callable[[evt.Event], Iterator[tuple[int, Dataset | None]]] | None = None
    on_move: Callable[[Move], None] | None = None
    moves: list[Move] = field(default_factory=list)
    finds: list[Dataset] = field(default_factory=list)

    def handlers(self) -> list[Any]:
        """For pynetdicom's server."""
        return [
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_ACCEPTED, self._accepted),
            (evt.EVT_C_ECHO, lambda event: self.on_echo(event)),
            (evt.EVT_C_FIND, self._find),
        ]

    def _requested(self, event: evt.Event) -> None:
        if self.abort_request:
            event.assoc.abort(block=False)
        elif self.reject_with:
            event.assoc.acse.send_reject(*self.reject_with)
        if self.abort_request or self.reject_with:
            event.assoc.kill()  # waits until it is sent; else the socket may be closed first

    def _accepted(self, event: Any) -> None:
        serve = event.assoc._serve_request

        def serve_request(message: Any, context_id: int) -> None:
            if isinstance(message, C_MOVE) and self.on_move:
                move = Move(message, context_id, event.assoc, str(message.MoveDestination))
                self.moves.append(move)
                self.on_move(move)
            else:
                serve(message, context_id)

        event.assoc._serve_request = serve_request

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        self.finds.append(event.identifier)
        yield from self.on_find(event) if self.on_find else ()


@pytest.fixture
def pacs() -> Iterator[ScriptedPacs]:
    """A scripted PACS with C-ECHO, C-FIND and C-MOVE (Study Root)."""
    script = ScriptedPacs()
    server = start_scp(script.ae_title, [VERIFICATION, STUDY_ROOT_FIND, STUDY_ROOT_MOVE], script.handlers())
    script.port = server.server_address[1]
    yield script
    stop_scp(server)


@pytest.fixture
def storage_only_peer() -> Iterator[Address]:
    """An SCP that accepts none of the services we ask for."""
    server = start_scp("PEER", [CT_IMAGE_STORAGE])
    yield Address(server.server_address[1])
    stop_scp(server)


# --- Peers that are not even DICOM


@pytest.fixture
def tcp_peer() -> Iterator[Callable[[Callable[[socket.socket], None]], Address]]:
    """Starts a TCP server that hands each connection to a function: `tcp_peer(lambda connection: …)`."""
    listeners: list[socket.socket] = []

    def start(serve: Callable[[socket.socket], None]) -> Address:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        threading.Thread(target=accept_all, args=(listener, serve), daemon=True).start()
        return Address(listener.getsockname()[1])

    yield start
    for listener in listeners:
        listener.close()


def accept_all(listener: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    """Serve one connection after the other until the listener is closed."""
    kept = []
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        kept.append(connection)  # or it would be closed at the next turn
        serve(connection)


@pytest.fixture
def unreachable_peer() -> Iterator[Address]:
    """A port whose connection requests are dropped, as behind a firewall: its backlog is full."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
        fillers.append(filler)
    time.sleep(0.05)
    yield Address(listener.getsockname()[1])
    for each in (*fillers, listener):
        each.close()
