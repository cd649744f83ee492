"""What a decoding process has loaded when it begins."""

from __future__ import annotations

import json
import subprocess
import sys

_EVERY_FORMAT = """
import json, sys
from PIL import Image
from gateway.imaging import worker
from gateway.imaging.animation import Timing, assemble
from gateway.imaging.picture import RenderedMediaType, encode

worker._load_codecs()
at_first = set(sys.modules)
pictures = [Image.new(mode, (32, 24), 7) for mode in ("L", "RGB")]
for kind in RenderedMediaType:
    for picture in pictures:
        if kind is not RenderedMediaType.MP4:
            encode(picture, kind, 90, b"a profile")
            encode(picture, kind, 100)
        if kind.holds_several:
            assemble(iter([picture, picture]), 2, Timing((40,)), kind, 90)
print(json.dumps([sorted(at_first), sorted(set(sys.modules) - at_first)]))
"""


def test_everything_that_writes_a_picture_is_loaded_before_memory_is_bounded_and_nothing_else() -> None:
    told = subprocess.run([sys.executable, "-c", _EVERY_FORMAT], capture_output=True, check=True, timeout=60).stdout
    at_first, later = json.loads(told)
    assert later == []
    assert "PIL.Jpeg2KImagePlugin" in at_first
    assert not {"PIL.WmfImagePlugin", "PIL.PdfImagePlugin", "importlib.metadata", "email"} & set(at_first)
