"""The servers that are compared, each started as who knows it would start it for speed."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path

from pydicom.dataset import Dataset
from pynetdicom import AE

from tests import raw_peer
from tests.ports import free_port

_START_S = 60.0
_ONLY_TESTS_NEED = ("gdcm", "pylibjpeg", "requests", "tqdm")
"""Modules that pydicom imports where it finds them, 30 MB in all processes; whoever installs the gateway has none."""
_NO_DELAY = {"TCP_NODELAY": "1"}
"""Without it DCMTK, on which Orthanc stands, leaves Nagle's algorithm on, which costs 40 ms in each exchange."""
# Everything that costs and that nobody asked for is off; as many threads as there may be associations.
_ORTHANC = {
    "DicomAet": "GATEWAY",
    "DicomCheckCalledAet": False,
    "DicomAlwaysAllowEcho": True,
    "DicomAlwaysAllowStore": True,
    "DicomAlwaysAllowFind": True,
    "DicomThreadsCount": 8,
    "MaximumPduLength": 131_072,
    "HttpServerEnabled": False,
    "StorageCompression": False,
    "StoreMD5ForAttachments": False,
    "MaximumStorageSize": 0,
    "ConcurrentJobs": 1,
    "SaveJobs": False,
    "Plugins": [],
}


@dataclass(frozen=True, slots=True)
class Running:
    """A server at work; ``web_port`` is 0 where it has no DICOMweb."""

    pid: int
    port: int
    web_port: int


@dataclass(frozen=True, slots=True)
class Server:
    """How a server is started. ``{port}``, ``{web_port}``, ``{directory}`` and ``{configuration}`` are replaced.

    ``configuration`` goes into a file, in JSON. Who has no index has a file for each instance. ``web_root`` is the
    path of its DICOMweb services.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    configuration: Mapping[str, object] = field(default_factory=dict)
    has_index: bool = True
    web_root: str = ""

    @contextlib.contextmanager
    def running(self, directory: Path, *, no_delay: bool = True) -> Iterator[Running]:
        """The server, once it answers, with its directory, which is left; afterwards it is gone.

        ``no_delay`` takes Nagle's algorithm away where a server leaves it on unless told otherwise.
        """
        port, web_port = free_port(), free_port() if self.web_root else 0
        directory.mkdir(exist_ok=True)
        configuration = directory.with_suffix(".json")
        own = {"DicomPort": port, "StorageDirectory": str(directory), "IndexDirectory": str(directory)}
        if web_port:
            own["HttpPort"] = web_port
        configuration.write_text(json.dumps({**self.configuration, **own}))
        places = {
            "port": str(port),
            "web_port": str(web_port),
            "directory": str(directory),
            "configuration": str(configuration),
        }
        inherited = {key: value for key, value in os.environ.items() if key not in _NO_DELAY}
        given = {key: value.format(**places) for key, value in self.environment.items()}
        told = directory.with_suffix(".log")
        with told.open("wb") as log:
            process = subprocess.Popen(
                [part.format(**places) for part in self.command],
                env={**inherited, **(_NO_DELAY if no_delay else {}), **given},
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            if not _answers(process, port):
                raise RuntimeError(f"{self.name} does not answer: {told.read_text()[-2000:]}")
            yield Running(process.pid, port, web_port)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)

    def held(self, port: int, directory: Path, least_bytes: int) -> int:
        """How many instances it has, by its index where it has one; files have to be as long as what was sent."""
        if self.has_index:
            return _found(port)
        return sum(1 for file in directory.iterdir() if file.stat().st_size >= least_bytes)


def gateway(name: str, tree: Path, *, fsync: bool, settings: Mapping[str, str] | None = None) -> Server:
    """The gateway of a checkout, as it is installed: two workers for each face, every engine embedded.

    ``settings`` are more of its environment.
    """
    given = {
        "GATEWAY_DIMSE__PORT": "{port}",
        "GATEWAY_HTTP__PORT": "{web_port}",
        "GATEWAY_STORAGE__DIRECTORY": "{directory}",
        "GATEWAY_STORAGE__FSYNC": str(fsync).lower(),
        "PYTHONPATH": os.pathsep.join((str(tree), _without_what_only_tests_need())),
        **(settings or {}),
    }
    return Server(name, (sys.executable, "-m", "gateway.cli", "serve"), given, tree, web_root="/dicomweb")


@cache
def _without_what_only_tests_need() -> str:
    """A directory whose modules, found first, say that they are not here."""
    directory = tempfile.TemporaryDirectory(prefix="not-here-")
    atexit.register(directory.cleanup)
    for name in _ONLY_TESTS_NEED:
        Path(directory.name, f"{name}.py").write_text(f"raise ModuleNotFoundError({name!r}, name={name!r})\n")
    return directory.name


def peers(*, fsync: bool) -> list[Server]:
    """Those of the others that are installed and as durable."""
    command = (sys.executable, "-m", "benchmarks.stock_scp", "{port}", "{directory}")
    here = Path(__file__).resolve().parent.parent
    found = [Server("pynetdicom", (*command, "--fsync") if fsync else command, folder=here, has_index=False)]
    if orthanc := shutil.which(os.environ.get("ORTHANC_BIN", "Orthanc")):
        found.append(
            Server("Orthanc", (orthanc, "{configuration}"), configuration={**_ORTHANC, "SyncStorageArea": fsync})
        )
    if not fsync and (storescp := shutil.which("storescp")):
        command = (storescp, "--fork", "-pdu", "131072", "-od", "{directory}", "{port}")
        found.append(Server("DCMTK storescp", command, has_index=False))
    return found


def orthanc_with_dicomweb(*, fsync: bool) -> Server | None:
    """Orthanc and its DICOMweb plugin, told to keep what it would compute again; None when one of them is not here."""
    program = shutil.which(os.environ.get("ORTHANC_BIN", "Orthanc"))
    plugin = Path(os.environ.get("ORTHANC_DICOMWEB", "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"))
    if not program or not plugin.exists():
        return None
    web = {
        "HttpServerEnabled": True,
        "RemoteAccessAllowed": True,
        "AuthenticationEnabled": False,
        "HttpCompressionEnabled": False,
        "KeepAlive": True,
        "TcpNoDelay": True,
        "Plugins": [str(plugin)],
        "DicomWeb": {"Enable": True, "EnableMetadataCache": True, "StudiesMetadata": "Full", "SeriesMetadata": "Full"},
        # What QIDO-RS is asked for, so that it is not read from files.
        "ExtraMainDicomTags": {"Instance": ["Rows", "Columns", "NumberOfFrames", "BitsAllocated"]},
    }
    configuration = {**_ORTHANC, **web, "SyncStorageArea": fsync}
    return Server("Orthanc", (program, "{configuration}"), configuration=configuration, web_root="/dicom-web")


def missing() -> list[str]:
    """What is not installed, and how it would be."""
    found = []
    if not shutil.which(os.environ.get("ORTHANC_BIN", "Orthanc")):
        found.append("Orthanc (Debian package orthanc, or a program named by ORTHANC_BIN)")
    if not shutil.which("storescp"):
        found.append("storescp and storescu (Debian package dcmtk)")
    return found


def versions() -> list[str]:
    """What is compared, each with its version."""
    found = [f"pynetdicom {version('pynetdicom')}"]
    for program in (os.environ.get("ORTHANC_BIN", "Orthanc"), "storescp"):
        if path := shutil.which(program):
            told = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
            found.append(told.strip().splitlines()[0].strip("$ "))
    return found


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether it comes to an association, released at once."""
    deadline_s = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline_s:
        try:
            with raw_peer.RawPeer(("127.0.0.1", port)) as peer:
                peer.associate()
                peer.release()
        except (OSError, AssertionError):
            time.sleep(0.1)
        else:
            return True
    return False


def _found(port: int) -> int:
    application_entity = AE(ae_title="RAW_PEER")
    application_entity.add_requested_context(raw_peer.STUDY_ROOT_FIND)
    association = application_entity.associate("127.0.0.1", port, ae_title="GATEWAY")
    if not association.is_established:
        raise RuntimeError("no association to ask how many instances there are")
    asked = Dataset()
    asked.QueryRetrieveLevel = "STUDY"
    asked.StudyInstanceUID = asked.NumberOfStudyRelatedInstances = None
    count = 0
    for answer, study in association.send_c_find(asked, raw_peer.STUDY_ROOT_FIND):
        if "Status" not in answer or answer.Status not in (0x0000, 0xFF00, 0xFF01):
            raise RuntimeError(f"a C-FIND was answered with {answer}")
        if study is not None:
            count += int(study.NumberOfStudyRelatedInstances)
    association.release()
    return count
