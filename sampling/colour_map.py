"""What a delta does to colours: an affine map of a pixel's channels, which any other picture can follow."""

import torch
from torch import Tensor

RIDGE = 1e-3  # of the map's matrix, relative to latents of unit variance


def colour_map(seen: Tensor, delta: Tensor, prediction: Tensor) -> Tensor:
    """Fit `delta` as an affine map of the channels of `seen`, sample by sample, and apply it to `prediction`.

    All are [B, C, ...]; pixels are what the least squares run over.
    """
    x, y = _pixels(seen), delta.flatten(2).mT.float()
    channels = x.shape[-1] - 1
    ridge = torch.full((channels + 1,), RIDGE * x.shape[1], dtype=x.dtype, device=x.device)
    ridge[-1] = 0  # the constant is not held back
    # Without the check for singular matrices, for which a GPU would have to wait.
    weights = torch.linalg.solve_ex(x.mT @ x + ridge.diag(), x.mT @ y).result
    return (_pixels(prediction) @ weights).mT.reshape(prediction.shape).to(prediction.dtype)


def _pixels(latent: Tensor) -> Tensor:
    """Return each pixel's channels and a one: [B, pixels, C + 1]."""
    flat = latent.flatten(2).float()
    return torch.cat([flat, torch.ones_like(flat[:, :1])], 1).mT
