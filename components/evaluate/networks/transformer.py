"""Vision transformers from local folders in transformers' layout: DINOv2 and CLIP."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from components.base_model import contents
from components.documents import parse_json
from components.errors import UserError
from components.extractor import resized
from components.storage import digest_of, sha256_file

_BATCH = 8
#: Tensors of training alone, which some copies leave out.
_NOT_MEASURED_WITH = {"embeddings.mask_token", "logit_scale"}
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


def _settings(file: Path) -> dict[str, Any]:
    try:
        found = parse_json(file.read_bytes())
    except ValueError as error:
        raise UserError(f"{file}: cannot be read as JSON ({error}); fetch the model again") from None
    if not isinstance(found, dict):
        raise UserError(f"{file}: is no mapping; fetch the model again")
    return found


class _Transformer(ABC):
    """What both share: pixels resized once by `components.extractor.resized`, normalised as the folder says."""

    name: str
    width: int

    def __init__(self, folder: Path, model: Any, side: int, usual: tuple[Sequence[float], Sequence[float]]) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model: Any = model.eval().requires_grad_(False).to(self.device)
        self._side = side
        settings = folder / "preprocessor_config.json"
        found = _settings(settings) if settings.is_file() else {}
        mean, deviation = found.get("image_mean", usual[0]), found.get("image_std", usual[1])
        self._mean, self._deviation = (
            torch.tensor(values, device=self.device).reshape(1, 3, 1, 1) for values in (mean, deviation)
        )
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        weights = [path for path in files if path.suffix == ".safetensors"]
        self.record = {
            "name": self.name,
            "network": type(model).__name__,
            "weights": ", ".join(path.relative_to(folder).as_posix() for path in weights),
            "weights_sha256": digest_of([sha256_file(path) for path in weights]),
            "resizer": f"bicubic, anti-aliased, float32, clamped, to {side} px (torch interpolate), not cropped",
            "normalisation": f"mean {list(mean)}, deviation {list(deviation)}",
        }

    def features(self, images: np.ndarray) -> np.ndarray:
        """uint8 ``[n, height, width, 3]`` to float64 ``[n, width]``."""
        rows = [np.empty((0, self.width))]
        for start in range(0, len(images), _BATCH):
            batch = images[start : start + _BATCH]
            planes = resized(batch, self._side, self.device) / 255
            with torch.inference_mode():
                rows.append(self._embedded((planes - self._mean) / self._deviation).double().cpu().numpy())
        return np.concatenate(rows)

    @abstractmethod
    def _embedded(self, planes: torch.Tensor) -> torch.Tensor:
        """Normalised images ``[n, 3, side, side]`` to features ``[n, width]``."""


class DinoV2(_Transformer):
    """DINOv2 (Oquab et al. 2023): the class token after the last layer; images at 224 px as in its evaluation."""

    name = "dinov2"

    def __init__(self, folder: Path) -> None:
        from transformers import Dinov2Model

        model = _loaded(Dinov2Model, folder)
        self.width = int(model.config.hidden_size)
        super().__init__(folder, model, 224 // model.config.patch_size * model.config.patch_size, _IMAGENET)

    def _embedded(self, planes: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.model(pixel_values=planes).last_hidden_state[:, 0])


class Clip(_Transformer):
    """CLIP (Radford et al. 2021): projected embeddings of images, and of texts in the same space."""

    name = "clip"

    def __init__(self, folder: Path) -> None:
        from transformers import CLIPModel, CLIPTokenizer

        model = _loaded(CLIPModel, folder)
        try:
            self._tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{folder}: its tokenizer cannot be loaded ({error})") from None
        self.width = int(model.config.projection_dim)
        super().__init__(folder, model, model.config.vision_config.image_size, _CLIP)

    def _embedded(self, planes: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.model.visual_projection(self.model.vision_model(pixel_values=planes).pooler_output))

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings of `texts`, cut at the model's length with their end token kept: float64 ``[n, width]``."""
        tokens = self._tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self.model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).to(self.device)
        with torch.inference_mode():
            pooled = self.model.text_model(tokens.input_ids, attention_mask=tokens.attention_mask).pooler_output
            return np.asarray(self.model.text_projection(pooled).double().cpu().numpy())


def _loaded(kind: Any, folder: Path) -> Any:
    try:
        model, found = kind.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(f"{folder}: no {kind.__name__} in safetensors ({str(error).splitlines()[0]})") from None
    contents.refuse_missing(set(found["missing_keys"]) - _NOT_MEASURED_WITH, str(folder))
    return model
