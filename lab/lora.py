"""LoRAs of the lab's networks: training them, and their parts."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class LowRank(nn.Module):
    """Adds up @ down to a weight; starts at zero."""

    def __init__(self, weight: Tensor, rank: int):
        super().__init__()
        rows, columns = len(weight), weight[0].numel()
        self.down = nn.Parameter(torch.randn(rank, columns, device=weight.device) / columns**0.5)
        self.up = nn.Parameter(torch.zeros(rows, rank, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.up @ self.down).view_as(weight)


def add(net: nn.Module, rank: int) -> nn.Module:
    """Give every convolution and linear layer of `net` but the names' a trainable LoRA, and freeze the rest."""
    net.requires_grad_(False)
    for name, layer in list(net.named_modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear) and not name.endswith("condition.name"):
            limit = min(len(layer.weight), layer.weight[0].numel())
            parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, min(rank, limit)))
    return net


def parts(net: nn.Module) -> dict[str, Tensor]:
    """Return {layer.up, layer.down} of a network with a LoRA."""
    found = {}
    for name, layer in net.named_modules():
        if parametrize.is_parametrized(layer, "weight"):
            low_rank = layer.parametrizations.weight[0]
            found |= {f"{name}.up": low_rank.up, f"{name}.down": low_rank.down}
    return found
