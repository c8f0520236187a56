"""Images for training: decoded once with the worker's decoder, and cached for later runs.

An image is resized with `worker.inference.prepare.resize` to the training size and keeps
its dtype; `worker.inference.prepare.prepare` then returns the same bits as in the worker.
An 8-bit image that is no larger than LONGEST_SIDE is not resized, so that augmentation
can use all its pixels.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import overload

import numpy as np

from worker.errors import BadInput, CrashedProcess
from worker.inference.prepare import resize

log = logging.getLogger(__name__)

LONGEST_SIDE = 512
"""8-bit images up to this longer side (pixels) are kept unchanged at every training size."""

IN_MEMORY = 2_000_000_000
"""Bytes of images kept in memory; the others are read from the disk each time."""

BLOCK = 128
"""Files submitted to the processes together; after a crash the rest of a block is decoded file by file."""

FEWEST_FOR_PROCESSES = 32
"""Below this many files, starting processes (about 2 s) costs more than it saves."""


@dataclass(frozen=True)
class Known:
    """The cache's entry for a file.

    kept: whether the array is stored in the cache; if not, the file itself is read.
    phash, thumbnail: for finding near-duplicates, see train.data.duplicates.
    broken: why the file cannot be used, or "".
    """

    kept: bool = False
    phash: int = 0
    thumbnail: str = ""
    broken: str = ""


Job = tuple[str, str, int]
"""A file, the path for its array, and the training size."""


class Images(Sequence[np.ndarray]):
    """Decoded images, read on access: (rows, columns) uint8, uint16 or float32, bone bright."""

    def __init__(self, readers: Sequence[Callable[[], np.ndarray]], in_memory: int = IN_MEMORY) -> None:
        self._readers = list(readers)
        self._room = self._in_memory = in_memory
        self._held: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._readers)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> list[np.ndarray]: ...
    def __getitem__(self, index: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(index, slice):
            return [self[position] for position in range(len(self))[index]]
        if index not in self._held:
            image = self._readers[index]()
            if image.nbytes > self._room:
                return image
            self._room -= image.nbytes
            self._held[index] = image
        return self._held[index]

    def only(self, rows: np.ndarray) -> Images:
        """Some of the images; (k,) indices."""
        return Images([self._readers[row] for row in rows], self._in_memory)

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))


def load_images(paths: Sequence[str], size: int = LONGEST_SIDE) -> list[np.ndarray]:
    """Decode files as the worker does, and resize them for training at `size`.

    Raises BadInput with the path of a file that cannot be decoded.
    """
    images = []
    for path in paths:
        try:
            images.append(hold(read(path), size))
        except BadInput as error:
            what = error.what.removeprefix(f"{path}: ")
            raise BadInput(f"{path}: {what}", error.remedy) from error
    return images


def read(path: str) -> np.ndarray:
    """The picture in a file as the worker's decoder gives it, see `worker.pixels.read_file`. Raises BadInput."""
    from worker.pixels import read_file

    return read_file(Path(path)).pixels


def hold(pixels: np.ndarray, size: int) -> np.ndarray:
    """A decoded image, resized for training at `size` where needed; see the module."""
    longest = max(pixels.shape)
    if longest <= size or (pixels.dtype == np.uint8 and longest <= LONGEST_SIDE):
        return pixels
    return resize(pixels, size)


class ImageCache:
    """A folder with the decoded images of earlier runs, for one training size.

    The key of a file is made from its path, length, modification time and the version of
    the decoder, so that a changed file is decoded again. The folder contains images of patients
    and is created with mode 0700.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.size = size
        self.folder = folder / f"{size}px"
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._index = self.folder / "index.jsonl"
        self._known: dict[str, Known] = {}
        if self._index.is_file():
            for line in self._index.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                    key = entry.pop("key")
                    self._known[key] = Known(**entry)
                except (ValueError, KeyError, TypeError):  # cut short when a run was killed
                    continue

    def fill(self, paths: Sequence[str], processes: int | None = None) -> list[Known]:
        """Decode the files that are not in the cache, with a progress bar; the entry of each file.

        processes: None for one a core. A file that cannot be decoded, or that
        ends its process, gets an entry with `broken` and is logged with its path.
        """
        from worker.console import progress

        keys = [key_of(path) for path in paths]
        todo = {key: path for key, path in zip(keys, paths) if key not in self._known}
        jobs = [(path, str(self._array(key)), self.size) for key, path in todo.items()]
        keys_of_jobs = list(todo)
        if processes is None:
            from worker.settings import usable_cores

            processes = usable_cores() if len(jobs) >= FEWEST_FOR_PROCESSES else 0
        if jobs:
            log.info(f"decoding {len(jobs)} images; {len(paths) - len(jobs)} are known from an earlier run")
            with (
                self._index.open("a", encoding="utf-8") as index,
                progress(decode_all(jobs, processes, decode_into), len(jobs), "decoding") as items,
            ):
                for key, known in zip(keys_of_jobs, items()):
                    self._known[key] = known
                    index.write(json.dumps({"key": key, **asdict(known)}) + "\n")
                    index.flush()
        found = [self._known[key] for key in keys]
        for path, known in zip(paths, found):
            if known.broken:
                log.warning(f"left out {path}: {known.broken}")
        broken = sum(bool(known.broken) for known in found)
        if broken:
            log.warning(f"{broken} of {len(paths)} files cannot be used")
        return found

    def images(self, paths: Sequence[str]) -> Images:
        """The images of files that `fill` has decoded, none of them broken."""
        return Images([self._reader(path) for path in paths])

    def _reader(self, path: str) -> Callable[[], np.ndarray]:
        key = key_of(path)
        if self._known[key].kept:
            return lambda: np.load(self._array(key), allow_pickle=False)
        return lambda: hold(read(path), self.size)

    def _array(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npy"


def key_of(path: str) -> str:
    """The cache key of a file, from its path, length, modification time and the decoder's version; hexadecimal."""
    try:
        about = Path(path).stat()
        state = [about.st_size, about.st_mtime_ns]
    except OSError:
        state = []
    text = json.dumps([os.path.abspath(path), state, decoder_version()])  # noqa: PTH100 - resolve() asks the disk
    return hashlib.sha256(text.encode()).hexdigest()[:40]


@cache
def decoder_version() -> str:
    """A digest of everything that affects decoded pixels: the source of our modules, and versions of the decoders."""
    from importlib.metadata import PackageNotFoundError, version

    from worker import pixels
    from worker.inference import prepare

    sources = [*sorted(Path(str(pixels.__file__)).parent.rglob("*.py")), Path(str(prepare.__file__))]
    parts = [source.read_text(encoding="utf-8") for source in sources]
    for package in (
        "pydicom",
        "imagecodecs",
        "opencv-python-headless",
        "python-gdcm",
        "pylibjpeg-openjpeg",
        "pylibjpeg-rle",
    ):
        try:
            parts.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            parts.append(f"{package} none")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def decode_into(job: Job) -> Known:
    """Decode one file into the cache; runs in any process."""
    from train.data.duplicates import fingerprint

    path, target, size = job
    try:
        pixels = read(path)
    except BadInput as error:
        return Known(broken=f"{error.kind}: {_reason(path, error)}")
    held = hold(pixels, size)
    if held is not pixels or not _is_picture(path):
        place = Path(target)
        place.parent.mkdir(exist_ok=True, mode=0o700)
        part = place.with_suffix(f".{os.getpid()}.part")
        with part.open("wb") as file:
            np.save(file, held)
        part.rename(place)
    print_ = fingerprint(held)
    return Known(kept=Path(target).is_file(), phash=print_.phash, thumbnail=print_.thumbnail)


def _reason(path: str, error: BadInput) -> str:
    """The error's message without the path at its beginning."""
    return str(error).removeprefix(f"{path}: ")


def _is_picture(path: str) -> bool:
    return Path(path).suffix.lower() in (".png", ".jpg", ".jpeg")


def decode_all(jobs: Sequence[Job], processes: int, decode: Callable[[Job], Known]) -> Iterator[Known]:
    """The entry of each job's file, in order. processes: 0 decodes in this process."""
    if processes < 1:
        yield from map(decode, jobs)
        return
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    # Spawned, not forked: this process may run threads of torch and OpenCV, and a fork would copy their locks.
    context = get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_quiet)
    try:
        for start in range(0, len(jobs), BLOCK):
            block = jobs[start : start + BLOCK]
            found: list[Known] = []
            try:
                for known in pool.map(decode, block, chunksize=4):
                    found.append(known)
                    yield known
            except BrokenProcessPool:
                pool.shutdown()
                yield from _decode_singly(block[len(found) :], decode)
                pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_quiet)
    finally:
        pool.shutdown(cancel_futures=True)


def _decode_singly(jobs: Sequence[Job], decode: Callable[[Job], Known]) -> Iterator[Known]:
    """Decode each file in a process of its own after a crash, so that only the file that crashes is broken."""
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    context = get_context("spawn")
    pool = ProcessPoolExecutor(1, mp_context=context, initializer=_quiet)
    for job in jobs:
        try:
            yield pool.submit(decode, job).result()
        except BrokenProcessPool:
            error = CrashedProcess(
                "decoding this file ended its process",
                "open the file with another viewer, or take it out of the manifest",
            )
            yield Known(broken=f"{error.kind}: {error}")
            pool.shutdown()
            pool = ProcessPoolExecutor(1, mp_context=context, initializer=_quiet)
    pool.shutdown()


def _quiet() -> None:
    """One OpenCV thread a process, and no log messages of libraries in the progress bar."""
    import cv2

    cv2.setNumThreads(1)
    logging.disable(logging.CRITICAL)
