"""Read a file: the X-ray picture in it, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from worker.contract import XRAY_MODALITIES
from worker.errors import BadInput, CorruptPixels, NotAnXRay, NotDicom
from worker.pixels.age import age_of
from worker.pixels.decode import is_rust_panic
from worker.pixels.header import XRAY_SOP_CLASSES, check_size, modality_of, parse, text
from worker.pixels.picture import decode_picture
from worker.pixels.render import render


@dataclass(frozen=True)
class Radiograph:
    """One X-ray picture and what its header says of it.

    pixels: (rows, columns), uint8, uint16, int16 or float32, bone bright,
        longer side at most WORKING_SIDE for DICOM.
    modality: (0008,0060), "" for a picture file.
    body_part_examined: (0018,0015) as the header gives it, upper case, "" where missing.
    age: the patient's plausible age in years at the study, None where the header states none.
    """

    pixels: np.ndarray
    modality: str = ""
    body_part_examined: str = ""
    age: float | None = None


@contextmanager
def _only_bad_input() -> Iterator[None]:
    """Turn whatever else a library raises into BadInput; its message may quote header values and is dropped.

    MemoryError passes: the machine is short of memory, and no file is at fault.
    KeyboardInterrupt and SystemExit pass, being no fault at all.
    """
    try:
        yield
    except (BadInput, MemoryError):
        raise
    except Exception as error:
        raise BadInput(f"{type(error).__name__} while decoding", "report it with the file's transfer syntax") from error
    except BaseException as error:
        if not is_rust_panic(error):
            raise
        raise CorruptPixels(f"{type(error).__name__} while decoding", "send the image again from its source") from error


def read_file(path: Path, modalities: Collection[str] = XRAY_MODALITIES) -> Radiograph:
    """Read a DICOM, PNG or JPEG file.

    modalities: as for `decode_dicom`; pictures have none.

    Raises the errors of `decode_dicom`, and NotDicom where the file cannot be opened.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NotDicom(f"{path}: cannot be read ({error.strerror})", "check the path and its permissions") from error
    if data.startswith((b"\x89PNG", b"\xff\xd8\xff")):
        with _only_bad_input():
            return Radiograph(decode_picture(data))
    return decode_dicom(data, modalities)


def decode_dicom(data: bytes, modalities: Collection[str] = XRAY_MODALITIES) -> Radiograph:
    """Decode the first frame of a DICOM X-ray image.

    data: the whole file, with or without the preamble of PS3.10.
    modalities: values of (0008,0060) Modality that count as X-ray.

    Raises NotDicom, NotAnXRay, NoPixels, BlankPixels, ImageTooLarge,
    UnsupportedTransferSyntax, CorruptPixels, or BadInput itself for an error
    that no one foresaw; besides these only MemoryError.
    """
    with _only_bad_input():
        return _decode_dicom(data, modalities)


def _decode_dicom(data: bytes, modalities: Collection[str]) -> Radiograph:
    dataset = parse(data)
    modality = modality_of(dataset)
    if modality not in modalities:
        given = repr(modality[:16]) if modality else "missing"
        raise NotAnXRay(
            f"(0008,0060) Modality is {given}, not one of {', '.join(modalities)}",
            "widen the list of modalities if it should be judged",
        )
    if "Rows" not in dataset and str(dataset.get("SOPClassUID", "")) not in XRAY_SOP_CLASSES:
        raise NotAnXRay(
            "(0028,0010) Rows is missing: the object is no image, but a report or a presentation state",
            "send its images",
        )
    check_size(dataset)
    return Radiograph(
        pixels=render(dataset),
        modality=modality,
        body_part_examined=text(dataset, "BodyPartExamined").upper(),
        age=age_of(*(text(dataset, keyword) for keyword in ("PatientAge", "PatientBirthDate", "StudyDate"))),
    )
