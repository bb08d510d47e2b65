"""Adapters of the lab's networks: low-rank weights (LoRA) and a spatial control input in ControlNet's place."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from . import autoencoder
from .denoisers import NAMES

# Control inputs, and the networks they are for.
CONTROLS = {"source_control": "source", "target_control": "target"}
CONTROL_WIDTH = 64  # what both U-Nets' first layers put out


class LowRank(nn.Module):
    """Adds up @ down to a weight; starts at zero."""

    def __init__(self, weight: Tensor, rank: int):
        super().__init__()
        rows, columns = len(weight), weight[0].numel()
        self.down = nn.Parameter(torch.randn(rank, columns) / columns**0.5)
        self.up = nn.Parameter(torch.zeros(rows, rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.up @ self.down).view_as(weight)


def add_low_rank(net: nn.Module, rank: int) -> nn.Module:
    """Give every convolution and linear layer of `net` a trainable low-rank part, and freeze the rest."""
    net.requires_grad_(False)
    for layer in [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]:
        parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, rank))
    return net


def low_rank_state(net: nn.Module) -> dict[str, Tensor]:
    """Return the low-rank parts alone: {layer.up, layer.down}."""
    found = {}
    for name, layer in net.named_modules():
        if parametrize.is_parametrized(layer, "weight"):
            part = layer.parametrizations.weight[0]
            found |= {f"{name}.up": part.up, f"{name}.down": part.down}
    return found


class Control(nn.Module):
    """What a map of the wanted silhouette [B, 1, h, w] (0..1) adds to a U-Net's first layer; starts at zero."""

    def __init__(self, width: int = 48):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=2, dilation=2), nn.SiLU(),
            nn.Conv2d(width, CONTROL_WIDTH, 3, padding=1),
        )  # fmt: skip
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.zeros_(self.layers[-1].bias)

    def forward(self, wanted: Tensor) -> Tensor:
        return self.layers(wanted)


class Controlled(nn.Module):
    """A frozen network with a control input: its context is the name, followed by the wanted map."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net, self.control, self._wanted = net.requires_grad_(False), Control(), None
        self.prediction, self.channels, self.scale = net.prediction, net.channels, net.scale
        self.coder, self.fineness = net.coder, net.fineness
        net.enter.register_forward_hook(self._add)

    def _add(self, layer, args, out: Tensor) -> Tensor:
        return out + self.control(self._wanted.to(out.dtype))

    def forward(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        names, wanted = context[..., :NAMES], context[..., NAMES:]
        self._wanted = wanted.reshape(len(x), 1, *x.shape[-2:])
        return self.net(x, t, names)


def with_map(context: Tensor, wanted: Tensor) -> Tensor:
    """Return the context [B, 1, names + pixels] of names [B, 1, names] and maps [B, 1, h, w]."""
    return torch.cat([context, wanted.flatten(1)[:, None]], -1)


def silhouette(pictures: Tensor, threshold: float = 0.3) -> Tensor:
    """Return 1 where pictures [n, 3, H, W] in -1..1 differ from their background's colour: [n, 1, H, W]."""
    frame = torch.ones(pictures.shape[-2:], dtype=torch.bool)
    frame[3:-3, 3:-3] = False
    ground = pictures[:, :, frame].median(-1).values[..., None, None]
    return ((pictures - ground).abs().amax(1, keepdim=True) > threshold).float()


def control_maps(pictures: Tensor) -> Tensor:
    """Return the silhouettes of pictures [n, 3, H, W] at the size of their latents: [n, 1, H/4, W/4]."""
    return F.avg_pool2d(silhouette(pictures), autoencoder.FACTOR)


def overlap(pictures: Tensor, wanted: Tensor) -> float:
    """Return the mean intersection over union of the silhouettes of `pictures` and those `wanted` [n, 1, H, W]."""
    found = silhouette(pictures)
    both, either = (found * wanted).sum((1, 2, 3)), torch.maximum(found, wanted).sum((1, 2, 3))
    return (both / either.clamp(min=1)).mean().item()
