"""Low-rank updates of weights (LoRA), fused into a diffusers folder.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models": W + alpha / r · B A. A file of updates is in
the form that diffusers' ``load_lora_weights`` reads: ``<component>.<module>.lora_A.weight`` and ``lora_B``, rank and
alpha in the header. Linear and convolution layers are covered; biases, DoRA and other kinds of update are not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import UserError

if TYPE_CHECKING:
    import torch

#: The file's name, which diffusers looks for in a folder.
FILE = "pytorch_lora_weights.safetensors"
_HEADER = "lora_adapter_metadata"
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class Adapter:
    """Updates of a model's components."""

    updates: dict[str, dict[str, torch.Tensor]]  #: component → ``<module>.lora_A.weight`` and ``….lora_B.weight``
    ranks: dict[str, Any]  #: ``<component>.r``, ``<component>.lora_alpha`` and what else peft wants to know

    def rank(self, component: str) -> int:
        """r: the inner dimension of a component's updates."""
        return int(self.ranks[f"{component}.r"])

    def alpha(self, component: str) -> float:
        """A component's updates are scaled by alpha / r."""
        return float(self.ranks[f"{component}.lora_alpha"])

    def modules(self, component: str) -> list[str]:
        """The updated modules of a component, sorted."""
        names = self.updates[component]
        return sorted(name.removesuffix(_DOWN) for name in names if name.endswith(_DOWN))


def read(file: Path) -> Adapter:
    """What `write` wrote to `file`.

    Raises:
        UserError: for tensors that are no update of a linear layer or convolution: left out, they would be lost unseen.
    """
    from safetensors import safe_open

    updates: dict[str, dict[str, torch.Tensor]] = {}
    with safe_open(file, framework="pt") as handle:
        ranks = json.loads(handle.metadata()[_HEADER])
        for name in handle.keys():  # noqa: SIM118 - no mapping
            component, _, key = name.partition(".")
            updates.setdefault(component, {})[key] = handle.get_tensor(name)
    alone = [f"{c}.{key}" for c, named in updates.items() for key in named if _other_half(key) not in named]
    if alone:
        raise UserError(
            f"{file}: {len(alone)} tensors are no updates of linear layers or convolutions ({min(alone)}, …); they "
            "cannot be added to weights: run train again, with other lora_target_modules"
        )
    return Adapter(updates, ranks)


def _other_half(name: str) -> str:
    """The name of the matrix that makes an update with the one called `name`; "" where that is none."""
    for one, other in ((_DOWN, _UP), (_UP, _DOWN)):
        if name.endswith(one):
            return name.removesuffix(one) + other
    return ""


def write(
    path: Path, updates: Mapping[str, Mapping[str, torch.Tensor]], ranks: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write updates to `path`.

    Args:
        updates: component → ``<module>.lora_A.weight`` and ``….lora_B.weight`` → tensor.
        ranks: component → ``r``, ``lora_alpha`` and what else peft wants to know.
    """
    from safetensors.torch import save_file

    tensors = {f"{component}.{name}": t for component, named in updates.items() for name, t in named.items()}
    header = {f"{component}.{key}": value for component, known in ranks.items() for key, value in known.items()}
    save_file(tensors, path, metadata={"format": "pt", _HEADER: json.dumps(header, sort_keys=True)})


def fuse(folder: Path, file: Path) -> None:
    """Add the updates in `file` to the weights of the diffusers folder `folder`, float32 where they change.

    Weight files are replaced, not changed in place: links to the old ones keep their content.

    Raises:
        UserError: for an update of a tensor that the folder does not hold, and as `read` does.
    """
    adapter = read(file)
    for component, named in adapter.updates.items():
        scale = adapter.alpha(component) / adapter.rank(component)
        left = {f"{module}.weight": module for module in adapter.modules(component)}
        for weights in sorted((folder / component).glob("*.safetensors")):
            _fuse_file(weights, named, left, scale)
        if left:
            raise UserError(
                f"{file}: updates {len(left)} tensors that {component} does not hold ({min(left)}, …); it belongs to "
                "another base model, run train again"
            )


def _fuse_file(path: Path, updates: Mapping[str, torch.Tensor], left: dict[str, str], scale: float) -> None:
    """Fuse what `path` holds, and take it out of `left` (tensor → module)."""
    from safetensors.torch import load_file, save_file

    tensors, changed = load_file(path), False
    for name in tensors:
        # Files of older versions of transformers have a prefix that its modules have no more.
        known = name if name in left else name.removeprefix("text_model.")
        if known in left:
            module = left.pop(known)
            down, up = (updates[f"{module}.lora_{side}.weight"].float() for side in "AB")
            delta = (up.flatten(1) @ down.flatten(1)) * scale
            tensors[name] = (tensors[name].float() + delta.reshape(tensors[name].shape)).contiguous()
            changed = True
    if changed:
        temporary = path.with_name(path.name + ".tmp")
        save_file(tensors, temporary, metadata={"format": "pt"})
        temporary.replace(path)
