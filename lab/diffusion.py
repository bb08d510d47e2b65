"""Noise levels and the training loss. A network's attribute `prediction` says what it answers.

eps, v: x = clean + sigma * noise, on Stable Diffusion's "scaled linear" levels; the network gets x / sqrt(1 + sigma^2).
flow: x = (1 - sigma) * clean + sigma * noise; the network gets x, t = 1000 sigma, and answers noise - clean.
"""

from functools import cache

import torch
from torch import Tensor

STEPS = 1000
_betas = torch.linspace(0.00085**0.5, 0.012**0.5, STEPS, dtype=torch.float64) ** 2
_kept = torch.cumprod(1 - _betas, 0)
SIGMAS = ((1 - _kept) / _kept).sqrt().float()


@cache
def _log_sigmas(device: torch.device) -> Tensor:
    return SIGMAS.log().to(device)


def sigma_of_t(t: Tensor) -> Tensor:
    """Return the noise level at a (fractional) timestep, interpolated in the logarithm."""
    table, t = _log_sigmas(t.device), t.float().clamp(0, STEPS - 1)
    low = t.floor().long()
    return torch.lerp(table[low], table[(low + 1).clamp(max=STEPS - 1)], t - low).exp()


def training_loss(net, clean: Tensor, context: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """Return the squared error of the prediction; for eps that of v, which weighs all noise levels about the same.

    `t` [B] are timesteps.
    """
    is_flow = net.prediction == "flow"
    s = (t / STEPS if is_flow else sigma_of_t(t)).view(-1, 1, 1, 1)
    if is_flow:
        return (net((1 - s) * clean + s * noise, t, context) - (noise - clean)).square().mean()
    scale = (1 + s * s).sqrt()
    out = net((clean + s * noise) / scale, t, context)
    if net.prediction == "eps":
        return ((out - noise) * scale).square().mean()
    return (out - (noise - s * clean) / scale).square().mean()
