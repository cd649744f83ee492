"""Time and check every codec library that could decode or encode our frames, on real files.

Run it in an environment that has the candidates; those that are absent are left out::

    python -m venv /tmp/codecs && /tmp/codecs/bin/pip install -e . pylibjpeg pylibjpeg-openjpeg \
        pylibjpeg-libjpeg pylibjpeg-rle pyjpegls python-gdcm
    /tmp/codecs/bin/python benchmarks/codecs.py ../shared/dicom

The tables are those of docs/decisions/0003-codecs.md: the best of N decodes of frame 1, in milliseconds, and the
largest difference from the values that gateway.imaging.decode gives; the best of N encodes of one CT slice and one
colour picture, with their sizes, and the largest difference after our own decoding.
"""

import argparse
import os
import platform
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import imagecodecs
import numpy as np
import pydicom
from pydicom.encaps import generate_frames
from pydicom.pixels import get_decoder, get_encoder

from gateway.imaging.decode import decode
from gateway.imaging.description import PixelDescription
from gateway.imaging.encode import ENCODERS, encode, encoded_description
from gateway.imaging.errors import NotEncodable

Result = TypeVar("Result")

FILES = {
    "JPEG baseline .50": "ct-one-image/1.2.840.10008.1.2.4.50.dcm",
    "JPEG baseline .50 colour": "color-test-pattern/testpattern_jpeg-baseline_ybrfull.dcm",
    "JPEG extended 12-bit .51": "ct-one-image/1.2.840.10008.1.2.4.51.dcm",
    "JPEG spectral 12-bit .53": "ct-one-image/1.2.840.10008.1.2.4.53.dcm",
    "JPEG progressive 12-bit .55": "ct-one-image/1.2.840.10008.1.2.4.55.dcm",
    "JPEG lossless .57": "ct-one-image/1.2.840.10008.1.2.4.57.dcm",
    "JPEG lossless .70": "ct-one-image/1.2.840.10008.1.2.4.70.dcm",
    "JPEG lossless .70, 3062x2394": "../objects/mg/mg-jpeg-lossless.dcm",
    "JPEG-LS .80": "ct-one-image/1.2.840.10008.1.2.4.80.dcm",
    "JPEG-LS .81": "ct-one-image/1.2.840.10008.1.2.4.81.dcm",
    "JPEG 2000 .90": "ct-one-image/1.2.840.10008.1.2.4.90.dcm",
    "JPEG 2000 .91": "ct-one-image/1.2.840.10008.1.2.4.91.dcm",
    "HTJ2K .201 colour": "htj2k/htj2k-lossless-201-rgb.dcm",
    "HTJ2K .202": "htj2k/htj2k-rpcl-202-nm.dcm",
    "HTJ2K .203 colour": "htj2k/htj2k-203-rgb.dcm",
    "RLE .5": "ct-one-image/1.2.840.10008.1.2.5.dcm",
    "Deflated frame .8.1": "deflated-image-frame-8.1-seg.dcm",
}
"""What is measured, below transfer-syntaxes/ of the shared test data."""


def best_ms(decoder: Callable[[], Result], rounds: int) -> tuple[float, Result]:
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        pixels = decoder()
        best = min(best, time.perf_counter() - started)
    return best * 1000, pixels


def candidates(dataset: pydicom.Dataset, data: bytes) -> dict[str, Callable[[], np.ndarray]]:
    found: dict[str, Callable[[], np.ndarray]] = {}
    uid = dataset.file_meta.TransferSyntaxUID
    if uid.endswith((".4.201", ".4.202", ".4.203")):
        found["imagecodecs OpenJPH"] = lambda: imagecodecs.htj2k_decode(data)
    try:
        decoder = get_decoder(uid)
    except NotImplementedError:
        return found
    for plugin in decoder.available_plugins:
        found[f"pydicom + {plugin}"] = lambda plugin=plugin: decoder.as_array(
            dataset, index=0, decoding_plugin=plugin, raw=True
        )[0]
    return found


PICTURES = {
    "CT, 16 bit signed": "ct-one-image/1.2.840.10008.1.2.1.dcm",
    "colour, 8 bit": "color-test-pattern/testpattern_rgb.dcm",
}
"""What is encoded."""


def encoding_candidates(dataset: pydicom.Dataset, uid: str) -> dict[str, Callable[[], bytes]]:
    found: dict[str, Callable[[], bytes]] = {}
    try:
        encoder = get_encoder(uid)
    except NotImplementedError:
        return found
    lossy = {"1.2.840.10008.1.2.4.81": {"jls_error": 2}, "1.2.840.10008.1.2.4.91": {"j2k_psnr": [60]}}
    for plugin in encoder.available_plugins:
        found[f"pydicom + {plugin}"] = lambda plugin=plugin: encoder.encode(
            dataset, index=0, encoding_plugin=plugin, **lossy.get(uid, {})
        )
    return found


def encode_all(shared: Path, rounds: int) -> None:
    print("\n| picture | transfer syntax | encoder | ms | bytes | largest difference |")
    print("| --- | --- | --- | ---: | ---: | ---: |")
    for label, name in PICTURES.items():
        dataset = pydicom.dcmread(shared / "transfer-syntaxes" / name)
        metadata = dataset.to_json_dict(bulk_data_threshold=64, bulk_data_element_handler=lambda _: "bulk")
        description = PixelDescription.from_metadata(metadata)
        pixels = decode(dataset.PixelData, "1.2.840.10008.1.2.1", description)
        for uid in sorted(ENCODERS):
            try:
                after = encoded_description(description, uid)
            except NotEncodable:
                continue
            runs = {"gateway.imaging": partial(encode, pixels, description, uid)}
            for encoder, run in (runs | encoding_candidates(dataset, uid)).items():
                try:
                    ms, data = best_ms(run, rounds)
                    difference = np.abs(decode(data, uid, after).astype(np.int64) - pixels).max()
                except Exception as error:  # a candidate that cannot do it is a result
                    print(f"| {label} | {uid} | {encoder} | {type(error).__name__} | | |")
                    continue
                print(f"| {label} | {uid} | {encoder} | {ms:.1f} | {len(data)} | {difference} |")


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare codec libraries on shared/dicom.")
    parser.add_argument("shared", type=Path)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    print(f"{os.cpu_count()} CPUs, Python {platform.python_version()}, imagecodecs {imagecodecs.__version__}\n")
    print("| frame | decoder | ms | largest difference |\n| --- | --- | ---: | ---: |")
    for label, name in FILES.items():
        dataset = pydicom.dcmread(arguments.shared / "transfer-syntaxes" / name)
        uid = str(dataset.file_meta.TransferSyntaxUID)
        count = int(dataset.get("NumberOfFrames") or 1)
        data = next(generate_frames(dataset.PixelData, number_of_frames=count))
        metadata = dataset.to_json_dict(bulk_data_threshold=64, bulk_data_element_handler=lambda _: "bulk")
        description = PixelDescription.from_metadata(metadata)
        ours_ms, ours = best_ms(
            lambda uid=uid, data=data, description=description: decode(data, uid, description), arguments.rounds
        )
        print(f"| {label} | gateway.imaging | {ours_ms:.1f} | |")
        for decoder, run in candidates(dataset, data).items():
            try:
                ms, pixels = best_ms(run, arguments.rounds)
            except Exception as error:  # a candidate that cannot do it is a result
                print(f"| {label} | {decoder} | {type(error).__name__} | |")
                continue
            difference = np.abs(pixels.reshape(ours.shape).astype(np.int64) - ours).max()
            print(f"| {label} | {decoder} | {ms:.1f} | {difference} |")
    encode_all(arguments.shared, arguments.rounds)


if __name__ == "__main__":
    main()
