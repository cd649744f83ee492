import numpy as np
import pytest
from PIL import Image

from gateway.imaging import fonts
from gateway.imaging.annotation import Annotation, annotate


def drawn(lines: tuple[str, ...], size: tuple[int, int] = (400, 200), ground: int = 0) -> np.ndarray:
    return np.asarray(annotate(Image.new("L", size, ground), Annotation(patient=lines)))


def test_text_is_legible_on_any_ground() -> None:
    for ground in (0, 255):
        found = drawn(("Doe, Jane", "ID 12345"), ground=ground)
        assert found[:40, :150].max() > 200
        assert found[:40, :150].min() < 60


def test_different_names_give_different_pictures_whatever_their_letters() -> None:
    names = ["Muller", "Müller", "Ångström", "Şahin", "Łukasz", "Παπάς"]
    if not fonts.system_fonts():
        pytest.skip("needs DejaVu Sans")
    pictures = {drawn((name,)).tobytes() for name in names}
    assert len(pictures) == len(names)


def test_without_a_fitting_font_accents_are_lost_and_nothing_becomes_a_box(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "system_fonts", lambda: ())
    assert fonts.legible("Müller", 12)[0] == "Muller"
    assert fonts.legible("山田 Taro", 12)[0] == "?? Taro"
    assert fonts.legible("Doe", 12)[0] == "Doe"


def test_long_lines_are_made_smaller_until_they_fit() -> None:
    found = drawn(("A very long name indeed, of somebody with many others",), size=(300, 300))
    assert found[:, -3:].max() == 0
    assert found.max() > 200
