"""Errors of the imaging package.

::

    ImagingError
    ├── InvalidDescription   the instance's own pixel attributes are missing or impossible
    ├── NotDecodable         a transfer syntax or colour space that this gateway cannot decode
    ├── NotEncodable         a transfer syntax that cannot hold the samples, or is not written here
    ├── FrameMismatch        the frame's own header disagrees with the instance's attributes
    ├── FrameDamaged         the frame cannot be decoded, or its decoder crashed
    ├── FrameTooLarge        decoding or rendering would need more memory than allowed
    ├── InvalidRendering     rendering parameters outside what the standard allows
    ├── ImagingTimeout       the job took longer than its deadline
    └── ImagingBusy          no worker was free in time

Messages hold sizes, counts and UIDs of transfer syntaxes only, never attribute values that could
identify a person.
"""


class ImagingError(Exception):
    """Any failure to turn a stored frame into pixels or a picture."""


class InvalidDescription(ImagingError):
    """The instance's Image Pixel attributes are missing or impossible."""


class NotDecodable(ImagingError):
    """The transfer syntax or colour space is not one that this gateway decodes."""


class NotEncodable(ImagingError):
    """The transfer syntax asked for cannot hold the samples, or is not one that this gateway writes."""


class FrameMismatch(ImagingError):
    """The frame's codestream header disagrees with the instance's Image Pixel attributes."""


class FrameDamaged(ImagingError):
    """The frame is truncated or corrupt, or its decoder crashed on it."""


class FrameTooLarge(ImagingError):
    """The frame needs more memory than one job may use."""


class InvalidRendering(ImagingError):
    """The rendering parameters are outside what PS3.18 8.3.5 allows."""


class ImagingTimeout(ImagingError):
    """The job took longer than its deadline, and its worker was ended."""


class ImagingBusy(ImagingError):
    """No worker was free within the waiting time, or too many callers wait already."""
