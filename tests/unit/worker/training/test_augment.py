import numpy as np
from PIL import Image

from core.domain.training import Augmentation
from worker.training.augment import Change, Color, Crop, apply_change, draw_change


def gradient(width: int, height: int) -> Image.Image:
    rows, columns = np.mgrid[0:height, 0:width]
    planes = np.stack([255 * columns / width, 255 * rows / height, np.full((height, width), 128)], axis=-1)
    return Image.fromarray(planes.astype(np.uint8))


def pixels(image: Image.Image, change: Change, resolution: int = 32) -> np.ndarray:
    changed = apply_change(image, change, resolution=resolution)
    assert changed.size == (resolution, resolution)
    return np.asarray(changed, dtype=float)


def test_no_odds_no_change_and_all_odds_every_change() -> None:
    rng = np.random.default_rng(0)
    assert all(draw_change(Augmentation(), rng) == Change() for _ in range(50))
    for _ in range(50):
        change = draw_change(Augmentation(flip=1.0, crop=1.0, color=1.0), rng)
        assert change.flip and change.color is not None and change.crop is not None and not change.keeps_pixels
        assert 0.8 <= change.crop.side <= 1.0
        assert 0 <= change.crop.left <= 1 - change.crop.side and 0 <= change.crop.top <= 1 - change.crop.side


def test_odds_are_kept() -> None:
    rng = np.random.default_rng(1)
    changes = [draw_change(Augmentation(flip=0.5, crop=0.2), rng) for _ in range(2000)]
    assert 0.45 < np.mean([change.flip for change in changes]) < 0.55
    assert 0.16 < np.mean([change.crop is not None for change in changes]) < 0.24


def test_a_wide_picture_is_cut_about_its_middle() -> None:
    whole = gradient(96, 32)
    middle = np.asarray(whole, dtype=float)[:, 32:64]
    assert np.abs(pixels(whole, Change()) - middle).max() <= 1


def test_flip_mirrors() -> None:
    image = gradient(32, 32)
    assert np.array_equal(pixels(image, Change(flip=True)), pixels(image, Change())[:, ::-1])


def test_crop_takes_the_part_it_names() -> None:
    image = gradient(320, 320)
    seen = pixels(image, Change(crop=Crop(side=0.8, left=0.2, top=0.0)), resolution=32)
    assert abs(seen[16, 0, 0] - 255 * 0.2) < 6 and abs(seen[16, -1, 0] - 255) < 8
    assert abs(seen[0, 16, 1]) < 6 and abs(seen[-1, 16, 1] - 255 * 0.8) < 8


def test_color_changes_color_and_nothing_else() -> None:
    image = gradient(32, 32)
    darker = pixels(image, Change(color=Color(brightness=0.8, contrast=1.0, saturation=1.0)))
    assert np.abs(darker - 0.8 * pixels(image, Change())).max() <= 1
    gray = pixels(image, Change(color=Color(1.0, 1.0, 0.0)))
    assert np.ptp(gray, axis=-1).max() == 0
