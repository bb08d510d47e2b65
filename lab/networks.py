"""The denoisers: the source, a small U-Net that predicts eps; and two targets, larger U-Nets with attention.

All are called as net(x, t, context): x [B, C, H, W], t [B] float timesteps 0..1000, context [B, 1, names] with the
one-hot name, or zeros for the empty prompt.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import diffusion, latents, world


def one_hot(labels: Tensor) -> Tensor:
    """Return the context [n, 1, names] of names [n]; negative ones are the empty prompt."""
    return (labels[:, None, None] == torch.arange(len(world.NAMES), device=labels.device)).float()


class Conditioning(nn.Module):
    """One vector from timestep and name. A name that was never trained acts as the empty prompt."""

    def __init__(self, size: int):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(64, size), nn.SiLU(), nn.Linear(size, size))
        self.name = nn.Linear(len(world.NAMES), size, bias=False)
        nn.init.zeros_(self.name.weight)

    def forward(self, t: Tensor, context: Tensor) -> Tensor:
        rates = torch.exp(-math.log(2000) * torch.arange(32, device=t.device) / 31)
        angle = t.float()[:, None] * rates
        waves = torch.cat([angle.sin(), angle.cos()], 1)
        return F.silu(self.time(waves) + self.name(context.mean(1)))


class Block(nn.Module):
    """Residual block of two convolutions, conditioned by scale and shift (`film`) or by shift alone."""

    def __init__(self, before: int, after: int, condition: int, film: bool):
        super().__init__()
        self.film = film
        self.norm1, self.conv1 = nn.GroupNorm(8, before), nn.Conv2d(before, after, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(8, after), nn.Conv2d(after, after, 3, padding=1)
        self.condition = nn.Linear(condition, after * (2 if film else 1))
        self.skip = nn.Conv2d(before, after, 1) if before != after else nn.Identity()
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        given = self.condition(condition)[:, :, None, None]
        if self.film:
            scale, shift = given.chunk(2, 1)
            h = self.norm2(h) * (1 + scale) + shift
        else:
            h = self.norm2(h + given)
        return self.skip(x) + self.conv2(F.silu(h))


class Attention(nn.Module):
    """Self-attention over all places, added to its input."""

    def __init__(self, width: int, heads: int = 4):
        super().__init__()
        self.heads, self.norm = heads, nn.GroupNorm(8, width)
        self.qkv, self.out = nn.Conv2d(width, 3 * width, 1), nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, h * w).transpose(3, 4).unbind(1)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(mixed.transpose(2, 3).reshape(b, c, h, w))


class UNet(nn.Module):
    """A U-Net with a residual block a level on the way down and up, and two more at the bottom.

    `attention` says on which levels there is attention. `control`, a module, adds to what the first layer gives.
    """

    channels: int
    prediction: str

    def __init__(self, widths: tuple[int, ...], condition: int, film: bool, attention: tuple[int, ...] = ()):
        super().__init__()
        self.condition, self.control = Conditioning(condition), None

        def block(before: int, after: int) -> Block:
            return Block(before, after, condition, film)

        def look(level: int) -> nn.Module:
            return Attention(widths[level]) if level in attention else nn.Identity()

        levels = range(len(widths))
        self.enter = nn.Conv2d(self.channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList([nn.Conv2d(widths[n], widths[n + 1], 3, stride=2, padding=1) for n in levels[:-1]])
        self.blocks_down = nn.ModuleList([block(widths[n], widths[n]) for n in levels])
        self.looks_down = nn.ModuleList([look(n) for n in levels])
        self.bottom = block(widths[-1], widths[-1])
        self.up = nn.ModuleList([nn.Conv2d(widths[n + 1], widths[n], 1) for n in levels[:-1]])
        self.blocks_up = nn.ModuleList([block(2 * widths[n], widths[n]) for n in levels[:-1]])
        self.looks_up = nn.ModuleList([look(n) for n in levels[:-1]])
        self.last = block(widths[0], widths[0])
        self.leave_norm, self.leave = nn.GroupNorm(8, widths[0]), nn.Conv2d(widths[0], self.channels, 3, padding=1)
        nn.init.zeros_(self.leave.weight)

    def features(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        condition, kept = self.condition(t, context[..., : len(world.NAMES)]), []
        h = self.enter(x)
        if self.control is not None and context.shape[-1] > len(world.NAMES):
            h = h + self.control(context[..., len(world.NAMES) :].reshape(len(x), 1, *x.shape[-2:]))
        for level, (block, look) in enumerate(zip(self.blocks_down, self.looks_down, strict=True)):
            h = look(block(self.down[level - 1](h) if level else h, condition))
            kept.append(h)
        h = self.bottom(kept.pop(), condition)
        for level in reversed(range(len(self.up))):
            h = F.interpolate(self.up[level](h), scale_factor=2.0, mode="nearest")
            h = self.looks_up[level](self.blocks_up[level](torch.cat([h, kept[level]], 1), condition))
        return self.leave(F.silu(self.leave_norm(self.last(h, condition))))

    def forward(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        return self.features(x, t, context)


class SourceNet(UNet):
    """The old base model: two levels without attention; it predicts eps in patch latents."""

    channels, prediction, coder, size = latents.PatchLatents.channels, "eps", "patches", 64
    scheduler = "karras"

    def __init__(self):
        super().__init__((80, 128), 128, film=False)

    def forward(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        # At high noise eps is nearly x, and sigma magnifies every error of eps in the denoised image. So x passes by
        # the network, whose share shrinks with the noise.
        sigma = diffusion.sigma_of_t(t)[:, None, None, None]
        return (sigma * x + self.features(x, t, context)) / (1 + sigma * sigma).sqrt()


class TargetNet(UNet):
    """The new base model: three levels, attention on the lower two; it predicts v in the source's latents."""

    channels, prediction, coder, size = latents.PatchLatents.channels, "v", "patches", 64
    scheduler = "karras"

    def __init__(self):
        super().__init__((64, 112, 120), 160, film=True, attention=(1, 2))


class FlowNet(UNet):
    """The newest base model: four levels; it predicts the flow's velocity in the autoencoder's latents, 128x128."""

    channels, prediction, coder, size = latents.AutoEncoder.channels, "flow", "autoencoder", 128
    scheduler = "simple"

    def __init__(self):
        super().__init__((40, 72, 104, 120), 160, film=True, attention=(2, 3))


NETS = {"source": SourceNet, "target": TargetNet, "flow_target": FlowNet}


class Control(nn.Module):
    """What a map of the wanted silhouette [B, 1, h, w] (0..1) adds to a U-Net's first layer; starts at zero."""

    def __init__(self, width: int, out: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=2, dilation=2), nn.SiLU(),
            nn.Conv2d(width, out, 3, padding=1),
        )  # fmt: skip
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.zeros_(self.layers[-1].bias)

    def forward(self, wanted: Tensor) -> Tensor:
        return self.layers(wanted)


def control_for(net: UNet) -> Control:
    return Control(48, net.enter.out_channels)


def silhouette(images: Tensor, threshold: float = 0.3) -> Tensor:
    """Return 1 where images [n, 3, H, W] in -1..1 differ from the colour of their corners: [n, 1, H, W]."""
    corners = images[:, :, :: images.shape[-2] - 1, :: images.shape[-1] - 1].flatten(2)
    ground = corners.median(-1).values[..., None, None]
    return ((images - ground).abs().amax(1, keepdim=True) > threshold).float()


def control_maps(images: Tensor) -> Tensor:
    """Return the silhouettes of images [n, 3, H, W] at the size of their latents: [n, 1, H/4, W/4]."""
    return F.avg_pool2d(silhouette(images), latents.FACTOR)


def with_map(context: Tensor, wanted: Tensor) -> Tensor:
    """Return the context [B, 1, names + places] of names [B, 1, names] and maps [B, 1, h, w]."""
    return torch.cat([context, wanted.flatten(1)[:, None]], -1)
