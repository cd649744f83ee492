"""dicomweb-client and dcmjs, as OHIF and other viewers in browsers use them, against a running gateway."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.programs import in_ci, need_program
from tests.serving import Gateway

pytestmark = pytest.mark.dealt("s3+postgres")

PROGRAM = Path(__file__).parent / "javascript" / "client.cjs"
MODULES = Path(sys.prefix) / "node_modules"
"""Where ``make test`` puts what package.json beside the program names."""

PNG, JPEG = "89504e47", "ffd8ff"


@need_program("node", "nodejs")
def test_every_operation_of_the_javascript_client(running: Gateway, tmp_path: Path) -> None:
    if not (MODULES / "dicomweb-client").is_dir():
        (pytest.fail if in_ci() else pytest.skip)(
            f"needs what package.json names in {MODULES}: make test puts it there"
        )
    (tmp_path / "client.cjs").write_text(PROGRAM.read_text())
    (tmp_path / "node_modules").symlink_to(MODULES)
    done = subprocess.run(
        ["node", "client.cjs", running.web], check=False, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    study, first = found["study"], found["instances"][0]
    assert (found["stored"], found["storedAgain"]) == (2, 1)
    assert found["studies"] == [[study, "Dcmjs^Jörg", 2]]
    assert (found["none"], found["series"], found["found"], found["metadata"]) == ([], 1, 2, [2, 2, 1])
    assert found["instance"] == [first, "Dcmjs^Jörg", 3 * 1536]
    assert found["retrieved"] == [sorted(found["instances"])] * 2
    assert found["frames"] == [1536, 1536]
    assert found["framesAreThePixels"]
    assert found["jpegLs"].startswith(JPEG)  # JPEG-LS begins as JPEG does
    assert found["bulk"] == found["bulkAlone"] == [1, 3 * 1536]
    assert found["rendered"] == PNG
    assert all(found[name].startswith(JPEG) for name in ("frameRendered", "thumbnail", "frameThumbnail"))
    assert found["uri"] == [200, first]
    assert found["missing"] == 404
