"""What a step's process has imported before it begins: imported, nothing computed."""

from __future__ import annotations

# What steps import only when they load a model or draw a page.
from diffusers import (  # noqa: F401
    AutoencoderKL,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from matplotlib import pyplot  # noqa: F401
from transformers import CLIPTextModel, CLIPTokenizer  # noqa: F401

from components.__main__ import load
from components.images import STEPS

for step in STEPS:
    load(step)
