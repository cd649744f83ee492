"""The neutral picture that stands in for a thumbnail which could show a person's name."""

from PIL import Image, ImageDraw, ImageFont

from gateway.imaging.picture import DEFAULT_QUALITY, RenderedImage, RenderedMediaType, encode

# fmt: off
_KNOWN_MODALITIES = frozenset(
    {
        "ANN", "AR", "ASMT", "AU", "BI", "BMD", "CD", "CR", "CT", "CTPROTOCOL", "DG", "DOC", "DX", "ECG",
        "EM", "EPS", "ES", "FID", "GM", "HC", "HD", "IO", "IOL", "IVOCT", "IVUS", "KER", "KO", "LEN", "LS",
        "MG", "MR", "M3D", "NM", "OAM", "OCT", "OP", "OPM", "OPT", "OPTBSV", "OPTENF", "OPV", "OSS", "OT",
        "PA", "PLAN", "POS", "PR", "PT", "PX", "REG", "RESP", "RF", "RG", "RTDOSE", "RTIMAGE", "RTINTENT",
        "RTPLAN", "RTRAD", "RTRECORD", "RTSEGANN", "RTSTRUCT", "RWV", "SEG", "SM", "SMR", "SR", "SRF",
        "STAIN", "TEXTUREMAP", "TG", "US", "VA", "XA", "XAPROTOCOL", "XC",
    }
)
# fmt: on
"""Defined Terms of Modality (0008,0060), PS3.3 C.7.3.1.1.1: anything else could be free text."""

_BACKGROUND, _FRAME, _TEXT = 32, 72, 160


def thumbnail_placeholder(
    modality: str,
    media_type: RenderedMediaType = RenderedMediaType.JPEG,
    size: tuple[int, int] = (128, 128),
) -> RenderedImage:
    """Draw a picture that depends on the modality alone, never on an instance.

    Parameters
    ----------
    modality
        Modality (0008,0060). Only its defined terms are drawn: an invented term could be a name.
    media_type
        Of the picture.
    size
        (width, height) in pixels.

    References
    ----------
    PS3.18 10.4.1.1.4 "Thumbnail Resources": "shall not contain any Patient Identifying Information"
    """
    picture = Image.new("L", size, _BACKGROUND)
    draw = ImageDraw.Draw(picture)
    inset = min(size) // 16
    if min(size) >= 16:
        draw.rectangle((inset, inset, size[0] - 1 - inset, size[1] - 1 - inset), outline=_FRAME)
    if modality in _KNOWN_MODALITIES:
        font = ImageFont.load_default(max(min(size[1] // 4, size[0] // len(modality)), 6))
        draw.text((size[0] / 2, size[1] / 2), modality, fill=_TEXT, font=font, anchor="mm")
    return encode(picture, media_type, DEFAULT_QUALITY)
