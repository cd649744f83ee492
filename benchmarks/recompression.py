"""Measure recompression to HTJ2K: bytes saved over a corpus, what it costs, and the time to a first image.

    python -m benchmarks.recompression [--corpus ../shared/dicom] [--slices 60] [--link-mbit 20]

The corpus are the Part 10 files below a directory, those of the pydicom wheel, and generated CT slices (512 x 512, 12
of 16 bits: a phantom of soft edges with the noise of a CT). They are stored in an archive of their own and recompressed
as the background worker does it, comparison of the pixels included. The time to a first image is computed: the bytes
over a link of so many Mbit/s, and the measured decode with OpenJPH, which web viewers have compiled to WebAssembly. A
prefix goes to the end of the tile part of the resolution, as the codestream's TLM says.
"""

from __future__ import annotations

import argparse
import io
import platform
import statistics
import struct
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset

from gateway import assembly
from gateway.assembly import Core
from gateway.config import Settings
from gateway.config.keeping import RecompressionRule
from gateway.config.storing import StorageSettings
from gateway.imaging import encode
from gateway.imaging.decode import EncodedFrame
from gateway.imaging.description import PhotometricInterpretation, PixelDescription
from gateway.services.recompress import RecompressionService
from storage.archive import Sender
from storage.dicom import file_meta, part10
from storage.dicom import identifiers as ids
from storage.dicom.limits import Limits
from storage.dicom.matching import EVERYTHING
from storage.errors import StorageError
from storage.index.arrivals import Conflict, Outcome

_CT = "1.2.840.10008.5.1.4.1.1.2"
_MAX_FILE_BYTES = 256 << 20
_MIB = 1 << 20
_DAY_S = 86_400.0
_TENANT = ids.tenant("main")


@dataclass(slots=True)
class Group:
    """What became of files of one kind: bytes are those of the files that were recompressed."""

    files: int = 0
    made: int = 0
    before: int = 0
    after: int = 0
    seconds: float = 0.0


def main() -> None:
    """Print the tables of docs/performance.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=Path("../shared/dicom"))
    parser.add_argument("--slices", type=int, default=60)
    parser.add_argument("--link-mbit", type=float, default=20.0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"{platform.machine()}, Python {platform.python_version()}, imagecodecs {imagecodecs.__version__}")
    slices = [ct_slice(number) for number in range(options.slices)]
    saved(options.corpus, slices)
    instead(options.corpus, slices)
    encoding(slices[0])
    first_images(slices[len(slices) // 2], options.corpus, options.link_mbit)


# The corpus


def ct_slice(number: int) -> np.ndarray:
    """A generated CT slice in Hounsfield units + 1024: air, a body, organs with soft edges, bone, and noise."""
    y, x = (axis.astype(np.float64) for axis in np.mgrid[:512, :512])
    found = np.full((512, 512), 24.0)

    def ellipse(centre: tuple[float, float], axes: tuple[float, float], value: float, edge: float) -> None:
        distance = ((x - centre[0]) / axes[0]) ** 2 + ((y - centre[1]) / axes[1]) ** 2
        inside = 1 / (1 + np.exp(np.clip((np.sqrt(distance) - 1) * edge, -60, 60)))
        found[:] = found * (1 - inside) + value * inside

    swing = 12 * np.sin(number / 9)
    ellipse((256, 262), (205, 150), 940, 90)
    ellipse((256, 262), (190, 136), 1064, 60)
    ellipse((170 + swing, 230), (62, 84 - swing), 190, 40)
    ellipse((342 - swing, 230), (62, 84 - swing), 190, 40)
    ellipse((256, 360), (26, 22), 1700, 25)
    ellipse((256, 250 + swing / 2), (48, 56), 1090 + swing, 20)
    noise = np.random.default_rng(number).normal(0, 14, (512, 512))
    body = found > 100
    return np.clip(np.round(found + np.where(body, noise, noise / 4)), 0, 4095).astype("<u2")


def ct_file(pixels: np.ndarray, number: int, study: str) -> bytes:
    """A generated slice as a Part 10 file."""
    found = Dataset()
    for keyword, value in {
        "SOPClassUID": _CT, "SOPInstanceUID": f"{study}.1.{number + 1}", "StudyInstanceUID": study,
        "SeriesInstanceUID": f"{study}.1", "PatientID": "GENERATED", "PatientName": "Generated^CT", "Modality": "CT",
        "InstanceNumber": number + 1, "Rows": 512, "Columns": 512, "SamplesPerPixel": 1, "BitsAllocated": 16,
        "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0, "PhotometricInterpretation": "MONOCHROME2",
        "PixelData": pixels.tobytes(),
    }.items():  # fmt: skip
        setattr(found, keyword, value)
    found["PixelData"].VR = "OW"
    found.file_meta = FileMetaDataset()
    found.file_meta.MediaStorageSOPClassUID, found.file_meta.MediaStorageSOPInstanceUID = _CT, found.SOPInstanceUID
    found.file_meta.TransferSyntaxUID = file_meta.EXPLICIT_VR_LITTLE_ENDIAN
    out = io.BytesIO()
    pydicom.dcmwrite(out, found, enforce_file_format=True)
    return out.getvalue()


def files(corpus: Path, slices: list[np.ndarray]) -> Iterator[tuple[str, bytes]]:
    """What is stored, with where it comes from."""
    wheel = Path(pydicom.__file__).parent / "data" / "test_files"
    for source, folder in (("shared files", corpus), ("pydicom's files", wheel)):
        for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
            if path.is_file() and path.stat().st_size <= _MAX_FILE_BYTES:
                yield source, path.read_bytes()
    for number, pixels in enumerate(slices):
        yield "generated CT", ct_file(pixels, number, "2.25.314159")


def saved(corpus: Path, slices: list[np.ndarray]) -> None:
    """Store everything, recompress it, and tell what came of it."""
    with tempfile.TemporaryDirectory(prefix="recompression-") as folder:
        settings = Settings(storage=StorageSettings(directory=Path(folder) / "data", fsync=False))
        core = assembly.build(settings, "background", any_age=True)
        try:
            groups, left = recompressed(core, dict(stored(core, corpus, slices)))
        finally:
            core.close()
    print("\n| corpus | files | recompressed | MB | MB in HTJ2K | saved | ms per MB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, group in groups.items():
        if group.made:
            print(
                f"| {name} | {group.files} | {group.made} | {group.before / 1e6:.1f} | {group.after / 1e6:.1f} |"
                f" {100 - 100 * group.after / group.before:.0f} % | {group.seconds * 1e9 / group.before:.0f} |"
            )
    print("\nleft:", ", ".join(f"{count} {why}" for why, count in left.most_common()))


def stored(core: Core, corpus: Path, slices: list[np.ndarray]) -> Iterator[tuple[ids.Version, str]]:
    """Keep the corpus; the versions that are current then, with where they come from and their modality."""
    for source, body in files(corpus, slices):
        try:
            meta, offset, _ = file_meta.read(io.BytesIO(body), Limits())
            found = part10.extract(io.BytesIO(body[offset:]), meta.transfer_syntax_uid, Limits(), part10.Announced())
        except StorageError:
            continue  # what no archive takes
        version = core.archive.new_version()
        tenant = ids.tenant(source.split("'")[0].replace(" ", "-").lower())
        commit = core.archive.store(tenant, version, found, [body[offset:]], Sender(), Conflict.VERSION)
        if commit.outcome is not Outcome.DUPLICATE:
            yield version, source


def recompressed(core: Core, sources: dict[ids.Version, str]) -> tuple[dict[str, Group], Counter[str]]:
    """Recompress everything that is lossless, one step after the other."""
    known = (
        *RecompressionRule.model_fields["transfer_syntaxes"].default,
        *("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"),
    )
    rule = RecompressionRule.model_validate({"name": "all", "transfer_syntaxes": known})
    groups: dict[str, Group] = defaultdict(Group)
    left: Counter[str] = Counter()
    with assembly.gentle_pool(core) as pool:
        gray = np.zeros((8, 8), np.uint8)
        pool.encode(
            EncodedFrame(gray.tobytes(), file_meta.EXPLICIT_VR_LITTLE_ENDIAN, described(gray, 8)), encode.HTJ2K_RPCL
        )  # it starts
        service = RecompressionService(
            core.archive, pool, core.spool, core.room, [rule],
            condenser=assembly.condenser(core, pool), after_s=0.0, holder="benchmark", now=lambda: time.time() + _DAY_S,
        )  # fmt: skip
        began_s = time.perf_counter()
        for step in service.round():
            now_s = time.perf_counter()
            name = f"{sources[step.located.version]}, {step.located.transfer_syntax_uid}"
            for group in (groups[name], groups["all"]):
                group.files += 1
                if step.left is None:
                    group.made += 1
                    group.before += step.size
                    group.after += step.made
                    group.seconds += now_s - began_s
            if step.left is not None:
                left[step.left.value] += 1
            began_s = time.perf_counter()
    return dict(sorted(groups.items())), left


# Instead of what was sent


def instead(corpus: Path, slices: list[np.ndarray]) -> None:
    """Tell what CT takes beside and instead, and how long a frame of 512 x 512 takes to read from a local disk."""
    wheel = Path(pydicom.__file__).parent / "data" / "test_files"
    real = [
        path.read_bytes()
        for folder in (corpus, wheel)
        for path in (sorted(folder.rglob("*.dcm")) if folder.is_dir() else ())
        if is_ct(path)
    ]
    groups = {
        "generated CT, 512 x 512": [ct_file(pixels, number, "2.25.314159") for number, pixels in enumerate(slices)],
        "CT of the shared files and pydicom": real,
    }
    print("\n| corpus | kept | MB as sent | MB on disk | ms a native frame | ms a frame in HTJ2K |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for name, bodies in groups.items():
        with tempfile.TemporaryDirectory(prefix="recompression-") as folder:
            settings = Settings(storage=StorageSettings(directory=Path(folder) / "data", fsync=False))
            core = assembly.build(settings, "background", any_age=True)
            try:
                versions = [version for body in bodies for version in kept(core, body)]
                for keep in ("", "beside", "instead"):
                    if keep:
                        carried_out(core, keep)
                    reading = assembly.build(settings, "reading")  # which has decoded nothing yet
                    tell_kept(reading, name, keep or "as sent", versions)
                    reading.close()
            finally:
                core.close()


def is_ct(path: Path) -> bool:
    """Whether a file is a native CT with pixels."""
    try:
        found = pydicom.dcmread(path, stop_before_pixels=True)
        native = found.file_meta.TransferSyntaxUID in (
            file_meta.IMPLICIT_VR_LITTLE_ENDIAN,
            file_meta.EXPLICIT_VR_LITTLE_ENDIAN,
        )
    except Exception:  # whatever a test file is there for
        return False
    return native and found.get("Modality") == "CT" and "Rows" in found


def kept(core: Core, body: bytes) -> list[ids.SopUid]:
    """Keep a file, unless no archive takes it or it is there."""
    try:
        meta, offset, _ = file_meta.read(io.BytesIO(body), Limits())
        found = part10.extract(io.BytesIO(body[offset:]), meta.transfer_syntax_uid, Limits(), part10.Announced())
    except StorageError:
        return []
    commit = core.archive.store(_TENANT, core.archive.new_version(), found, [body[offset:]], Sender(), Conflict.VERSION)
    return [found.sop_uid] if commit.outcome is Outcome.STORED else []


def carried_out(core: Core, keep: str) -> None:
    """Carry a rule out."""
    rule = RecompressionRule.model_validate({"name": "all", "keep": keep})
    with assembly.gentle_pool(core) as pool:
        service = RecompressionService(
            core.archive, pool, core.spool, core.room, [rule], condenser=assembly.condenser(core, pool), after_s=0.0,
            holder="benchmark", now=lambda: time.time() + _DAY_S,
        )  # fmt: skip
        for _ in service.round():
            pass


def tell_kept(core: Core, name: str, keep: str, sop_uids: list[ids.SopUid]) -> None:
    """One row: what is on the disk, and the medians of reading each first frame once."""
    archive = core.archive
    found = archive.index.locate_instances(_TENANT, sop_uids, EVERYTHING)
    folder = core.settings.storage.directory / "archive" / "objects"
    on_disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    native, packed = [], []
    archive.objects.get(found[0].object_key)  # its decoder starts
    for located in found[1:]:
        layout = archive.index.layout(located.version_id).frames
        if layout.count:
            native.append(once_ms(partial(archive.read, located, layout.offset, layout.stride)))
        beside = archive.index.beside(located)
        if beside is not None:
            (fragments,) = archive.index.fragments(beside.version_id, [1])
            packed.append(once_ms(partial(archive.read, beside, fragments.start, fragments.end - fragments.start)))
    told = f"{statistics.median(packed):.2f}" if packed else ""
    sent = sum(each.size for each in found)
    print(f"| {name} | {keep} | {sent / 1e6:.1f} | {on_disk / 1e6:.1f} | {statistics.median(native):.2f} | {told} |")


def once_ms(call: Callable[[], object]) -> float:
    """How long a call takes."""
    began_s = time.perf_counter()
    call()
    return (time.perf_counter() - began_s) * 1000


# A frame


def best_ms(call: Callable[[], object], rounds: int = 7) -> float:
    """The best of some runs."""
    found = float("inf")
    for _ in range(rounds):
        began_s = time.perf_counter()
        call()
        found = min(found, (time.perf_counter() - began_s) * 1000)
    return found


def described(pixels: np.ndarray, bits_stored: int) -> PixelDescription:
    """The description of a frame in grey or RGB."""
    samples = 3 if pixels.ndim == 3 else 1
    return PixelDescription(
        rows=pixels.shape[0], columns=pixels.shape[1], samples_per_pixel=samples,
        bits_allocated=pixels.dtype.itemsize * 8, bits_stored=bits_stored, high_bit=bits_stored - 1,
        pixel_representation=int(pixels.dtype.kind == "i"),
        photometric_interpretation=PhotometricInterpretation("RGB" if samples == 3 else "MONOCHROME2"),
        planar_configuration=0, number_of_frames=1,
    )  # fmt: skip


def codestream(pixels: np.ndarray, bits_stored: int) -> bytes:
    """One frame in HTJ2K as the gateway writes it."""
    return encode.encode(np.atleast_3d(pixels), described(pixels, bits_stored), encode.HTJ2K_RPCL)


def encoding(pixels: np.ndarray) -> None:
    """Tell how long a frame takes by itself."""
    took_ms, size = best_ms(lambda: codestream(pixels, 12)), pixels.nbytes
    print(f"\none generated slice: {took_ms:.1f} ms to encode, {took_ms * 1e6 / size:.1f} ms per MB")


def tile_parts(data: bytes) -> list[int]:
    """Where each tile part ends, one a resolution, by the codestream's TLM (ISO/IEC 15444-1 A.7.1)."""
    place, lengths = 2, b""
    while (marker := struct.unpack_from(">H", data, place)[0]) != 0xFF90:
        (length,) = struct.unpack_from(">H", data, place + 2)
        if marker == 0xFF55:
            lengths = data[place + 6 : place + 2 + length]
        place += 2 + length
    sizes = [struct.unpack_from(">I", lengths, start + 2)[0] for start in range(0, len(lengths), 6)]
    return list(accumulate([place, *sizes]))[1:]


def first_images(generated: np.ndarray, corpus: Path, link_mbit: float) -> None:
    """Tell how long it is until something can be seen."""
    frames = [("generated CT, 512 x 512", generated, 12)]
    real = (("real CT", "ct-one-image/1.2.840.10008.1.2.1.dcm"), ("mammogram", "mg-jpeg-lossless.dcm"))
    for name, wanted in real:
        path = next((each for each in sorted(corpus.rglob("*.dcm")) if str(each).endswith(wanted)), None)
        if path is not None:
            found = pydicom.dcmread(path)
            pixels = np.ascontiguousarray(pydicom.pixels.pixel_array(found, index=0, raw=True))
            frames.append((f"{name}, {found.Columns} x {found.Rows}", pixels, found.BitsStored))
    print(f"\n| frame | form | KB | ms over {link_mbit:g} Mbit/s | ms to decode | ms to the image |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for name, pixels, bits_stored in frames:
        data = codestream(pixels, bits_stored)
        ends = tile_parts(data)
        rows: list[tuple[str, int, float]] = [("native", pixels.nbytes, 0.0)]
        rows.append(("HTJ2K, whole", len(data), best_ms(lambda data=data: imagecodecs.htj2k_decode(data))))
        for skipped, part in ((1, "1/2"), (2, "1/4"), (3, "1/8")):
            head = data[: ends[-1 - skipped]]
            took_ms = best_ms(lambda head=head, skipped=skipped: imagecodecs.htj2k_decode(head, skipres=skipped))
            rows.append((f"HTJ2K, prefix at {part}", len(head), took_ms))
        for form, size, decode_ms in rows:
            link_ms = size * 8 / link_mbit / 1000
            print(
                f"| {name} | {form} | {size / 1000:.0f} | {link_ms:.0f} | {decode_ms:.1f} | {link_ms + decode_ms:.0f} |"
            )


if __name__ == "__main__":
    main()
