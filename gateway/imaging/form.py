"""What is needed to have a native frame back from its codestream, as one line of text that is kept with it."""

import json
from dataclasses import asdict, dataclass, replace

from gateway.imaging.decode import EncodedFrame
from gateway.imaging.description import FloatKind, PhotometricInterpretation, PixelDescription
from gateway.imaging.errors import InvalidDescription
from gateway.imaging.native import native_bytes, unpack
from gateway.imaging.pool import ImagingPool


@dataclass(frozen=True, slots=True)
class Form:
    """The transfer syntax of the codestreams, and the pixels as described in it and in the native original."""

    transfer_syntax_uid: str
    encoded: PixelDescription
    native: PixelDescription

    def dumps(self) -> str:
        """As text."""
        return json.dumps(
            {"syntax": self.transfer_syntax_uid, "encoded": _told(self.encoded), "native": _told(self.native)}
        )

    def restored(self, pool: ImagingPool, codestream: bytes) -> bytes:
        """The frame in little endian, in the Planar Configuration of the original. Raises ImagingError."""
        frame = pool.decode(EncodedFrame(codestream, self.transfer_syntax_uid, self.encoded))
        if self.native.planar_configuration == 0 or self.native.samples_per_pixel == 1:
            return frame
        return native_bytes(unpack(frame, replace(self.native, planar_configuration=0)), self.native)


def loads(text: str) -> Form:
    """What ``dumps`` made. Raises InvalidDescription."""
    try:
        found = json.loads(text)
        return Form(str(found["syntax"]), _described(found["encoded"]), _described(found["native"]))
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidDescription("the form of the codestreams cannot be read") from error


def _told(description: PixelDescription) -> dict[str, object]:
    return {
        **asdict(description),
        "photometric_interpretation": description.photometric_interpretation.value,
        "float_kind": description.float_kind.value,
    }


def _described(told: dict[str, object]) -> PixelDescription:
    return PixelDescription(
        **{
            **told,
            "photometric_interpretation": PhotometricInterpretation(told["photometric_interpretation"]),
            "float_kind": FloatKind(told["float_kind"]),
        }  # type: ignore[arg-type]
    )
