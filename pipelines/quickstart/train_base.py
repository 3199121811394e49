"""Train the tiny base model from nothing on drawn pictures, and write its folder.

    OMP_NUM_THREADS=1 python -m pipelines.quickstart.train_base --work DIR --out pipelines/quickstart/base

Stages: draw the pictures, learn the tokenizer, train the autoencoder, train denoiser and text encoder, train the
decoder some more, export. Each leaves its state in --work; the same command goes on where it stopped. About two
hours on one CPU core; once the autoencoder is there, denoiser and decoder may be trained at the same time.
"""

import argparse
from dataclasses import fields
from pathlib import Path

from components.errors import UserError
from components.progress import log
from pipelines.quickstart.plan import Plan

COMMAND = "OMP_NUM_THREADS=1 python -m pipelines.quickstart.train_base --work DIR --out pipelines/quickstart/base"
HELP = {
    "pictures": "pictures of 640x640 pixels to draw",
    "vae_steps": "batches of the autoencoder",
    "vae_batch": "crops in each of them",
    "decoder_steps": "batches more of its decoder alone",
    "steps": "batches of denoiser and text encoder, one number per cycle of the learning rate; add one to go on",
    "batch": "crops in each of them",
    "seed": "another seed, another model",
}


def train_base(work: Path, out: Path, plan: Plan, evaluate_on: list[Path]) -> None:
    """Run the stages that `work` does not hold yet, then export to `out`.

    The autoencoder's error is also measured on the .jpg images below each folder of `evaluate_on`. Raises UserError
    for one that does not exist, before any work.
    """
    missing = [f"--evaluate-on {folder}: no such folder" for folder in evaluate_on if not folder.is_dir()]
    if missing:
        raise UserError(*missing)

    import torch

    from pipelines.quickstart.corpus import train_tokenizer
    from pipelines.quickstart.crops import Pictures
    from pipelines.quickstart.export_base import Training, describe_errors, export_base
    from pipelines.quickstart.networks import load_tokenizer
    from pipelines.quickstart.train_diffusion import train_diffusion
    from pipelines.quickstart.train_vae import refine_decoder, train_vae

    torch.set_num_threads(1)  # another number of threads gives other bits
    pictures = Pictures(work, plan.pictures, plan.seed)
    if not (work / "tokenizer" / "tokenizer.json").exists():
        train_tokenizer(work / "tokenizer")
    tokenizer = load_tokenizer(work / "tokenizer")
    vae, vae_seconds = train_vae(pictures, work, plan.vae_steps, plan.vae_batch, plan.seed)
    unet, text_encoder, scaling, seconds = train_diffusion(
        pictures, vae, tokenizer, work, plan.steps, plan.batch, plan.seed
    )
    decoder_seconds = refine_decoder(vae, pictures, work, plan.decoder_steps, plan.vae_batch, plan.seed)
    vae.register_to_config(scaling_factor=scaling)
    errors = describe_errors(vae, pictures, evaluate_on)
    log("\n  ".join(["reconstruction | wrong side | PSNR | fine texture", *errors]))
    training = Training(f"{COMMAND} {plan.options()}", plan, vae_seconds, decoder_seconds, seconds, errors)
    export_base(out, vae, unet, text_encoder, tokenizer, training)
    log(f"wrote {out}")


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.quickstart.train_base", description="Train the tiny base model on drawn pictures."
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for pictures and training state (about 1 GB)")
    parser.add_argument("--out", type=Path, required=True, help="the model's folder, replaced when all is done")
    for field in fields(Plan):
        name = f"--{field.name.replace('_', '-')}"
        several = "+" if isinstance(field.default, tuple) else None
        text = f"{HELP[field.name]} (default: %(default)s)"
        parser.add_argument(name, type=int, nargs=several, default=field.default, help=text)
    parser.add_argument(
        "--evaluate-on", type=Path, action="append", default=[], metavar="DIR",
        help="also report the autoencoder's error on the .jpg images below DIR (never trained on; may be repeated)",
    )  # fmt: skip
    given = parser.parse_args(arguments)
    values = {field.name: getattr(given, field.name) for field in fields(Plan)}
    plan = Plan(**values | {"steps": tuple(given.steps)})
    try:
        train_base(given.work, given.out, plan, given.evaluate_on)
    except UserError as error:
        parser.exit(error.status, f"{error}\n")


if __name__ == "__main__":
    main()
