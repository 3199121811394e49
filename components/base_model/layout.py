"""Which files of a diffusers folder make a base model that can be trained here, by their paths.

Stable Diffusion 1.x and 2.x with safetensors weights. A repository holds much beside these: pickles, variants in half
precision, the same weights as one file, a safety checker. Nothing of that is fetched, stored or read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from components.base_model import contents
from components.documents import parse_json
from components.errors import UserError

INDEX = "model_index.json"
#: Parts of a pipeline's folder that are needed; a safety checker or feature extractor is left behind.
COMPONENTS = ("scheduler", "text_encoder", "tokenizer", "unet", "vae")
#: Component with weights → what its weight files are called.
_STEMS = {"text_encoder": "model", "unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
WEIGHTED = tuple(_STEMS)

SUPPORTED = "supported are Stable Diffusion 1.x and 2.x, and those of them that inpaint (not SDXL, SD 3, Flux)"


def _weights(component: str) -> tuple[str, str]:
    """Patterns of a component's weights, whole or in shards: those of a variant have another name."""
    stem = f"{component}/{_STEMS[component]}"
    return f"{stem}.safetensors", f"{stem}-?????-of-?????.safetensors"


_SCHEDULER = "scheduler/scheduler_config.json"
#: JSON files without which a component cannot be loaded.
_CONFIGS = (_SCHEDULER, *(f"{component}/config.json" for component in _STEMS))
#: Files that hold a tokenizer's words, in either form.
_VOCABULARIES = (("tokenizer/tokenizer.json",), ("tokenizer/vocab.json", "tokenizer/merges.txt"))

#: What is needed, as patterns of paths below the folder.
PATTERNS = (
    INDEX,
    *_CONFIGS,
    "tokenizer/*.json",
    "tokenizer/*.txt",
    *(pattern for component in _STEMS for pattern in _weights(component)),
    *(f"{component}/{stem}.safetensors.index.json" for component, stem in _STEMS.items()),
)
#: What says who made a model and under which terms, where it is there.
PAPERS = ("README.md", "LICENSE*")


def wanted(paths: Iterable[str]) -> list[str]:
    """Those of `paths` (below a diffusers folder, parts joined by ``/``) that a base model consists of, sorted."""
    return sorted(path for path in paths if any(fnmatchcase(path, pattern) for pattern in PATTERNS))


def check(paths: Iterable[str], place: str) -> None:
    """Hold the files of a folder to the supported layout.

    Args:
        paths: all there are, below the folder.
        place: where that is, for the message.

    Raises:
        UserError: naming what is missing, and what is there in its place.
    """
    there = set(paths)
    if INDEX not in there:
        single = sorted(path for path in there if "/" not in path and path.endswith((".safetensors", ".ckpt")))
        hint = f"; if {single[0]} is the whole model, name that file" if single else ""
        raise UserError(f"{place}: no {INDEX}, so it is no model in diffusers' layout{hint}")
    missing = [part for part in COMPONENTS if not any(path.startswith(f"{part}/") for path in there)]
    missing += [path for path in _CONFIGS if path.partition("/")[0] not in missing and path not in there]
    if "tokenizer" not in missing and not any(there.issuperset(files) for files in _VOCABULARIES):
        missing.append("tokenizer/vocab.json and merges.txt")
    remedy = "copy the base model again, whole"
    for component in WEIGHTED:
        if component not in missing and not any(fnmatchcase(p, each) for p in there for each in _weights(component)):
            others = sorted(p.removeprefix(f"{component}/") for p in there if fnmatchcase(p, f"{component}/*.*"))
            weights = [name for name in others if name.endswith((".bin", ".safetensors", ".ckpt", ".pt"))]
            found = f" (there is {', '.join(weights)})" if weights else ""
            missing.append(f"{_weights(component)[0]}{found}")
            remedy = "weights must be safetensors, pickles are not loaded"
    if missing:
        raise UserError(f"{place}: {', '.join(missing)} missing; {remedy}")


def check_folder(folder: Path, place: str = "") -> None:
    """Hold a folder to the supported layout, and its files to what they should be, before anything heavy is loaded.

    Raises:
        UserError: naming what is missing, not supported or damaged.
    """
    place = place or str(folder)
    check((path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()), place)
    check_class(folder, place)
    contents.check(files_of(folder), place)
    if problem := schedule_problem(parse_json((folder / _SCHEDULER).read_bytes())):
        raise UserError(f"{place}/{_SCHEDULER}: {problem}")


def check_class(folder: Path, place: str) -> None:
    """Refuse, by name, a folder whose index is of another architecture.

    Raises:
        UserError: naming it, and what is supported.
    """
    try:
        index: Any = parse_json((folder / INDEX).read_bytes())
        name = index.get("_class_name")
    except (ValueError, AttributeError):
        raise UserError(f"{place}/{INDEX}: not valid JSON; copy the base model again") from None
    if name not in ("StableDiffusionPipeline", "StableDiffusionInpaintPipeline"):
        raise UserError(f"{place}: a {name}; {SUPPORTED}")


def schedule_problem(config: Mapping[str, Any]) -> str:
    """Why a scheduler's configuration is not that of a model which was trained with betas, else "".

    Flow matching and EDM (Karras et al. 2022) have none; diffusers would take its default ones, and say nothing.
    """
    if "beta_schedule" in config or config.get("trained_betas") is not None:
        return ""
    name = config.get("_class_name", "scheduler")
    return (
        f"a {name} without betas (beta_schedule or trained_betas), as flow matching has it; if this is Stable "
        "Diffusion 1.x or 2.x, copy its scheduler_config.json again"
    )


def files_of(folder: Path) -> dict[str, Path]:
    """Path in the folder → file, of all that a base model consists of."""
    return {path: folder / path for path in wanted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))}
