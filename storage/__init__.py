"""Bytes and rows: the DICOM data model, the object store and the index."""
