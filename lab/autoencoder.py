"""A tiny convolutional autoencoder: RGB pictures <-> latents with 4 channels, 4 times smaller each way.

Latents have zero mean and unit variance per channel. A batch norm without
weights sees to that during training and is folded away afterwards
(`fold`), so that a stored encoder gives normalised latents by itself.
"""

import torch
from torch import nn
from torch.nn import functional as F

LATENT_CHANNELS = 4
FACTOR = 4


class _Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return x + self.second(F.silu(self.first(F.silu(x))))


class AutoEncoder(nn.Module):
    """`encode` takes pictures [B,3,H,W] in -1..1, `decode` gives them back; H and W are multiples of 4.

    `wide`, `deep` and `fine` are the widths of the encoder's two levels and of the decoder's last.
    """

    def __init__(self, wide=40, deep=64, fine=48):
        super().__init__()
        # Blocks of 2x2 pixels are channels from the start: convolutions on 64x64 are slow.
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(12, wide, 3, padding=1),
            _Residual(wide),
            nn.Conv2d(wide, deep, 4, stride=2, padding=1),
            _Residual(deep),
            nn.SiLU(),
            nn.Conv2d(deep, LATENT_CHANNELS, 1),
        )
        self.norm = nn.BatchNorm2d(LATENT_CHANNELS, affine=False, momentum=0.02)
        self.decoder = nn.Sequential(
            nn.Conv2d(LATENT_CHANNELS, deep, 3, padding=1),
            _Residual(deep),
            _Residual(deep),
            nn.Conv2d(deep, fine * 4, 1),
            nn.PixelShuffle(2),
            _Residual(fine),
            nn.SiLU(),
            nn.Conv2d(fine, 12, 3, padding=1),
            nn.PixelShuffle(2),
        )
        # A rough preview straight from the latents. Training it keeps the latents
        # close to linear in colour, so that sums of latents mean sums of colours.
        self.preview = nn.Conv2d(LATENT_CHANNELS, 3, 1)
        self.register_buffer("spread", torch.ones(LATENT_CHANNELS, 1, 1))
        self.register_buffer("centre", torch.zeros(LATENT_CHANNELS, 1, 1))

    def encode(self, picture):
        return self.norm(self.encoder(picture))

    def decode(self, latent):
        return self.decoder(latent * self.spread + self.centre)

    def rgb_factors(self):
        """The linear preview of what `encode` gives: weights [4,3] and bias [3], as the host's formats have them."""
        weight = self.preview.weight[:, :, 0, 0]
        return (weight * self.spread.flatten()).T, self.preview.bias + weight @ self.centre.flatten()

    @torch.no_grad()
    def fold(self, picture):
        """Replaces the batch norm by the statistics of these pictures, inside the encoder's last layer.

        The decoder knows latents as the batch norm made them, so `spread` and
        `centre` lead back to those.
        """
        raw, norm, last = self.encoder(picture), self.norm, self.encoder[-1]
        mean, std = raw.mean((0, 2, 3)), raw.std((0, 2, 3))
        known = (norm.running_var + norm.eps).sqrt()
        self.spread.copy_((std / known)[:, None, None])
        self.centre.copy_(((mean - norm.running_mean) / known)[:, None, None])
        last.bias.sub_(mean).div_(std)
        last.weight.div_(std[:, None, None, None])
        self.norm = nn.Identity()
        return self


# The autoencoders by name; the second has widths, pictures and a seed of its own.
WIDTHS = {"autoencoder": {}, "large_autoencoder": {"wide": 48, "deep": 56, "fine": 40}}


def made(name):
    """The autoencoder `name`, untrained."""
    return AutoEncoder(**WIDTHS[name])


def loss(model, picture, noise=0.08):
    """Reconstruction loss on pictures in -1..1, with noisy latents so that the decoder forgives small errors."""
    latent = model.encode(picture)
    level = noise * torch.rand(len(latent), 1, 1, 1) * 2
    out = model.decode(latent + level * torch.randn_like(latent))
    error = out.float() - picture
    rough = model.preview(latent).float() - F.avg_pool2d(picture, FACTOR)
    # The absolute error makes edges sharp, the squared error makes colours right.
    return error.abs().mean() + 2 * error.square().mean() + 0.3 * rough.square().mean()


def to_model(pictures):
    """uint8 [n,H,W,3] -> float [n,3,H,W] in -1..1."""
    return torch.as_tensor(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pictures(tensor):
    """float [n,3,H,W] in -1..1 -> uint8 [n,H,W,3] numpy."""
    tensor = ((tensor.float().clamp(-1, 1) + 1) * 127.5).round()
    return tensor.permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy()
