"""Decoded images for training, and their cache."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tests.helpers import fresh, sample
from tests.train import poisoned
from train.data import images
from train.data.gray import eight_bit
from train.data.images import ImageCache, Images, decode_all, hold, load_images
from train.fit.probe import extract
from train.networks.backbones import MEAN, STD
from worker.errors import BadInput
from worker.inference.classifier import Classifier
from worker.inference.prepare import prepare
from worker.pixels import decode_dicom

NAMES = ("RG1_UNCR.dcm", "RG3_J2KI.dcm")


class Recorder(torch.nn.Module):
    """A network that records its input."""

    def __init__(self) -> None:
        super().__init__()
        self.fed: list[torch.Tensor] = []

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.fed.append(inputs)
        return inputs.mean((2, 3))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two real X-rays, a picture, and three broken files."""
    for name in NAMES:
        (tmp_path / name).write_bytes(sample(name).read_bytes())
    cv2.imwrite(str(tmp_path / "small.png"), np.random.default_rng(0).integers(0, 255, (90, 70), np.uint8))
    (tmp_path / "broken.dcm").write_bytes(sample(NAMES[1]).read_bytes()[:5000])
    (tmp_path / "slice.dcm").write_bytes(fresh("CT_small.dcm"))
    cv2.imwrite(str(tmp_path / "even.png"), np.full((50, 50), 7, np.uint8))
    return tmp_path


def fill(folder: Path, size: int) -> tuple[ImageCache, list[str]]:
    """A cache with the files of the folder, and the paths of the usable files."""
    paths = sorted(str(path) for path in folder.iterdir() if path.is_file())
    cache = ImageCache(folder / "cache", size)
    known = cache.fill(paths)
    return cache, [path for path, entry in zip(paths, known) if not entry.broken]


@pytest.mark.parametrize("name", NAMES)
def test_training_and_worker_prepare_a_dicom_file_to_the_same_bits(folder: Path, name: str) -> None:
    classifier = Classifier(device="cpu")
    assert (classifier.card.mean, classifier.card.std) == (MEAN, STD)
    served = classifier.prepare(decode_dicom((folder / name).read_bytes()).pixels)
    cache, *_ = fill(folder, classifier.card.size)
    network = Recorder()
    extract(network, cache.images([str(folder / name)]), classifier.card.size, 0, 0)
    np.testing.assert_array_equal(network.fed[0][0].numpy(), served)


def test_every_shared_x_ray_is_prepared_to_the_same_bits(shared: Path) -> None:
    checked = set()
    for path in sorted((shared / "data/dicom").glob("*.dcm")):
        try:
            pixels = decode_dicom(path.read_bytes()).pixels
        except BadInput:
            continue
        for size in (224, 288):
            np.testing.assert_array_equal(prepare(hold(pixels, size), size), prepare(pixels, size), path.name)
        checked.add(pixels.dtype.name)
    assert checked >= {"uint8", "uint16", "float32"}


def test_small_8_bit_pictures_are_kept_unchanged() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (512, 300), np.uint8)
    assert hold(picture, 224) is picture
    assert hold(picture.astype(np.uint16), 224).shape == (224, 131)


def test_broken_files_are_logged_and_counted_and_the_others_are_usable(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache, usable = fill(folder, 128)
    assert [Path(path).name for path in usable] == [*NAMES, "small.png"]
    for name, reason in (("broken.dcm", ""), ("slice.dcm", "NotAnXRay"), ("even.png", "BlankPixels")):
        assert any(line.startswith(f"left out {folder / name}: ") and reason in line for line in caplog.messages)
    assert caplog.messages[-1] == "3 of 6 files cannot be used"
    assert [max(image.shape) for image in cache.images(usable)] == [128, 128, 90]


def test_a_later_run_decodes_only_what_has_changed(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(folder, 128)
    caplog.clear()
    fill(folder, 128)
    assert not any("decoding" in line for line in caplog.messages)
    assert "3 of 6 files cannot be used" in caplog.messages  # still told
    path = folder / "broken.dcm"
    path.write_bytes(sample(NAMES[1]).read_bytes())
    _, usable = fill(folder, 128)
    assert "decoding 1 images; 5 are known from an earlier run" in caplog.messages
    assert str(path) in usable


def test_an_index_that_was_cut_off_in_an_interrupted_run_is_used(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(folder, 128)
    index = folder / "cache/128px/index.jsonl"
    text = index.read_text()
    index.write_text(text[: len(text) - 40])
    _, usable = fill(folder, 128)
    assert "decoding 1 images; 5 are known from an earlier run" in caplog.messages
    assert len(usable) == 3


def test_only_its_owner_can_read_the_cache(folder: Path) -> None:
    fill(folder, 128)
    assert (folder / "cache/128px").stat().st_mode & 0o077 == 0


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's on the cut file, in this process only
def test_several_processes_decode_the_same_images_as_one(folder: Path) -> None:
    paths = sorted(str(path) for path in folder.iterdir() if path.is_file())
    alone, together = ImageCache(folder / "alone", 64), ImageCache(folder / "together", 64)
    found = [cache.fill(paths, n) for cache, n in ((alone, 0), (together, 2))]
    assert found[0] == found[1]
    usable = [path for path, entry in zip(paths, found[0]) if not entry.broken]
    for first, second in zip(alone.images(usable), together.images(usable)):
        np.testing.assert_array_equal(first, second)


def test_only_the_file_that_ends_its_process_is_broken() -> None:
    names = ["a", "poison", "b", "c"]
    known = list(decode_all([(name, "", 64) for name in names], 2, poisoned.decode))
    assert [entry.thumbnail for entry in known] == ["a", "", "b", "c"]
    assert known[1].broken.startswith("CrashedProcess: ")


def test_images_beyond_the_memory_limit_are_read_again() -> None:
    reads: list[int] = []

    def reader(index: int) -> np.ndarray:
        reads.append(index)
        return np.full((10, 10), index, np.uint8)

    images = Images([lambda i=i: reader(i) for i in range(3)], in_memory=250)  # type: ignore[misc]
    for _ in range(2):
        assert [int(image[0, 0]) for image in images] == [0, 1, 2]
    assert reads == [0, 1, 2, 2]


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.dcm").write_text("no image")
    for name in ("broken.dcm", "missing.dcm"):
        with pytest.raises(BadInput, match=f"^{tmp_path / name}: (no DICOM|cannot be read)"):
            load_images([os.fspath(tmp_path / name)])


def test_augmentation_gets_the_contrast_of_the_preparation() -> None:
    pixels = load_images([str(sample(NAMES[1]))], 128)[0]
    np.testing.assert_allclose(prepare(eight_bit(pixels), 128), prepare(pixels, 128), atol=0.02)


def test_the_decoders_version_changes_with_every_source_of_the_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    import worker.pixels

    sources = sorted(Path(str(worker.pixels.__file__)).parent.glob("*.py"))
    read_text, versions = Path.read_text, {images.decoder_version.__wrapped__()}
    for changed in sources:

        def read_changed(path: Path, changed: Path = changed, **how: str) -> str:
            return read_text(path, **how) + ("#" if path == changed else "")

        monkeypatch.setattr(Path, "read_text", read_changed)
        versions.add(images.decoder_version.__wrapped__())
    assert len(versions) == len(sources) + 1
