"""The demo: the gateway on embedded engines, sending itself the sample studies as modality and web client."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydicom import dcmread
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from gateway import log
from gateway.config import Settings
from gateway.config.serving import DimseSettings
from gateway.dimse.ending import Ended
from gateway.dimse.requesting import Address, NotAssociated
from gateway.dimse.sending import Sender
from gateway.supervisor import METRICS, Supervisor, bind, stop_signal
from storage.dicom import file_meta
from storage.dicom.limits import Limits

_out = Console(highlight=False)
_CALLING_AE_TITLE = "SAMPLE_SCU"
_METRICS_PORT = 9464
_BOUNDARY = "sample-instances"
_INSTANCES_A_REQUEST = 20
_BLOCK_BYTES = 1 << 17


class SampleNotStored(Exception):
    """The gateway did not take a sample."""


def run(directory: Path, samples: Path, *, once: bool) -> bool:
    """Start, send, say where to look, wait for Ctrl-C. False when the samples could not be stored."""
    files = sorted(samples.rglob("*.dcm"))
    if not files:
        _out.print(f"[red]error[/] no samples in {samples}; run the demo in the repository, or name them by --samples")
        return False
    log.configure("demo", "warning")
    stop = stop_signal()
    with Supervisor(_settings(directory)) as supervisor:
        http_address, dimse_address = supervisor.http_address, supervisor.dimse_address
        by_dimse, by_web = split(files)
        with Progress(
            TextColumn("{task.description:<26}"), BarColumn(), MofNCompleteColumn(), console=_out
        ) as progress:
            for title, chosen, send, address in (
                ("C-STORE, one association", by_dimse, send_by_dimse, dimse_address),
                ("STOW-RS", by_web, send_by_web, http_address),
            ):
                task = progress.add_task(title, total=len(chosen))
                try:
                    send(chosen, address, lambda number, task=task: progress.advance(task, number))  # type: ignore[misc]
                except SampleNotStored as error:
                    _out.print(f"[red]error[/] {error}")
                    return False
        _welcome(http_address, dimse_address, supervisor.address(METRICS))
        if once:
            return True
        stop.wait()
        _out.print("stopping")
    return True


def _settings(directory: Path) -> Settings:
    """The defaults, on other ports where the usual ones are taken."""
    given = Settings()
    # The environment counts, but never for the place: samples do not belong in somebody's archive.
    own: dict[str, dict[str, Any]] = {
        "http": {"port": _free(given.http.port)},
        "dimse": {"port": _free(given.dimse.port)},
        "storage": {"directory": directory},
        "log": {"level": "warning"},
        # The console's page of what goes on shows what is counted there.
        "metrics": {"port": given.metrics.port or _free(_METRICS_PORT) or None},
    }
    return given.model_copy(update={name: getattr(given, name).model_copy(update=own[name]) for name in own})


def _free(port: int) -> int:
    try:
        bind("127.0.0.1", port).close()
    except OSError:
        return 0
    return port


def split(files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Series by one protocol and by the other, about as many instances each, so that both are seen."""
    series: dict[Path, list[Path]] = {}
    for file in files:
        series.setdefault(file.parent, []).append(file)
    by_dimse: list[Path] = []
    by_web: list[Path] = []
    for chosen in sorted(series.values(), key=len, reverse=True):
        min(by_dimse, by_web, key=len).extend(chosen)
    return by_dimse, by_web


def send_by_dimse(files: Sequence[Path], address: tuple[str, int], advance: Callable[[int], None]) -> None:
    """Send files by C-STORE over one association. Raises SampleNotStored."""
    gateway = DimseSettings()
    sender = Sender(Address(gateway.ae_title, *address), gateway.model_copy(update={"ae_title": _CALLING_AE_TITLE}))
    headers = [dcmread(file, stop_before_pixels=True) for file in files]
    try:
        sender.prepare(sorted({(str(h.SOPClassUID), str(h.file_meta.TransferSyntaxUID)) for h in headers}))
        for file, header in zip(files, headers, strict=True):
            with file.open("rb") as stream:
                meta, offset, _ = file_meta.read(stream, Limits())
                stream.seek(offset)
                blocks = iter(partial(stream.read, _BLOCK_BYTES), b"")
                uids = (str(header.SOPClassUID), str(header.SOPInstanceUID))
                status = sender.store(uids, meta.transfer_syntax_uid, blocks)
            if status != 0:
                raise SampleNotStored(f"{file}: C-STORE answered 0x{status:04X}")
            advance(1)
    except (NotAssociated, Ended) as error:
        raise SampleNotStored(str(error)) from error
    finally:
        sender.release()


def send_by_web(
    files: Sequence[Path],
    address: tuple[str, int],
    advance: Callable[[int], None],
    credentials: Mapping[str, str] | None = None,
) -> None:
    """Send files by STOW-RS; ``credentials`` are headers. Raises SampleNotStored."""
    connection = http.client.HTTPConnection(*address, timeout=60)
    headers = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}',
        "Accept": "application/dicom+json",
        **(credentials or {}),
    }
    for start in range(0, len(files), _INSTANCES_A_REQUEST):
        chosen = files[start : start + _INSTANCES_A_REQUEST]
        parts = [
            f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode() + file.read_bytes() + b"\r\n"
            for file in chosen
        ]
        connection.request("POST", "/dicomweb/studies", b"".join([*parts, f"--{_BOUNDARY}--".encode()]), headers)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != http.client.OK:
            raise SampleNotStored(f"STOW-RS answered {answer.status}: {body[:300].decode('utf-8', 'replace')}")
        advance(len(chosen))
    connection.close()


def _welcome(
    http_address: tuple[str, int], dimse_address: tuple[str, int], metrics_address: tuple[str, int] | None
) -> None:
    """Say where to look; the commands on lines of their own, so that they can be copied."""
    web, (host, port) = f"http://{http_address[0]}:{http_address[1]}", dimse_address
    title = DimseSettings().ae_title
    metrics = f"\nMetrics   http://{metrics_address[0]}:{metrics_address[1]}/metrics" if metrics_address else ""
    _out.rule("The gateway runs, with the sample studies in it")
    _out.print(
        f"""
Open      [bold cyan]{web}/[/]
DICOMweb  {web}/dicomweb   (described at {web}/dicomweb/api)
DIMSE     AE title {title}, {host} port {port}{metrics}

Try
  storescu -aec {title} {host} {port} FILE.dcm
  findscu -S -aec {title} {host} {port} -k QueryRetrieveLevel=STUDY -k PatientName -k StudyDate
  curl '{web}/dicomweb/studies?PatientName=m*&includefield=StudyDescription'
  python -c "from dicomweb_client import DICOMwebClient as C; print(C('{web}/dicomweb').search_for_studies())"

Ctrl-C ends it.""",
        soft_wrap=True,
    )
