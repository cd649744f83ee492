"""The DICOM data model, pure: no input or output beyond the stream it is given."""
