"""The picture that a file shows, whatever its encoding."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian, RLELossless

from tests.helpers import fresh, read, sample, to_bytes
from worker.errors import (
    BadInput,
    CorruptPixels,
    ImageTooLarge,
    NoPixels,
    NotAnXRay,
    NotDicom,
    UnsupportedTransferSyntax,
)
from worker.inference.prepare import prepare
from worker.pixels import decode_dicom, header, radiograph, read_file
from worker.pixels.render import WORKING_SIDE

CHEST, LEG = "RG1_UNCR.dcm", "RG3_UNCR.dcm"


def picture(dataset: pydicom.FileDataset) -> np.ndarray:
    return prepare(decode_dicom(to_bytes(dataset)).pixels, 128)


def close(image: np.ndarray, expected: np.ndarray, tolerance: float = 0.02) -> bool:
    return bool(np.abs(image - expected).mean() < tolerance)


@pytest.fixture(scope="module")
def chest() -> np.ndarray:
    return picture(read(CHEST))


def test_bone_is_bright_and_air_is_dark_in_a_monochrome1_chest(chest: np.ndarray) -> None:
    spine, lungs = chest[60:100, 60:68].mean(), chest[45:75, 35:45].mean()
    assert spine > lungs + 0.1


def test_monochrome1_shows_what_monochrome2_shows(chest: np.ndarray) -> None:
    dataset = read(CHEST)
    stored = dataset.pixel_array
    dataset.PixelData = (stored.max() + stored.min() - stored).astype(np.uint16).tobytes()
    dataset.PhotometricInterpretation = "MONOCHROME2"
    for keyword in ("WindowCenter", "WindowWidth"):
        if keyword in dataset:
            del dataset[keyword]
    assert close(picture(dataset), chest)
    dataset.PhotometricInterpretation = "MONOCHROME1"
    assert close(picture(dataset)[chest > 0], 1 - chest[chest > 0], 0.05)


@pytest.mark.parametrize("name", ["RG1_J2KI.dcm", "RG1_J2KR.dcm", "RG1_UNCI.dcm"])
def test_every_encoding_of_an_image_shows_the_same(chest: np.ndarray, name: str) -> None:
    assert close(picture(read(name)), chest)


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless]
)
def test_lossless_transfer_syntaxes_are_decoded_to_the_bit(syntax: pydicom.uid.UID) -> None:
    dataset = read(LEG)
    expected = decode_dicom(to_bytes(dataset)).pixels
    if syntax == RLELossless:
        dataset.compress(syntax)
    else:
        if syntax == ExplicitVRBigEndian:
            dataset.PixelData = dataset.pixel_array.astype(">u2").tobytes()
        dataset.file_meta.TransferSyntaxUID = syntax
    buffer = pydicom.filebase.DicomBytesIO()
    little = syntax != ExplicitVRBigEndian
    pydicom.dcmwrite(buffer, dataset, implicit_vr=False, little_endian=little, force_encoding=True)
    np.testing.assert_array_equal(decode_dicom(buffer.getvalue()).pixels, expected)


def test_twelve_bit_lossless_jpeg_is_decoded_to_the_bit() -> None:
    import imagecodecs
    from pydicom.encaps import encapsulate

    dataset = read(LEG)
    expected = decode_dicom(to_bytes(dataset)).pixels
    stream = imagecodecs.ljpeg_encode(dataset.pixel_array, bitspersample=16)
    dataset.PixelData = encapsulate([stream])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLosslessSV1
    np.testing.assert_array_equal(decode_dicom(to_bytes(dataset)).pixels, expected)


def test_a_file_without_preamble_is_read(tmp_path: Path, chest: np.ndarray) -> None:
    dataset = read(CHEST)
    path = tmp_path / "bare.dcm"
    path.write_bytes(to_bytes(dataset)[132:])
    assert close(prepare(read_file(path).pixels, 128), chest)


def test_a_window_of_another_modality_is_not_believed(chest: np.ndarray) -> None:
    assert close(picture(pydicom.dcmread(_with(read(CHEST), WindowCenter=-600, WindowWidth=1500))), chest, 0.08)


def _with(dataset: pydicom.FileDataset, **attributes: object) -> pydicom.filebase.DicomBytesIO:
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return pydicom.filebase.DicomBytesIO(to_bytes(dataset))


def test_padding_does_not_set_the_contrast() -> None:
    dataset = read(LEG)
    stored = dataset.pixel_array.copy()
    plain = picture(dataset)
    stored[:200] = 65535
    dataset.PixelData = stored.tobytes()
    dataset.BitsStored, dataset.HighBit, dataset.BitsAllocated = 16, 15, 16
    dataset.add_new("PixelPaddingValue", "US", 65535)
    assert close(picture(dataset)[20:], plain[20:], 0.06)


def test_the_header_goes_with_the_picture() -> None:
    leg = decode_dicom(to_bytes(read(LEG)))
    assert (leg.modality, leg.body_part_examined) == ("CR", "EXTREMITY")
    assert max(leg.pixels.shape) <= WORKING_SIDE


def test_the_sop_class_stands_in_for_a_missing_modality() -> None:
    dataset = read(LEG)
    del dataset.Modality
    assert decode_dicom(to_bytes(dataset)).modality == "CR"


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "test-SR.dcm"])
def test_another_modality_is_not_an_x_ray(name: str) -> None:
    with pytest.raises(NotAnXRay, match=r"\(0008,0060\) Modality is '..', not one of CR, DX"):
        decode_dicom(to_bytes(read(name)))


def test_a_report_among_x_rays_is_not_an_x_ray() -> None:
    with pytest.raises(NotAnXRay, match=r"\(0028,0010\) Rows is missing"):
        decode_dicom(fresh("test-SR.dcm", Modality="DX"))


def test_missing_and_empty_pixel_data_are_named() -> None:
    dataset = read(LEG)
    dataset.PixelData = b""
    with pytest.raises(NoPixels, match=r"\(7FE0,0010\) Pixel Data is missing or empty"):
        decode_dicom(to_bytes(dataset))
    del dataset.PixelData
    with pytest.raises(NoPixels):
        decode_dicom(to_bytes(dataset))


@pytest.mark.filterwarnings("ignore:End of file reached:UserWarning")
def test_a_compressed_file_that_was_cut_off_is_a_failure_and_not_something_else() -> None:
    with pytest.raises(NotDicom, match="cut off"):
        decode_dicom(sample("RG3_J2KI.dcm").read_bytes()[:100_000])


def test_truncated_pixel_data_is_corrupt() -> None:
    data = to_bytes(read(LEG))
    with pytest.raises(CorruptPixels, match=r"\(7FE0,0010\) Pixel Data cannot be decoded"):
        decode_dicom(data[: len(data) // 2])


def test_an_image_over_the_limit_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(ImageTooLarge, match="60000 x 60000"):
        decode_dicom(fresh(LEG, Rows=60000, Columns=60000))


def test_a_deflate_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header, "MAX_INFLATED_BYTES", 10_000_000)
    dataset = read(LEG)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data = to_bytes(dataset)
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = compressor.compress(bytes(50_000_000)) + compressor.flush()
    meta = pydicom.dcmread(pydicom.filebase.DicomBytesIO(data)).file_meta
    start = 132 + 12 + meta.FileMetaInformationGroupLength
    with pytest.raises(ImageTooLarge, match="grows beyond"):
        decode_dicom(data[:start] + bomb)


def test_an_unknown_transfer_syntax_is_named() -> None:
    dataset = read("RG3_J2KI.dcm")
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.MPEG2MPML
    with pytest.raises(UnsupportedTransferSyntax, match=r"\(0002,0010\) Transfer Syntax UID is 'MPEG2"):
        decode_dicom(to_bytes(dataset))


@pytest.mark.parametrize("data", [b"", b"no DICOM at all", bytes(128) + b"DICM" + b"\xff" * 300])
def test_what_is_no_dicom_says_so(data: bytes) -> None:
    with pytest.raises((NotDicom, NotAnXRay)):
        decode_dicom(data)


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_pictures_are_read_for_researchers(tmp_path: Path, ending: str) -> None:
    import cv2

    path = tmp_path / f"leg{ending}"
    cv2.imwrite(str(path), np.tile(np.arange(256, dtype=np.uint8), (64, 1)))
    assert read_file(path).pixels.shape == (64, 256)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(CorruptPixels):
        read_file(path)


def test_an_unreadable_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotDicom, match="nothing-here"):
        read_file(tmp_path / "nothing-here.dcm")


def test_no_error_text_quotes_a_patient(caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder) -> None:
    data = fresh(LEG, PatientName="SECRET^NAME", PatientBirthDate="SECRETDATE", Rows=-1 & 0xFFFF)
    with pytest.raises(BadInput) as caught:
        decode_dicom(data[:-1000])
    said = str(caught.value) + caplog.text + "".join(str(warning.message) for warning in recwarn)
    assert "SECRET" not in said


def test_a_decoders_surprise_is_bad_input_without_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def surprise(_: object) -> np.ndarray:
        raise ValueError("SECRET^NAME")

    monkeypatch.setattr(radiograph, "render", surprise)
    with pytest.raises(BadInput, match=r"^ValueError while decoding"):
        decode_dicom(to_bytes(read(LEG)))


def test_every_shared_dicom_file_is_judged_or_refused_as_its_manifest_says(shared: Path) -> None:
    x_rays = {
        path.name for path in (shared / "data/dicom").glob("*.dcm") if path.name.startswith(("cr-", "der-cr", "dx-"))
    }
    without_pixels = {name for name in x_rays if "no-pixeldata" in name}
    shown = set()
    for path in sorted((shared / "data/dicom").glob("*.dcm")):
        try:
            assert prepare(read_file(path).pixels, 64).std() > 0
            shown.add(path.name)
        except BadInput:
            pass
    assert shown - {"bad-no-modality.dcm"} == x_rays - without_pixels


def test_sample_files_are_the_real_ones() -> None:
    assert sample(CHEST).stat().st_size == 7_200_056
