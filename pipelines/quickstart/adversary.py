"""The critic that the decoder's refinement is held against: are these crops drawn, or decoded? Imports torch.

No pixelwise loss asks for grain that cannot be predicted, so a decoder trained on such losses alone leaves it out. A
patch critic does ask for it (Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", 2017;
for autoencoders, Esser et al., "Taming Transformers", 2021), here with spectral normalisation (Miyato et al., 2018)
and the hinge loss (Lim and Ye, "Geometric GAN", 2017).
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

RATE = 4e-4
WIDTH = 32
DETAIL = 6.0  # by how much fine detail is amplified before it saturates


def detail(images: torch.Tensor) -> torch.Tensor:
    """What is finer than 3 pixels of (n, 3, h, w) images, amplified, in -1..1: grain as visible as edges."""
    smooth = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
    return torch.tanh(DETAIL * (images - smooth))


class Adversary:
    """A patch critic with its optimizer; patches are 22 pixels wide."""

    def __init__(self) -> None:
        sizes = ((6, WIDTH, 4, 2), (WIDTH, 2 * WIDTH, 4, 2), (2 * WIDTH, 2 * WIDTH, 4, 1))
        layers: list[nn.Module] = []
        for inputs, outputs, kernel, stride in sizes:
            layers += [spectral_norm(nn.Conv2d(inputs, outputs, kernel, stride, padding=1)), nn.LeakyReLU(0.2)]
        self.network = nn.Sequential(*layers, spectral_norm(nn.Conv2d(2 * WIDTH, 1, 1)))
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=RATE, betas=(0.5, 0.9), fused=True)

    def verdict(self, images: torch.Tensor) -> torch.Tensor:
        """How drawn each patch looks, (n, 1, h', w'), of (n, 3, h, w) images in -1..1."""
        verdict: torch.Tensor = self.network(torch.cat([images, detail(images)], dim=1))
        return verdict

    def loss(self, made: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """What a decoder is to lower: the critic's doubt about each of (n, 3, h, w) images, weighted by (n,)."""
        self.network.requires_grad_(False)
        return -(self.verdict(made).mean(dim=(1, 2, 3)) * weights).mean()

    def learn(self, images: torch.Tensor, made: torch.Tensor) -> None:
        """One step towards telling drawn `images` from decoded ones."""
        self.network.requires_grad_(True)
        loss = F.relu(1 - self.verdict(images)).mean() + F.relu(1 + self.verdict(made.detach())).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def state(self) -> dict[str, Any]:
        """Everything that `restore` needs."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
