"""The preparation that training and service share."""

from __future__ import annotations

import numpy as np
import pytest

from worker.inference.prepare import prepare, resize, squash


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64, np.int32])
def test_any_dtype_becomes_the_same_square_of_0_to_1(dtype: type) -> None:
    ramp = np.tile(np.arange(200), (100, 1)).astype(dtype)
    square = prepare(ramp, 64)
    assert (square.shape, square.dtype) == ((64, 64), np.float32)
    assert (square.min(), square.max()) == (0, 1)
    np.testing.assert_allclose(square, prepare(ramp.astype(np.uint8), 64), atol=0.02)


def test_the_aspect_ratio_is_kept_and_the_rest_is_padded() -> None:
    square = prepare(np.tile(np.arange(1, 201, dtype=np.uint8), (100, 1)), 64)
    assert not square[:16].any()
    assert not square[48:].any()
    assert square[16:48, 2:].all()


def test_a_few_extreme_pixels_do_not_set_the_contrast() -> None:
    image = np.tile(np.linspace(1000, 2000, 400), (400, 1)).astype(np.float32)
    plain = prepare(image, 128)
    image[:3, :3] = 60000
    assert np.abs(prepare(image, 128) - plain).mean() < 0.01


def test_an_image_of_one_value_is_all_zero() -> None:
    assert not prepare(np.full((50, 80), 7, np.uint16), 32).any()


def test_a_thin_strip_keeps_a_pixel() -> None:
    assert prepare(np.arange(4000, dtype=np.uint16)[None], 64).shape == (64, 64)


def test_squashing_fills_the_square_and_forgets_the_aspect_ratio() -> None:
    wide = np.tile(np.arange(1, 201, dtype=np.uint8), (100, 1))
    square = squash(wide, 64)
    assert (square.shape, square.dtype) == ((64, 64), np.float32)
    assert (square.min(), square.max()) == (0, 1)
    assert square[:, 8:].all()
    np.testing.assert_allclose(square, squash(np.tile(wide, (4, 1)), 64), atol=0.05)


def test_squashing_a_square_of_the_right_size_only_stretches_it() -> None:
    image = np.random.default_rng(0).integers(0, 4000, (64, 64)).astype(np.uint16)
    np.testing.assert_array_equal(squash(image, 64), prepare(image, 64))


def test_what_training_holds_is_squashed_to_the_bit_like_the_original() -> None:
    image = np.random.default_rng(0).integers(0, 4000, (300, 170)).astype(np.uint16)
    np.testing.assert_array_equal(squash(resize(image, 64), 64), squash(image, 64))
