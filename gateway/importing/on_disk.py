"""Which kind of source a path is."""

from __future__ import annotations

import zipfile
from pathlib import Path

from gateway.config import InvalidSettings
from gateway.importing.file_sets import FileSet, is_directory
from gateway.importing.items import Source
from gateway.importing.trees import OneFile, Tree
from gateway.importing.zips import Zip
from storage.dicom.limits import Limits


def source(given: str, limits: Limits, leave_out: Path) -> Source:
    """A directory with all below it, a ZIP, what a DICOMDIR names, or a file.

    Raises InvalidSettings when it is neither, OSError.

    Parameters
    ----------
    leave_out
        See Tree.
    """
    path = Path(given)
    if path.is_dir():
        return Tree(path, leave_out)
    if not path.is_file():
        raise InvalidSettings([f"{given}: neither a file nor a directory"])
    if zipfile.is_zipfile(path):
        return Zip(path, limits)
    return FileSet(path, limits) if is_directory(path, limits) else OneFile(path)
