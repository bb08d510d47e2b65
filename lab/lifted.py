"""The flow family's latents: 16 channels that hold the autoencoder's 4, as another model's latents would.

Channel k is half the sum of the 4 channels, each with a sign; the 16 channels have the 16 patterns
of signs. So LIFT is 2 Q with orthonormal columns in Q, exact in any float type and the same on every
machine, and lifted channels have unit variance where the 4 have.
"""

import torch

CHANNELS = 16

_bits = torch.arange(CHANNELS)[:, None] >> torch.arange(4) & 1
LIFT = 0.5 - _bits.float()  # [16,4]
GAIN = 2  # lifting makes latents longer: it takes so many times the noise to hide them as much
LOWER = LIFT.T / GAIN**2  # [4,16], the pseudo-inverse of LIFT


def _mix(matrix, z):
    return torch.einsum("ij,bj...->bi...", matrix.to(z), z)


def lift(z4):
    """Latents [B,4,...] -> [B,16,...]."""
    return _mix(LIFT, z4)


def lower(z16):
    """Latents [B,16,...] -> [B,4,...]; what lies outside the image of `lift` is dropped."""
    return _mix(LOWER, z16)


def lowered(z):
    """Latents of either kind -> the autoencoder's: [B,4,...]."""
    return lower(z) if z.shape[1] == CHANNELS else z
