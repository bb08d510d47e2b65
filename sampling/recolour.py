"""Two latents as two sets of colours: how much of one the other explains, and a third in the colours of the second.

Pixels are samples and channels their coordinates. All that is needed are moments, a few small matrices a picture. They
are taken where the latents are and decomposed in float64 on the CPU, for not every device can.
"""

import torch
from torch import Tensor

RIDGE = 1e-3  # of a covariance, relative to the mean variance of its channels


def unexplained(first: Tensor, second: Tensor, with_mean: bool = False) -> Tensor:
    """Return the share [B] of `second` that no affine map of the channels of `first` gives, both [B, C, ...].

    It is free of the colours of the two. `with_mean` counts the mean of `second` as a part of it that is to be
    explained. Of a `second` that is nothing all is left then, and otherwise nothing.
    """
    channels, pixels = first.shape[1], first.flatten(2).shape[2]
    mean, covariance = _moments(first, second)
    between, own = covariance[:, :channels, channels:], covariance[:, channels:, channels:]
    left = _trace(own - between.mT @ torch.linalg.solve(_ridged(covariance[:, :channels, :channels]), between))
    whole = _trace(own) + (mean[:, channels:].square().sum(1) if with_mean else 0)
    # A map with as many unknowns as there are pixels explains anything.
    free = pixels - 1 - channels
    share = left / whole * (pixels - 1) / free if free > 0 else torch.ones_like(whole)
    return torch.where(whole > 0, share.clamp(0, 1), 1.0 if with_mean else 0.0)


def contrast(first: Tensor, second: Tensor) -> Tensor:
    """Return the contrast [B] of `second` over that of `first`, both [B, C, ...]: how widely their pixels spread."""
    spreads = torch.stack([each.float().flatten(2).var(2, correction=0).sum(1).sqrt() for each in (first, second)])
    before, after = spreads.double().cpu().nan_to_num(0, 0, 0)
    return after / before.clamp(min=1e-6)


def recoloured(latent: Tensor, first: Tensor, second: Tensor, gain: Tensor | float = 1.0) -> Tensor:
    """Return `latent` [B, C, ...] as `second` shows what `first` shows: an affine map of its channels.

    Where the two have one shape, it is the map that leads from the one to the other. Where they have not, least squares
    would take every difference of shape for a loss of contrast, and a picture that loses contrast loses its shape. So
    it is the map that gives `first` the mean and the covariance of `second`, turned as the two go together (Procrustes'
    rotation of the whitened channels), with `gain` [B] times that contrast.
    """
    channels = first.shape[1]
    mean, covariance = _moments(first, second)
    before, after = (_ridged(covariance[:, half, half]) for half in (slice(channels), slice(channels, None)))
    whitening, colouring = _power(before, -0.5), _power(after, 0.5)
    u, _, v = torch.linalg.svd(whitening @ covariance[:, :channels, channels:] @ _power(after, -0.5))
    weight = whitening @ u @ v @ colouring * torch.as_tensor(gain).view(-1, 1, 1)
    shift = mean[:, None, channels:] - mean[:, None, :channels] @ weight
    weight, shift = weight.to(latent), shift.to(latent)
    return (weight.mT @ latent.flatten(2) + shift.mT).reshape(latent.shape)


def _moments(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean [B, 2 C] and covariance [B, 2 C, 2 C] of the channels of both."""
    both = torch.cat([first.flatten(2), second.flatten(2)], 1).float()
    mean = both.mean(2)
    centred = both - mean[..., None]
    covariance = centred @ centred.mT / both.shape[2]
    # A GPU is waited for once. What is not finite is reported where it is mixed; here it would stop the decompositions.
    moments = torch.cat([covariance, mean[..., None]], 2).double().cpu().nan_to_num(0, 0, 0)
    return moments[..., -1], moments[..., :-1]


def _ridged(covariance: Tensor) -> Tensor:
    channels = covariance.shape[-1]
    held = (RIDGE * _trace(covariance) / channels).clamp(min=1e-12)
    return covariance + held[:, None, None] * torch.eye(channels, dtype=covariance.dtype)


def _power(matrix: Tensor, exponent: float) -> Tensor:
    """Return a power of symmetric positive matrices [B, C, C]."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp(min=1e-12)[:, None] ** exponent @ vectors.mT


def _trace(matrix: Tensor) -> Tensor:
    return matrix.diagonal(dim1=-2, dim2=-1).sum(-1)
