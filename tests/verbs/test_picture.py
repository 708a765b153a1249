"""Reading pictures as classifiers see them, and finding them in folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from auriscope.errors import AuriscopeError
from auriscope.verbs.picture import expand_pictures, read_picture


def save(path: Path, pixels: np.ndarray, mode: str | None = None) -> Path:
    Image.fromarray(pixels.astype(np.uint8), mode).save(path)
    return path


def test_a_picture_of_the_right_size_is_read_exactly(tmp_path: Path) -> None:
    pixels = np.arange(48).reshape(6, 8) * 5
    image = read_picture(save(tmp_path / "a.png", pixels), channels=1, height=6, width=8)
    assert image.shape == (1, 1, 6, 8)
    np.testing.assert_allclose(image[0, 0] * 255, pixels, atol=1e-4)
    colours = np.stack([pixels, pixels // 2, 255 - pixels], -1)
    image = read_picture(save(tmp_path / "b.png", colours), channels=3, height=6, width=8)
    np.testing.assert_allclose(image[0].permute(1, 2, 0) * 255, colours, atol=1e-4)


def test_what_is_of_another_shape_gets_a_border_as_dark_as_its_darkest_corner(tmp_path: Path) -> None:
    pixels = np.full((10, 5), 200)
    pixels[0, 0] = 40
    image = read_picture(save(tmp_path / "a.png", pixels), channels=1, height=10, width=10)
    assert image.shape == (1, 1, 10, 10)
    np.testing.assert_allclose(image[0, 0, :, :2] * 255, 40, atol=0.5)
    np.testing.assert_allclose(image[0, 0, 5:, 4:6] * 255, 200, atol=1)


def test_transparent_pixels_are_black(tmp_path: Path) -> None:
    pixels = np.full((4, 4, 4), 255)
    pixels[:2, :, 3] = 0
    image = read_picture(save(tmp_path / "a.png", pixels), channels=1, height=4, width=4)
    assert image[0, 0, :2].max() == 0
    assert image[0, 0, 2:].min() == 1


@pytest.mark.parametrize(("name", "line"), [("none.png", "no such file"), ("text.png", "is not a picture")])
def test_what_is_no_picture_is_told_in_one_line(tmp_path: Path, name: str, line: str) -> None:
    (tmp_path / "text.png").write_text("not at all")
    with pytest.raises(AuriscopeError, match=line):
        read_picture(tmp_path / name, channels=1, height=4, width=4)
    with pytest.raises(AuriscopeError, match="one or three"):
        read_picture(tmp_path / name, channels=2, height=4, width=4)


def test_a_folder_is_its_pictures(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "made").mkdir()
    for name in ("b.PNG", "more/a.jpg", ".hidden.png", "made/lime-seen.png"):
        Image.new("L", (2, 2)).save(tmp_path / name)
    (tmp_path / "made/explain-lime.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("")
    assert expand_pictures(tmp_path) == [tmp_path / "b.PNG", tmp_path / "more/a.jpg"]
    assert expand_pictures([tmp_path / "notes.txt", tmp_path / "notes.txt"]) == [tmp_path / "notes.txt"]
    with pytest.raises(AuriscopeError, match="no picture in this folder"):
        expand_pictures(tmp_path / "made")
