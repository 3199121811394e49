"""How long the tiny base model is trained: the numbers of one training run. No torch."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Plan:
    """Lengths of the stages in steps, and the seed that all randomness comes from."""

    pictures: int = 600
    vae_steps: int = 2000
    vae_batch: int = 8
    decoder_steps: int = 3500
    steps: tuple[int, ...] = (4000, 2600)  # one number per cycle of the learning rate
    batch: int = 16
    seed: int = 0

    def options(self) -> str:
        """The plan as the command line's options."""
        written = {name: " ".join(map(str, v)) if isinstance(v, tuple) else v for name, v in asdict(self).items()}
        return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in written.items())
