"""One number for each sample of a batch."""

from torch import Tensor


def by_sample(values: Tensor, latent: Tensor) -> Tensor:
    """Return `values`, one [1] or one for each sample [B], in a form that multiplies a latent [B, C, ...]."""
    return values.reshape(-1, *[1] * (latent.ndim - 1))


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the inner product of each sample of two latents [B, C, ...], in a form that multiplies one."""
    return by_sample((a * b).flatten(1).sum(1), a)
