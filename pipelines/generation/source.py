"""Which model is meant: a published name, a place in the store, a file or a folder, made one thing on disk.

Stable Diffusion 1.x and 2.x, text to image; one that inpaints is let paint the whole image. A `.safetensors` or `.ckpt`
file holds tensors only; how wide the networks are and how text becomes tokens is read from the `config` folder that is
published beside it, or from `--config`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.architecture import MOST_LEVELS, excesses
from components.base_model.layout import COMPONENTS, SUPPORTED
from components.documents import parse_json, shown
from components.errors import UserError
from components.models import catalog
from components.progress import log
from components.storage import Store
from pipelines.embedded_store import EmbeddedStore

#: Pixels of a side that is drawn, at most.
LARGEST = 4096
DAMAGED = "the model is damaged; copy or fetch it again"


@dataclass(frozen=True)
class Source:
    """A model on disk: a diffusers folder, or one file with the folder of its configuration."""

    label: str  #: the model as messages and records name it
    folder: Path  #: diffusers folder; with `file`, everything of one but the weights
    file: Path | None = None  #: `.safetensors` or `.ckpt` in the original Stable Diffusion key layout
    metadata: Mapping[str, str] = field(default_factory=dict)  #: what the file says of itself

    @property
    def prompts(self) -> dict[str, str]:
        """Class → the prompt that it was trained with; empty for a model that this project did not make."""
        found = self._object("defect_diffusion.prompts")
        return {name: prompt for name, prompt in found.items() if isinstance(prompt, str)}

    @property
    def generation(self) -> dict[str, Any]:
        """How the images were generated that the model was chosen by."""
        return self._object("defect_diffusion.generation")

    def _object(self, key: str) -> dict[str, Any]:
        """The JSON object in an entry of the header; empty where there is none."""
        try:
            found = parse_json(self.metadata.get(key, "{}"))
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise UserError(f"--model {self.label}: {key} in its header is damaged; fetch the model again")
        return found

    @property
    def crops_digest(self) -> str | None:
        """Of the crops that it was trained with."""
        return self.metadata.get("defect_diffusion.crops_digest")

    @property
    def resolution(self) -> int:
        """Side of the images that it was trained on, pixels."""
        trained = self.metadata.get("modelspec.resolution", "").partition("x")[0]
        if re.fullmatch(r"[1-9]\d{0,3}", trained, re.ASCII):
            return int(trained)
        side = _config(self.folder / "unet").get("sample_size", 64)
        # What is drawn from is square.
        if not isinstance(side, int) or not 1 <= side * self.scale <= LARGEST:
            raise UserError(f"--model {self.label}: sample_size in unet/config.json is {shown(side)}; {DAMAGED}")
        return side * self.scale

    @property
    def scale(self) -> int:
        """Pixels of a side for one of the latents'."""
        levels = _config(self.folder / "vae").get("block_out_channels", [0] * 4)
        if not isinstance(levels, list) or not 1 <= len(levels) <= MOST_LEVELS:
            raise UserError(
                f"--model {self.label}: block_out_channels in vae/config.json is {shown(levels)}; {DAMAGED}"
            )
        return 1 << (len(levels) - 1)

    def digest(self) -> str:
        """SHA-256 of all weights and of the configuration: equal where the same images come out."""
        digest = hashlib.sha256()
        weights = [self.file] if self.file else sorted(self.folder.glob("*/*.safetensors"))
        for path in [*weights, *sorted(p for part in COMPONENTS for p in (self.folder / part).glob("*.json"))]:
            digest.update(path.name.encode() + b"\0")
            with path.open("rb") as opened:
                while block := opened.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()


@contextmanager
def find(model: str, workdir: Path, config: Path | None = None) -> Iterator[Source]:
    """The model that `--model` names, fetched where it lies in a store.

    Args:
        model: a file, a folder, an ``s3://`` place, or the NAME or NAME@VERSION of a model published in `workdir`.
        workdir: where `run` leaves results and its store.
        config: a diffusers folder for a file that has none beside it.

    Raises:
        UserError: when there is no such model, or it is of a kind that cannot be drawn from.
    """
    path = Path(model).expanduser()
    if "://" in model:
        yield _checked(_published(_fetched(Store.from_env(model), model, workdir), model, config))
    elif path.is_file():
        yield _checked(_single(path, str(path), config))
    elif path.is_dir():
        yield _checked(_folder(path, config))
    else:
        yield _checked(_named(model, workdir, config))


def _folder(folder: Path, config: Path | None) -> Source:
    if (folder / "model_index.json").is_file() and any(folder.glob("unet/*.safetensors")):
        return Source(str(folder), folder)
    return _published(folder, str(folder), config)


def _published(folder: Path, label: str, config: Path | None) -> Source:
    """The one file in a folder that convert published, or that a run left."""
    files = sorted(path for path in folder.glob("*") if path.suffix in catalog.WEIGHTS)
    if len(files) != 1:
        raise UserError(
            f"--model {label}: neither a diffusers folder (model_index.json and weights as .safetensors) nor a "
            f"published model (one {' or '.join(catalog.WEIGHTS)} file; there are {len(files)})"
        )
    return _single(files[0], label, config)


def _single(file: Path, label: str, config: Path | None) -> Source:
    if file.suffix not in catalog.WEIGHTS:
        raise UserError(
            f"--model {label}: only {' and '.join(catalog.WEIGHTS)} files are read, not a "
            f"{file.suffix or 'file without extension'}. Convert it first, for example with diffusers"
        )
    beside = config or file.parent / "config"
    if not (beside / "model_index.json").is_file():
        problem = f"--config {config}: no model_index.json in it" if config else f"--model {label}: no folder {beside}"
        raise UserError(
            f"{problem}; the file holds weights only. Give --config a diffusers folder of its base model (for Stable "
            "Diffusion 1.5: model_index.json and the folders scheduler, text_encoder, tokenizer, unet and vae)"
        )
    return Source(label, beside, file, _header(file))


def _named(model: str, workdir: Path, config: Path | None) -> Source:
    name, _, version = model.partition("@")
    run = workdir / name
    if not version and (run / "run.json").is_file() and (run / "config").is_dir():
        return _published(run, name, config)
    if not (workdir / ".local" / "store").is_dir() or any(part in ("", ".", "..") for part in name.split("/")):
        raise UserError(f"--model {model}: no such file or folder, and nothing was published in --workdir {workdir}")
    with EmbeddedStore(workdir / ".local" / "store") as embedded:
        store = Store.from_env(embedded.uri, embedded.environ)
        models, known = store.at("models"), catalog.names(store)
        if name not in known:
            there = f"published here: {', '.join(known)}" if known else "nothing is published here"
            raise UserError(f"--model {model}: no such file or folder, nor a model of --workdir {workdir} ({there})")
        return _published(_fetched(models.at(*model.split("@")), model, workdir), model, config)


def _fetched(place: Store, label: str, workdir: Path) -> Path:
    """A local copy of a published version; `place` is one, or the name above it, whose latest is taken."""
    if place.manifest() is None:
        latest = catalog.latest(place)
        if latest is None:
            versions = catalog.versions(place)
            hint = f"; versions: {', '.join(versions)}" if versions else ""
            raise UserError(f"--model {label}: no published model at {place.uri}{hint}")
        place = place.at(latest.version)
    manifest = place.manifest()
    if manifest is None:
        raise UserError(f"--model {label}: latest.json at {place.uri} names a version that is not there")
    folder = workdir / ".local" / "models" / hashlib.sha256(place.uri.encode()).hexdigest()[:16]
    log(f"fetching {place.uri}")
    place.get_tree(folder)  # what is there already is only checked
    return folder


def _header(file: Path) -> dict[str, str]:
    if file.suffix == ".ckpt":
        from components.checkpoint_file import ckpt_metadata

        return ckpt_metadata(file)
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np") as opened:
            return dict(opened.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise UserError(f"--model {file}: not a readable .safetensors file ({error}); copy it again") from None


def _checked(source: Source) -> Source:
    """Refuse, by name, what cannot be drawn from."""
    index = _read(source.folder / "model_index.json")
    kind, second = str(index.get("_class_name", "")), index.get("text_encoder_2")
    missing = [part for part in COMPONENTS if not (source.folder / part).is_dir()]
    if "XL" in kind or "3" in kind or "Flux" in kind or (isinstance(second, list) and second[:1] not in ([], [None])):
        raise UserError(f"--model {source.label}: a {kind}; {SUPPORTED}")
    if missing:
        raise UserError(f"--model {source.label}: {', '.join(missing)} missing in {source.folder}; {SUPPORTED}")
    # Four is what diffusers takes a config to mean that does not say it.
    configs = {part: _config(source.folder / part) for part in ("unet", "vae", "text_encoder")}
    channels, latent = configs["unet"].get("in_channels", 4), configs["vae"].get("latent_channels", 4)
    # Beside the latents, one that inpaints is given those of an image, and a mask.
    if not isinstance(latent, int) or channels not in (latent, 2 * latent + 1):
        raise UserError(
            f"--model {source.label}: its UNet takes {shown(channels)} channels, its VAE makes {shown(latent)}; "
            f"{SUPPORTED}"
        )
    problems = [f"{part}/config.json: {problem}" for part in configs for problem in excesses(configs[part])]
    if problems:
        raise UserError(*(f"--model {source.label}: {problem}; {DAMAGED}" for problem in problems))
    return source


def _config(part: Path) -> dict[str, Any]:
    return _read(part / "config.json")


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(parse_json(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); {SUPPORTED}") from None
