"""UIDs that are the same on every run."""

from __future__ import annotations

import uuid

from pydicom.uid import UID

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:dicomweb-gateway:sample_dicom")


def sample_uid(*names: str | int) -> UID:
    """Derive a UID from names, under 2.25 (PS3.5 B.2 "UUID Derived UID")."""
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, '/'.join(map(str, names))).int}")
