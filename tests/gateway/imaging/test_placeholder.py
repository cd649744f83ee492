import io

import pytest
from PIL import Image

from gateway.imaging.placeholder import thumbnail_placeholder
from gateway.imaging.render import RenderedMediaType


@pytest.mark.parametrize("media_type", [each for each in RenderedMediaType if each is not RenderedMediaType.MP4])
def test_placeholder_is_a_picture_of_the_asked_kind_and_size(media_type: RenderedMediaType) -> None:
    found = thumbnail_placeholder("US", media_type, (96, 64))
    assert (found.media_type, found.rows, found.columns) == (media_type.value, 64, 96)
    assert Image.open(io.BytesIO(found.data)).size == (96, 64)


def test_modalities_have_pictures_of_their_own() -> None:
    assert thumbnail_placeholder("US").data != thumbnail_placeholder("XC").data


@pytest.mark.parametrize("modality", ["", "DOE^JANE", "us", "JONES"])
def test_a_modality_that_is_no_defined_term_is_never_drawn(modality: str) -> None:
    assert thumbnail_placeholder(modality).data == thumbnail_placeholder("").data


@pytest.mark.parametrize("size", [(1, 1), (15, 200), (2000, 10)])
def test_any_size_gives_a_picture(size: tuple[int, int]) -> None:
    assert thumbnail_placeholder("CTPROTOCOL", size=size).columns == size[0]
