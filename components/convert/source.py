"""The checkpoint to convert: a diffusers folder, its tensors found by name and read memory-mapped.

Covers whole and sharded ``.safetensors`` weights, and what a component's config says its tensors must
be. Pickled weights (``.bin``, ``.ckpt``) are refused: reading one runs code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from components.architecture import excesses
from components.convert.layout import COMPONENTS, Component, canonical
from components.documents import parse_json, shown
from components.errors import UserError

_WEIGHTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
_CLASSES = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"}

#: As many names of one kind as an error message lists.
_LISTED = 8


@dataclass(frozen=True)
class Stored:
    """Where one tensor lies."""

    file: Path
    name: str  #: as the file names it
    shape: tuple[int, ...]
    dtype: str  #: as safetensors writes it: "F32", "F16", "BF16", "I64" …


class Source:
    """A diffusers Stable Diffusion folder, open for reading; use it as a context manager.

    Attributes:
        configs: each component's ``config.json``.
        scheduler: the scheduler's config.
        tensors: component → canonical tensor name → where it lies.
    """

    def __init__(self, folder: Path) -> None:
        """Open the folder and read its headers.

        Raises:
            UserError: for a missing or unreadable file, or a pipeline of another family.
        """
        self.folder = folder
        self._open = ExitStack()
        self._files: dict[Path, Any] = {}
        try:
            self.index = _json(folder / "model_index.json")
            self.configs: dict[Component, dict[str, Any]] = {}
            self.tensors: dict[Component, dict[str, Stored]] = {}
            self._check_pipeline()
            self.scheduler = _json(folder / "scheduler" / "scheduler_config.json")
            for component in COMPONENTS:
                self.configs[component] = _json(folder / component / "config.json")
                self.tensors[component] = self._headers(component)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; tensors already read stay valid."""
        self._files.clear()
        self._open.close()

    def read(self, component: Component, name: str) -> torch.Tensor:
        """The tensor with this canonical name, of the stored dtype, backed by the mapped file."""
        stored = self.tensors[component][name]
        tensor: torch.Tensor = self._files[stored.file].get_tensor(stored.name)
        return tensor

    def check(self) -> None:
        """Hold names and shapes against the models that the configs describe.

        Raises:
            UserError: naming each missing, unknown and wrongly shaped tensor (the first few of each).
        """
        problems = []
        for component, wanted in expected_shapes(self.configs).items():
            found = {name: stored.shape for name, stored in self.tensors[component].items()}
            where = self.folder.name + "/" + component
            missing = sorted(wanted.keys() - found.keys())
            extra = sorted(found.keys() - wanted.keys())
            shaped = sorted(n for n in wanted.keys() & found.keys() if wanted[n] != found[n])
            remedy = "the weights do not belong to config.json; write the checkpoint again"
            problems += _listed(f"{where}: tensor {{}}: missing; {remedy}", missing)
            problems += _listed(f"{where}: tensor {{}}: unknown to the model; {remedy}", extra)
            problems += _listed(
                f"{where}: tensor {{}}; {remedy}",
                [f"{name}: shape {list(found[name])}, expected {list(wanted[name])}" for name in shaped],
            )
        if problems:
            raise UserError(*problems)

    def _check_pipeline(self) -> None:
        problems = []
        for component, wanted in _CLASSES.items():
            entry = self.index.get(component)
            # A library and a class of it.
            kind = entry[1] if isinstance(entry, list) and len(entry) == 2 else entry
            if kind != wanted:
                problems.append(
                    f"{self.folder.name}/model_index.json: {component} is "
                    f"{kind if isinstance(kind, str) else 'absent' if kind is None else shown(kind)}, expected "
                    f"{wanted}; only Stable Diffusion 1.x and 2.x can be written in this layout"
                )
        if not any((self.folder / "tokenizer").glob("*.json")):
            problems.append(
                f"{self.folder.name}/tokenizer: no tokenizer; the checkpoint is not a complete diffusers folder"
            )
        if problems:
            raise UserError(*problems)

    def _headers(self, component: Component) -> dict[str, Stored]:
        found: dict[str, Stored] = {}
        for file in weight_files(self.folder / component, _WEIGHTS[component]):
            try:
                handle = self._open.enter_context(safe_open(file, framework="pt"))
            except (SafetensorError, OSError) as error:
                raise UserError(
                    f"{component}/{file.name}: not a readable safetensors file ({error}); write the checkpoint again"
                ) from None
            self._files[file] = handle
            for name in handle.keys():  # noqa: SIM118 (not a mapping)
                part = handle.get_slice(name)
                if (known := canonical(component, name)) is not None:
                    found[known] = Stored(file, name, tuple(part.get_shape()), part.get_dtype())
        return found


def weight_files(folder: Path, stem: str) -> list[Path]:
    """The ``.safetensors`` file of a component, or its shards in the order of the index.

    Raises:
        UserError: when there is none, a shard is missing, or the weights are pickled.
    """
    whole, listing = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if listing.is_file():
        listed = _json(listing).get("weight_map")
        if not isinstance(listed, dict) or not all(isinstance(name, str) for name in listed.values()):
            raise UserError(
                f"{folder.name}/{listing.name}: no 'weight_map' from tensors to files; write the checkpoint again"
            )
        names = sorted(set(listed.values()))
        if any("/" in name or "\\" in name for name in names):
            raise UserError(f"{folder.name}/{listing.name}: names a file outside its folder; refused")
        absent = [name for name in names if not (folder / name).is_file()]
        if absent or not names:
            raise UserError(
                f"{folder.name}/{listing.name}: lists shards that are missing "
                f"({', '.join(absent) or 'all of them'}); write the checkpoint again"
            )
        return [folder / name for name in names]
    variants = sorted(folder.glob(f"{stem}.*.safetensors"))
    if len(variants) == 1:
        return variants
    pickled = [p.name for p in (*folder.glob("*.bin"), *folder.glob("*.ckpt"))]
    raise UserError(
        f"{folder.name}/{whole.name}: not found"
        + (f"; {pickled[0]} is pickled, and reading it would run code" if pickled else "")
        + "; save the model with save_pretrained(..., safe_serialization=True)"
    )


def expected_shapes(
    configs: Mapping[Component, Mapping[str, Any]],
) -> dict[Component, dict[str, tuple[int, ...]]]:
    """Canonical tensor names and shapes of the models that the configs describe; allocates nothing.

    Raises:
        UserError: for a config that describes no model, or one of more layers than any has.
    """
    models = {component: _built(component, configs[component]) for component in COMPONENTS}
    return {
        component: {
            name: tuple(tensor.shape)
            for given, tensor in model.state_dict().items()
            if (name := canonical(component, given)) is not None
        }
        for component, model in models.items()
    }


def _built(component: Component, config: Mapping[str, Any]) -> torch.nn.Module:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    if problems := excesses(config):
        raise UserError(*(f"{component}/config.json: {problem}; write the checkpoint again" for problem in problems))
    build: dict[Component, Callable[[dict[str, Any]], torch.nn.Module]] = {
        "unet": UNet2DConditionModel.from_config,
        "vae": AutoencoderKL.from_config,
        "text_encoder": lambda config: CLIPTextModel(CLIPTextConfig.from_dict(config)),
    }
    try:
        with torch.device("meta"):
            return build[component](dict(config))
    except Exception as error:
        # Whatever these libraries raise over a config: it is the file's fault.
        said = " ".join(f"{type(error).__name__}: {error}".split())
        problem = f"describes no {_CLASSES[component]} ({shown(said, 200)})"
        raise UserError(f"{component}/config.json: {problem}; write the checkpoint again") from None


def _listed(template: str, names: list[str]) -> list[str]:
    shown = [template.format(name) for name in names[:_LISTED]]
    if len(names) > _LISTED:
        shown.append(template.format(f"… and {len(names) - _LISTED} more"))
    return shown


def _json(path: Path) -> dict[str, Any]:
    where = f"{path.parent.name}/{path.name}"
    try:
        data = parse_json(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{where}: not found; the checkpoint is not a complete diffusers folder") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: cannot be read as JSON ({error}); write the checkpoint again") from None
    if not isinstance(data, dict):
        raise UserError(f"{where}: holds a {type(data).__name__}, not a mapping; write the checkpoint again")
    return data
