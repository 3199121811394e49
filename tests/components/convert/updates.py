"""Low-rank updates of a checkpoint, as the train step publishes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from components import adapters

#: The train step's own choice of modules, by component.
MODULES = {
    "unet": ["to_q", "to_k", "to_v", "to_out.0"],
    "text_encoder": ["q_proj", "k_proj", "v_proj", "out_proj"],
}
RANK, ALPHA = 4, 3.0


def write_updates(folder: Path, base: Path, components: tuple[str, ...]) -> Path:
    """Updates of `components` that change what the diffusers folder `base` draws; the file, in `folder`."""
    from diffusers import UNet2DConditionModel
    from peft import LoraConfig
    from transformers import CLIPTextModel

    kinds = {"unet": UNet2DConditionModel, "text_encoder": CLIPTextModel}
    updates: dict[str, dict[str, torch.Tensor]] = {}
    ranks: dict[str, dict[str, Any]] = {}
    for component in components:
        model: Any = kinds[component].from_pretrained(base / component)
        model.add_adapter(LoraConfig(r=RANK, lora_alpha=int(ALPHA), target_modules=MODULES[component]))
        generator = torch.Generator().manual_seed(1)
        updates[component] = {
            name.replace(".default.weight", ".weight"): torch.randn(tensor.shape, generator=generator) * 0.2
            for name, tensor in model.named_parameters()
            if ".lora_" in name
        }
        ranks[component] = {"r": RANK, "lora_alpha": ALPHA, "target_modules": MODULES[component]}
    folder.mkdir(parents=True, exist_ok=True)
    adapters.write(folder / adapters.FILE, updates, ranks)
    return folder / adapters.FILE
