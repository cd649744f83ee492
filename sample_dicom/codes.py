"""Coded concepts."""

from __future__ import annotations

from pydicom.dataset import Dataset


def code(value: str, scheme: str, meaning: str) -> Dataset:
    """Return an item of a Code Sequence (PS3.3 8.8)."""
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = scheme
    item.CodeMeaning = meaning
    return item


def reference(instance: Dataset) -> Dataset:
    """Return an item that refers to an instance by its SOP class and UID (PS3.3 10.8)."""
    item = Dataset()
    item.ReferencedSOPClassUID = instance.SOPClassUID
    item.ReferencedSOPInstanceUID = instance.SOPInstanceUID
    return item


BRAIN = ("12738006", "SCT", "Brain")
