"""The model card (Hugging Face format) and the run's settings, published beside the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from components import hub
from components.artifacts import HEADLINE, SAMPLES
from components.convert.metadata import Facts, code_version
from components.convert.record import settings

_SNIPPET = """\
```python
import torch
from diffusers import {classes}

{load}
image = pipe(
    {prompt},
    width={side},
    height={side},
    num_inference_steps={steps},
    guidance_scale={guidance},
    generator=torch.Generator().manual_seed(0),
).images[0]
image.save("defect.png")
```"""
#: Ways to have a pipeline; BASE_MODEL is for the reader to fill in.
_LOAD_WHOLE = """\
pipe = StableDiffusionPipeline.from_single_file(
    "{file}", config="config", local_files_only=True, safety_checker=None{vae}
)"""
_GIVEN_VAE = ', vae=AutoencoderKL.from_pretrained("BASE_MODEL", subfolder="vae")'
_LOAD_LORA = """\
pipe = StableDiffusionPipeline.from_pretrained("BASE_MODEL", safety_checker=None)
pipe.load_lora_weights(".", weight_name="{file}")"""


def model_card(facts: Facts, version: str) -> str:
    """``README.md`` of the published tree of this version."""
    parts = [
        "---\n" + yaml.safe_dump(_front_matter(facts), sort_keys=False, allow_unicode=True) + "---\n",
        f"# {facts.title}\n",
        *([facts.config.description + "\n"] if facts.config.description else []),
        _summary(facts, version),
        *(
            [f"![What it draws: a row for each class, as in the table below.]({SAMPLES})\n"]
            if facts.has_samples
            else []
        ),
        "## Prompts\n",
        _prompts(facts),
        "## How to load\n",
        *_loading(facts, version),
        "## Measured\n",
        *_measured(facts),
        "## What it was made from\n",
        _origin(facts),
        "## Limits\n",
        _limits(facts),
    ]
    return "\n".join(parts)


def run_settings(facts: Facts) -> str:
    """``config.yaml``: the settings that the model was made with, as far as this step was told them."""
    index = facts.index
    head = (
        f"# Settings of the run that made {facts.name}: python -m pipelines run --params config.yaml\n"
        f"# crops {index.crops_digest}\n# base model {index.base_revision}\n# code {code_version()}\n"
    )
    return head + yaml.safe_dump(settings(facts), sort_keys=False, allow_unicode=True)


def _front_matter(facts: Facts) -> dict[str, Any]:
    return {
        "license": facts.config.licence,
        **({"base_model": facts.base_name} if hub.is_name(facts.base_name) else {}),
        "pipeline_tag": "text-to-image",
        "library_name": "diffusers",
        "tags": ["stable-diffusion", "dreambooth", *(["lora"] if facts.has_lora else []), "defect-diffusion"],
        **({"widget": _widget(facts)} if facts.has_samples else {}),
    }


def _widget(facts: Facts) -> list[dict[str, Any]]:
    """What a gallery shows."""
    prompts = facts.index.prompts
    return [{"text": prompts[min(prompts)], "output": {"url": SAMPLES}}] if prompts else []


def _summary(facts: Facts, version: str) -> str:
    decision, index = facts.decision, facts.index
    what = (
        f"Stable Diffusion weights after {decision.step} training steps on crops of real defects"
        if decision.step
        else "The base model itself: no trained checkpoint was better"
    )
    classes = ", ".join(sorted(index.prompts))
    return (
        f"{what} ({len(index.prompts)} {'class' if len(index.prompts) == 1 else 'classes'}: {classes}), "
        f"for images of {index.resolution} × {index.resolution} pixels. Version `{version}`, "
        f"{facts.config.dtype} weights.\n"
    )


def _prompts(facts: Facts) -> str:
    counts: Mapping[str, Mapping[str, int]] = facts.decision.crops.get("counts") or {}
    rows = []
    for name, prompt in sorted(facts.index.prompts.items()):
        split = counts.get(name, {})
        extra = [str(split.get("train", "")), str(split.get("reference", ""))] if counts else []
        rows.append([name, f"`{prompt}`", *extra])
    return _table(["class", "prompt", *(["training crops", "reference crops"] if counts else [])], rows)


def _loading(facts: Facts, version: str) -> list[str]:
    lines = []
    if facts.has_whole:
        lines = [
            "diffusers, in this folder (`config` holds the tokenizer, the scheduler and the sizes; no network "
            "is needed):\n",
            _snippet(facts, _LOAD_WHOLE, facts.whole_name(version)) + "\n",
            _other_programs(facts, facts.whole_name(version)) + "\n",
        ]
        if not facts.config.include_vae:
            lines.append(
                "The autoencoder is not in the file: in diffusers take the base model's, as above; AUTOMATIC1111 and "
                "ComfyUI have to be given one.\n"
            )
    if facts.has_lora and facts.adapter is not None:
        ranks = ", ".join(
            f"{component.replace('_', ' ')}: rank {facts.adapter.rank(component)}, alpha "
            f"{facts.adapter.alpha(component):g}"
            for component in sorted(facts.adapter.updates)
        )
        lines += [
            f"As a LoRA in kohya's format ({ranks}), to be used on its base model, {facts.base_name}: "
            f"`{facts.lora_name(version)}`, for the LoRA folder of AUTOMATIC1111 and ComfyUI. In diffusers, in this "
            "folder:\n",
            _snippet(facts, _LOAD_LORA, facts.lora_name(version)) + "\n",
        ]
    return lines


def _snippet(facts: Facts, load: str, file: str) -> str:
    generation, side = facts.decision.generation, facts.index.resolution
    with_vae = load != _LOAD_WHOLE or facts.config.include_vae
    return _SNIPPET.format(
        classes="StableDiffusionPipeline" if with_vae else "AutoencoderKL, StableDiffusionPipeline",
        load=load.format(file=file, vae="" if with_vae else _GIVEN_VAE),
        prompt=json.dumps(facts.index.prompts[min(facts.index.prompts)], ensure_ascii=False),
        side=side,
        steps=generation.get("num_inference_steps", 20),
        guidance=generation.get("guidance_scale", 3.0),
    )


def _other_programs(facts: Facts, file: str) -> str:
    architecture = facts.architecture
    if not architecture.standard:
        listed = "\n".join(f"- {item}" for item in architecture.differences)
        return (
            "AUTOMATIC1111, ComfyUI and sd-scripts assume the sizes of Stable Diffusion 1.x or 2.x and do not "
            f"load this one properly. It differs in:\n\n{listed}"
        )
    said = (
        f"AUTOMATIC1111 and ComfyUI: put `{file}` into their folder of checkpoints. "
        f"Its tensors are those of {architecture.name}."
    )
    if architecture.scheduler_notes:
        said += (
            f" They do not see from the tensors that it was trained with "
            f"{' and '.join(architecture.scheduler_notes)}: in ComfyUI add a ModelSamplingDiscrete node, in "
            "AUTOMATIC1111 a `.yaml` of the same name with `parameterization: v`."
        )
    return said


def _measured(facts: Facts) -> list[str]:
    decision = facts.decision
    chosen, base = decision.chosen.get("metrics", {}), decision.base.get("metrics", {})
    header = ["metric", decision.chosen.get("label") or f"step {decision.step}", "base model", "real against real"]
    rows = [
        [_label(name), _estimate(name, chosen[name]), _estimate(name, base.get(name)), floor]
        for name in sorted(chosen)
        for floor in [_estimate(name, decision.floor.get(name))]
    ]
    per_class = decision.chosen.get("per_class", {})
    lines = [
        "".join(f"{reason}\n" for reason in decision.reasons[:1])
        + f"\nChosen by `{decision.metric}` ({decision.mode}). Brackets hold 95 % intervals; n generated "
        "images were held against m real ones that training never saw. *Real against real* is what two sets of "
        "real images score: no model can be expected to do better.\n",
        _table(header, rows),
    ]
    if len(per_class) > 1:
        wanted = {decision.metric, *HEADLINE}
        names = sorted({name for metrics in per_class.values() for name in metrics if name in wanted})
        lines += [
            "By class:\n",
            _table(
                ["class", *(_label(name) for name in names)],
                [[k, *(_estimate(n, per_class[k].get(n)) for n in names)] for k in sorted(per_class)],
            ),
        ]
    return lines


def _origin(facts: Facts) -> str:
    index = facts.index
    crops = facts.decision.crops
    rows = [
        *([["data set", data_set]] if (data_set := _data_set(crops)) else []),
        ["base model", f"{facts.base_name}, revision `{index.base_revision}`"],
        ["crops", f"digest `{index.crops_digest}`, {index.resolution} × {index.resolution} pixels"],
        ["training run", f"`{index.fingerprint}`, step {facts.decision.step}"],
        ["settings", "`config.yaml`"],
        ["made by", f"defect-diffusion {code_version()}"],
    ]
    return _table(["", ""], rows)


def _data_set(crops: Mapping[str, Any]) -> str:
    names = {"version": crops.get("dataset_version"), "revision": crops.get("dataset_revision")}
    return ", ".join(f"{name} `{value}`" for name, value in names.items() if value)


def _limits(facts: Facts) -> str:
    items = [
        "It was trained on few images of one product: expect that product, that camera and those kinds of "
        "defect, and nothing else.",
        "Look at what it generates before you train an inspection model on it, and test that model on real "
        "images only.",
        "Generated images may come close to single training images; see the distance to the nearest training "
        "image in the evaluation report.",
        "There is no safety checker in it.",
    ]
    if not facts.decision.improved:
        items.insert(0, "By the measured intervals it is not better than the base model that it was trained from.")
    if facts.config.licence == "other":
        items.append("No licence was stated for it; the base model's licence applies.")
    return "".join(f"- {item}\n" for item in items)


def _label(metric: str) -> str:
    return f"{metric} × 10³" if _in_thousandths(metric) else metric


def _in_thousandths(metric: str) -> bool:
    # Kernel distances are a few thousandths wherever a model is any good.
    return metric.startswith(("kd_", "kid"))


def _estimate(metric: str, estimate: Mapping[str, Any] | None) -> str:
    if not estimate or estimate.get("value") is None:
        return "–"
    scale = 1000 if _in_thousandths(metric) else 1
    text = f"{estimate['value'] * scale:.4g}"
    if estimate.get("low") is not None and estimate.get("high") is not None:
        text += f" [{estimate['low'] * scale:.4g}, {estimate['high'] * scale:.4g}]"
    sizes = [f"{key} = {estimate[key]}" for key in ("n", "m") if estimate.get(key) is not None]
    return text + (f" ({', '.join(sizes)})" if sizes else "")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(_cell(cell) for cell in line) + " |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")
