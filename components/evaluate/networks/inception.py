"""FID's Inception network: the 2015 ImageNet graph that the literature's FID, KID and Inception Score rest on.

Szegedy et al. 2016, "Rethinking the Inception Architecture for Computer Vision", with what TensorFlow's
graph of 2015-12-05 does otherwise than the paper: average pools leave the border out of their count, the
last block takes a maximum, and images are resized without half-pixel centres. Weights are read from
either of their public forms; batch normalisation is folded into the convolutions.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from components.errors import UserError
from components.storage import sha256_file

_SIDE = 299
_BATCH = 8
_EPSILON = 1e-3
#: Bytes of a TorchScript file that are looked at: one of a network has some kilobytes.
_LONGEST_CODE = 16 << 20

# Names of a block's convolutions, in the order in which `network` makes them: in files converted from
# TensorFlow's checkpoint (as PyTorch programs name them), and in TensorFlow's own graph.
_A = (
    "branch1x1 branch5x5_1 branch5x5_2 branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3 branch_pool",
    "conv tower.conv tower.conv_1 tower_1.conv tower_1.conv_1 tower_1.conv_2 tower_2.conv",
)
_B = ("branch3x3 branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3", "conv tower.conv tower.conv_1 tower.conv_2")
_C = (
    "branch1x1 branch7x7_1 branch7x7_2 branch7x7_3 branch7x7dbl_1 branch7x7dbl_2 branch7x7dbl_3 branch7x7dbl_4 "
    "branch7x7dbl_5 branch_pool",
    "conv tower.conv tower.conv_1 tower.conv_2 tower_1.conv tower_1.conv_1 tower_1.conv_2 tower_1.conv_3 "
    "tower_1.conv_4 tower_2.conv",
)
_D = (
    "branch3x3_1 branch3x3_2 branch7x7x3_1 branch7x7x3_2 branch7x7x3_3 branch7x7x3_4",
    "tower.conv tower.conv_1 tower_1.conv tower_1.conv_1 tower_1.conv_2 tower_1.conv_3",
)
_E = (
    "branch1x1 branch3x3_1 branch3x3_2a branch3x3_2b branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3a branch3x3dbl_3b "
    "branch_pool",
    "conv tower_conv tower_mixed_conv tower_mixed_conv_1 tower_1_conv tower_1_conv_1 tower_1_mixed_conv "
    "tower_1_mixed_conv_1 tower_2_conv",
)
_STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
_BLOCKS = {
    **dict.fromkeys(("5b", "5c", "5d"), _A),
    "6a": _B,
    **dict.fromkeys(("6b", "6c", "6d", "6e"), _C),
    "7a": _D,
    **dict.fromkeys(("7b", "7c"), _E),
}


class Inception:
    """FID's Inception: 2048 features an image, from its last pooling, and its classes where the file has them.

    Args:
        weights: file in one of the two public forms; tensors only are read from it.

    Raises:
        UserError: when the file is none.
    """

    name = "inception"
    width = 2048

    def __init__(self, weights: Path, device: str | None = None) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        tensors = _read(weights)
        made = network()
        _fill(made, tensors, weights)
        self.network = made.eval().requires_grad_(False).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        classes = tensors.get("fc.weight")
        #: Weights of the classifier, float64 ``[1008, 2048]``; None where the file has features only.
        self.classifier = None if classes is None else classes.double().numpy()
        self.record = {
            "name": self.name,
            "network": "Inception, TensorFlow's graph of 2015-12-05",
            "weights": weights.name,
            "weights_sha256": sha256_file(weights),
            "resizer": f"bilinear, no anti-aliasing, no half-pixel centres, to {_SIDE} px (as TensorFlow 1)",
            "normalisation": "(x - 128) / 128",
        }

    def features(self, images: np.ndarray) -> np.ndarray:
        """Features of `images`.

        Args:
            images: uint8 ``[n, height, width, 3]``, RGB.

        Returns:
            float64 ``[n, 2048]``.
        """
        return self.layers(images, len(self.network))

    def layers(self, images: np.ndarray, count: int) -> np.ndarray:
        """What the first `count` layers see, averaged over the image: float64 ``[n, channels]``."""
        rows = []
        for start in range(0, len(images), _BATCH):
            batch = images[start : start + _BATCH]
            with torch.inference_mode():
                maps = self.network[:count](self._prepared(batch))
            rows.append(maps.mean((2, 3)).double().cpu().numpy())
        return np.concatenate(rows) if rows else np.empty((0, self.width))

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Class scores without their bias, as the Inception Score's programs take them: ``[n, 1008]``."""
        if self.classifier is None:
            raise ValueError("these weights hold no classifier")
        return np.asarray(features @ self.classifier.T)

    def _prepared(self, images: np.ndarray) -> torch.Tensor:
        planes = torch.from_numpy(np.array(images, order="C")).to(self.device).permute(0, 3, 1, 2).float()
        rows, columns = (_bilinear(side).to(self.device) for side in planes.shape[2:])
        planes = rows @ planes @ columns.T
        return ((planes - 128) / 128).contiguous(memory_format=torch.channels_last)


def network() -> nn.Sequential:
    """The layers, without weights: levels around 0 ``[n, 3, 299, 299]`` to maps ``[n, 2048, 8, 8]``."""
    return nn.Sequential(
        _conv(3, 32, 3, stride=2), _conv(32, 32, 3), _conv(32, 64, 3, padding=1), nn.MaxPool2d(3, 2),
        _conv(64, 80, 1), _conv(80, 192, 3), nn.MaxPool2d(3, 2),
        _a(192, 32), _a(256, 64), _a(288, 64), _b(), _c(128), _c(160), _c(160), _c(192), _d(),
        _e(1280, _average()), _e(2048, nn.MaxPool2d(3, 1, 1)),
    )  # fmt: skip


class _Parallel(nn.ModuleList):
    """Branches over the same maps, their channels side by side."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(maps) for branch in self], 1)


def _conv(before: int, after: int, kernel: Any, stride: int = 1, padding: Any = 0) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, kernel, stride, padding), nn.ReLU(inplace=True))


def _wide(before: int, after: int) -> nn.Sequential:
    return _conv(before, after, (1, 7), padding=(0, 3))


def _tall(before: int, after: int) -> nn.Sequential:
    return _conv(before, after, (7, 1), padding=(3, 0))


def _average() -> nn.Module:
    return nn.AvgPool2d(3, 1, 1, count_include_pad=False)


def _a(width: int, pooled: int) -> _Parallel:
    return _Parallel([
        _conv(width, 64, 1),
        nn.Sequential(_conv(width, 48, 1), _conv(48, 64, 5, padding=2)),
        nn.Sequential(_conv(width, 64, 1), _conv(64, 96, 3, padding=1), _conv(96, 96, 3, padding=1)),
        nn.Sequential(_average(), _conv(width, pooled, 1)),
    ])  # fmt: skip


def _b() -> _Parallel:
    return _Parallel([
        _conv(288, 384, 3, stride=2),
        nn.Sequential(_conv(288, 64, 1), _conv(64, 96, 3, padding=1), _conv(96, 96, 3, stride=2)),
        nn.MaxPool2d(3, 2),
    ])  # fmt: skip


def _c(w: int) -> _Parallel:
    return _Parallel([
        _conv(768, 192, 1),
        nn.Sequential(_conv(768, w, 1), _wide(w, w), _tall(w, 192)),
        nn.Sequential(_conv(768, w, 1), _tall(w, w), _wide(w, w), _tall(w, w), _wide(w, 192)),
        nn.Sequential(_average(), _conv(768, 192, 1)),
    ])  # fmt: skip


def _d() -> _Parallel:
    return _Parallel([
        nn.Sequential(_conv(768, 192, 1), _conv(192, 320, 3, stride=2)),
        nn.Sequential(_conv(768, 192, 1), _wide(192, 192), _tall(192, 192), _conv(192, 192, 3, stride=2)),
        nn.MaxPool2d(3, 2),
    ])  # fmt: skip


def _e(width: int, pool: nn.Module) -> _Parallel:
    def fork() -> _Parallel:
        return _Parallel([_conv(384, 384, (1, 3), padding=(0, 1)), _conv(384, 384, (3, 1), padding=(1, 0))])

    return _Parallel([
        _conv(width, 320, 1),
        nn.Sequential(_conv(width, 384, 1), fork()),
        nn.Sequential(_conv(width, 448, 1), _conv(448, 384, 3, padding=1), fork()),
        nn.Sequential(pool, _conv(width, 192, 1)),
    ])  # fmt: skip


def _bilinear(side: int) -> torch.Tensor:
    """Weights of linear interpolation at i · side / 299, float32 ``[299, side]``."""
    places = torch.arange(_SIDE, dtype=torch.float32) * (side / _SIDE)
    low = places.floor().long().clamp(max=side - 1)
    part = places - low
    weights = torch.zeros(_SIDE, side)
    rows = torch.arange(_SIDE)
    weights[rows, low] += 1 - part
    weights[rows, (low + 1).clamp(max=side - 1)] += part
    return weights


def _read(weights: Path) -> Mapping[str, torch.Tensor]:
    try:
        if _is_script(weights):
            # Its tensors are read, its code is not called; `__setstate__` would be.
            _refuse_hooks(weights)
            found = torch.jit.load(str(weights), map_location="cpu").state_dict()
        else:
            found = torch.load(weights, map_location="cpu", weights_only=True)
    except UserError:
        raise
    # What a damaged pickle makes its reader raise is not to be foreseen.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{weights}: no PyTorch weights ({reason}); give FID's Inception") from None
    named = isinstance(found, Mapping) and all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in found.items()
    )
    if not named:
        raise UserError(f"{weights}: holds no named tensors; give the weights of FID's Inception")
    return {name.removeprefix("net.layers."): tensor for name, tensor in found.items()}


def _is_script(weights: Path) -> bool:
    """Whether a file is a TorchScript archive rather than saved tensors: the former holds code."""
    if not zipfile.is_zipfile(weights):
        return False
    with zipfile.ZipFile(weights) as archive:
        return any("/code/" in name for name in archive.namelist())


def _refuse_hooks(weights: Path) -> None:
    """Refuse a TorchScript archive whose code runs as soon as it is loaded."""
    with zipfile.ZipFile(weights) as archive:
        for record in archive.infolist():
            if "/code/" in record.filename and record.filename.endswith(".py"):
                with archive.open(record) as code:
                    text = code.read(_LONGEST_CODE + 1)
                if len(text) > _LONGEST_CODE or b"__setstate__" in text:
                    raise UserError(f"{weights}: runs code when it is loaded; give FID's Inception from another source")


def _fill(made: nn.Sequential, tensors: Mapping[str, torch.Tensor], weights: Path) -> None:
    graph = "conv.weight" in tensors
    names = [f"conv_{i}" if i else "conv" for i in range(5)] if graph else [*_STEM]
    for number, (block, (converted, original)) in enumerate(_BLOCKS.items()):
        prefix = (f"mixed_{number}" if number else "mixed") if graph else f"Mixed_{block}"
        names += [f"{prefix}.{name}" for name in (original if graph else converted).split()]
    convolutions = [module for module in made.modules() if isinstance(module, nn.Conv2d)]
    try:
        for name, convolution in zip(names, convolutions, strict=True):
            if graph:
                kernel, scale = tensors[f"{name}.weight"], torch.ones(())
                offset, mean, variance = (tensors[f"{name}.{part}"] for part in ("beta", "mean", "var"))
            else:
                kernel = tensors[f"{name}.conv.weight"]
                scale, offset, mean, variance = (
                    tensors[f"{name}.bn.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
                )
            if kernel.shape != convolution.weight.shape:
                raise UserError(f"{weights}: {name} is {tuple(kernel.shape)}, FID's Inception has "
                                f"{tuple(convolution.weight.shape)}")  # fmt: skip
            factor = scale.double() / (variance.double() + _EPSILON).sqrt()
            bias = convolution.bias
            assert bias is not None
            convolution.weight.data = (kernel.double() * factor[:, None, None, None]).float()
            bias.data = (offset.double() - mean.double() * factor).float()
    except KeyError as error:
        raise UserError(
            f"{weights}: {error.args[0]} is missing; these are not the weights of FID's Inception"
        ) from None
