"""``make test`` goes on without what may be missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.programs import need_program

ROOT = Path(__file__).parents[2]


@need_program("make", "make")
def test_without_npm_it_says_what_is_left_out_and_goes_on(tmp_path: Path) -> None:
    programs, environment = tmp_path / "bin", tmp_path / "venv"
    programs.mkdir()
    for name in ("sh", "cp", "cat", "mkdir", "touch", "make"):
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    environment.mkdir()
    (environment / ".installed").touch()
    targets = [environment / "node_modules/.installed", environment / "ohif/.unpacked"]
    done = subprocess.run(
        ["make", f"VENV={environment}", *map(str, targets)],
        cwd=ROOT,
        env={"PATH": os.fspath(programs)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("npm is not here; left out: ") == 2
    assert not any(target.exists() for target in targets), "they are made when npm is here"
