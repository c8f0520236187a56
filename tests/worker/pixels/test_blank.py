"""Images whose pixels all have one value are refused: a model would give them a class all the same."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEG2000Lossless, RLELossless

from tests.helpers import read, to_bytes
from train.data.images import load_images
from worker.errors import BadInput, BlankPixels
from worker.pixels import decode_dicom, read_file
from worker.pixels.render import WORKING_SIDE

LEG = "RG3_UNCR.dcm"


def x_ray(pixels: np.ndarray, **attributes: object) -> pydicom.FileDataset:
    """A real X-ray's header with other pixels: (rows, columns), uint8 or uint16, or (rows, columns, 3) uint8."""
    dataset = read(LEG)
    bits = pixels.dtype.itemsize * 8
    photometric = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    for keyword in ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept"):
        if keyword in dataset:
            delattr(dataset, keyword)
    dataset.set_pixel_data(pixels, photometric, bits, generate_instance_uid=False)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def flat(value: int, dtype: type = np.uint16, shape: tuple[int, ...] = (60, 50)) -> np.ndarray:
    return np.full(shape, value, dtype)


@pytest.mark.parametrize("value", [0, 1234, 65535])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_an_image_of_one_value_is_refused(value: int, photometric: str) -> None:
    with pytest.raises(BlankPixels, match="every pixel has the same value") as caught:
        decode_dicom(to_bytes(x_ray(flat(value), PhotometricInterpretation=photometric)))
    assert caught.value.remedy


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_a_compressed_image_of_one_value_is_refused(syntax: pydicom.uid.UID) -> None:
    dataset = x_ray(flat(700))
    dataset.compress(syntax, generate_instance_uid=False)
    with pytest.raises(BlankPixels):
        decode_dicom(to_bytes(dataset))


@pytest.mark.parametrize("bits", [8, 16])
def test_an_image_of_two_values_is_shown(bits: int) -> None:
    pixels = flat(7, np.uint8 if bits == 8 else np.uint16)
    pixels[30, 20] += 1
    shown = decode_dicom(to_bytes(x_ray(pixels))).pixels
    assert np.ptp(shown) == 1


def test_a_colour_image_of_one_colour_is_refused() -> None:
    pixels = flat(0, np.uint8, (60, 50, 3))
    pixels[...] = (200, 10, 90)
    with pytest.raises(BlankPixels):
        decode_dicom(to_bytes(x_ray(pixels)))
    pixels[:5] = (0, 10, 90)
    assert np.ptp(decode_dicom(to_bytes(x_ray(pixels))).pixels) > 0


def padded(value: int) -> np.ndarray:
    pixels = flat(value)
    pixels[:20] = 65535
    return pixels


def test_an_image_of_one_value_and_padding_is_refused() -> None:
    dataset = x_ray(padded(9))
    assert np.ptp(decode_dicom(to_bytes(dataset)).pixels) > 0
    dataset.add_new("PixelPaddingValue", "US", 65535)
    with pytest.raises(BlankPixels, match=r"outside \(0028,0120\) Pixel Padding Value"):
        decode_dicom(to_bytes(dataset))


def test_an_image_of_padding_alone_is_refused() -> None:
    dataset = x_ray(flat(65535))
    dataset.add_new("PixelPaddingValue", "US", 65535)
    with pytest.raises(BlankPixels):
        decode_dicom(to_bytes(dataset))


def test_a_padding_range_over_every_pixel_of_a_picture_is_not_believed() -> None:
    dataset = x_ray(np.arange(3000, dtype=np.uint16).reshape(60, 50))
    dataset.add_new("PixelPaddingValue", "US", 0)
    dataset.add_new("PixelPaddingRangeLimit", "US", 65535)
    assert np.ptp(decode_dicom(to_bytes(dataset)).pixels) > 0


def test_a_modality_lut_that_makes_all_values_equal_is_not_believed() -> None:
    pixels = np.arange(3000, dtype=np.uint16).reshape(60, 50)
    expected = decode_dicom(to_bytes(x_ray(pixels))).pixels
    shown = decode_dicom(to_bytes(x_ray(pixels, RescaleSlope=0, RescaleIntercept=5))).pixels
    np.testing.assert_array_equal(shown, expected)


def test_one_differing_pixel_that_shrinking_keeps_is_shown() -> None:
    pixels = flat(0, np.uint16, (2 * WORKING_SIDE, 2 * WORKING_SIDE))
    pixels[100, 100] = 40_000
    shown = decode_dicom(to_bytes(x_ray(pixels))).pixels
    assert shown.shape == (WORKING_SIDE, WORKING_SIDE)
    assert shown.max() > 0


def test_one_differing_pixel_that_shrinking_loses_is_told_as_such() -> None:
    pixels = flat(500, np.uint16, (2 * WORKING_SIDE, 2 * WORKING_SIDE))
    pixels[100, 100] += 1
    with pytest.raises(BlankPixels, match=f"once the image is shrunk to {WORKING_SIDE} pixels"):
        decode_dicom(to_bytes(x_ray(pixels)))


@pytest.mark.parametrize("name", ["even.png", "even.jpg"])
@pytest.mark.parametrize(
    "pixels", [flat(7, np.uint8), flat(90, np.uint8, (60, 50, 3)), flat(7)], ids=["8", "rgb", "16"]
)
def test_a_picture_of_one_value_is_refused_by_worker_and_training(
    tmp_path: Path, name: str, pixels: np.ndarray
) -> None:
    path = tmp_path / name
    cv2.imwrite(str(path), pixels.astype(np.uint8) if name.endswith("jpg") else pixels)
    with pytest.raises(BlankPixels):
        read_file(path)
    with pytest.raises(BadInput, match=f"^{path}: every pixel has the same value"):
        load_images([str(path)])
