"""The architectures of the family: SourceNet (small, eps), TargetNet (larger, v, with attention) and FlowNet.

All are called as net(x, t, context): x [B,C,H,W], H and W multiples of 4, C the
network's `channels`; t [B] float timesteps 0..999; context [B,1,6] with the
one-hot class name, or zeros for the empty prompt. SourceNet and TargetNet want
x scaled to unit variance; FlowNet wants it as it is, and t = 1000 sigma. Clean latents
are those of the network's autoencoder (`coder`), or lifted ones, times its `scale`.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from . import diffusion, lifted

NAMES = 6
CHANNELS = 4


def one_hot(labels):
    """Context [n,1,6] of a tensor of labels; random shapes have the empty prompt."""
    context = torch.zeros(len(labels), 1, NAMES)
    named = (labels >= 0).nonzero()[:, 0]
    context[named, 0, labels[named]] = 1
    return context


def waves(t, size):
    """Sines and cosines of the timestep."""
    rates = torch.exp(-math.log(2000) * torch.arange(size // 2, device=t.device) / (size // 2 - 1))
    angle = t.float()[:, None] * rates[None]
    return torch.cat([angle.sin(), angle.cos()], 1)


class Conditioning(nn.Module):
    """One vector from timestep and class name.

    The name layer has no bias and starts at zero: a name that was never
    trained keeps its zero column and acts exactly as the empty prompt.
    """

    def __init__(self, size):
        super().__init__()
        self.size = size
        self.time = nn.Sequential(nn.Linear(64, size), nn.SiLU(), nn.Linear(size, size))
        self.name = nn.Linear(NAMES, size, bias=False)
        nn.init.zeros_(self.name.weight)

    def forward(self, t, context):
        kind = self.name.weight.dtype
        time = self.time(waves(t, 64).to(kind))
        return F.silu(time + self.name(context.to(kind).mean(1)))


class Block(nn.Module):
    """Residual block of two convolutions. `film` conditions by scale and shift, otherwise by shift alone."""

    def __init__(self, before, after, condition, film):
        super().__init__()
        self.film = film
        self.norm1, self.conv1 = nn.GroupNorm(8, before), nn.Conv2d(before, after, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(8, after), nn.Conv2d(after, after, 3, padding=1)
        self.condition = nn.Linear(condition, after * (2 if film else 1))
        self.skip = nn.Conv2d(before, after, 1) if before != after else nn.Identity()
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x, condition):
        h = self.conv1(F.silu(self.norm1(x)))
        extra = self.condition(condition)[:, :, None, None]
        if self.film:
            scale, shift = extra.chunk(2, 1)
            h = self.norm2(h) * (1 + scale) + shift
        else:
            h = self.norm2(h + extra)
        return self.skip(x) + self.conv2(F.silu(h))


class Attention(nn.Module):
    """Self-attention over all places, added to its input."""

    def __init__(self, width, heads=4):
        super().__init__()
        self.heads, self.norm = heads, nn.GroupNorm(8, width)
        self.qkv, self.out = nn.Conv2d(width, 3 * width, 1), nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, x):
        b, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, h * w).transpose(3, 4).unbind(1)
        mixed = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(mixed.transpose(2, 3).reshape(b, c, h, w))


class SourceNet(nn.Module):
    """The old base: a plain two-level U-Net that predicts eps."""

    prediction, channels, scale, coder, fineness = "eps", CHANNELS, 1.0, "autoencoder", 1

    def __init__(self, wide=64, deep=112, condition=128):
        super().__init__()
        self.condition = Conditioning(condition)

        def block(before, after):
            return Block(before, after, condition, film=False)

        self.enter = nn.Conv2d(CHANNELS, wide, 3, padding=1)
        self.outer_in = block(wide, wide)
        self.down = nn.Conv2d(wide, deep, 3, stride=2, padding=1)
        self.inner = nn.ModuleList([block(deep, deep), block(deep, deep)])
        self.up = nn.Conv2d(deep, wide, 1)
        self.outer_out = nn.ModuleList([block(2 * wide, wide), block(wide, wide)])
        self.leave_norm, self.leave = nn.GroupNorm(8, wide), nn.Conv2d(wide, CHANNELS, 3, padding=1)
        nn.init.zeros_(self.leave.weight)

    def forward(self, x, t, context):
        condition = self.condition(t, context)
        h = self.enter(x.to(self.enter.weight.dtype))
        h = skip = self.outer_in(h, condition)
        h = self.down(h)
        for block in self.inner:
            h = block(h, condition)
        h = F.interpolate(self.up(h), scale_factor=2.0, mode="nearest")
        h = torch.cat([h, skip], 1)
        for block in self.outer_out:
            h = block(h, condition)
        h = self.leave(F.silu(self.leave_norm(h))).float()
        # At high noise eps is nearly x itself, and sigma magnifies every error of
        # eps in the denoised picture. So x passes by the network, which adds a
        # share that shrinks with the noise. What leaves is eps all the same.
        sigma = diffusion.sigma_of_t(t)[:, None, None, None]
        eps = (sigma * x.float() + h) / (1 + sigma * sigma).sqrt()
        return eps.to(x.dtype)


class SmallNet(SourceNet):
    """A smaller SourceNet, for pictures of half the size."""

    def __init__(self):
        super().__init__(wide=40, deep=72, condition=96)


class TargetNet(nn.Module):
    """The new base: a three-level U-Net with attention and scale-and-shift conditioning that predicts v."""

    prediction, channels, scale, coder, fineness = "v", CHANNELS, 1.0, "autoencoder", 1

    def __init__(self, wide=64, mid=128, deep=160, condition=192):
        super().__init__()
        self.condition = Conditioning(condition)

        def block(before, after):
            return Block(before, after, condition, film=True)

        self.enter = nn.Conv2d(CHANNELS, wide, 3, padding=1)
        self.wide_in = block(wide, wide)
        self.down1 = nn.Conv2d(wide, mid, 3, stride=2, padding=1)
        self.mid_in, self.mid_look = block(mid, mid), Attention(mid)
        self.down2 = nn.Conv2d(mid, deep, 3, stride=2, padding=1)
        self.deep, self.deep_look = block(deep, deep), Attention(deep)
        self.mid_out, self.mid_look_out = block(deep + mid, mid), Attention(mid)
        self.up = nn.Conv2d(mid, wide, 1)
        self.wide_out = nn.ModuleList([block(2 * wide, wide), block(wide, wide)])
        self.leave_norm, self.leave = nn.GroupNorm(8, wide), nn.Conv2d(wide, CHANNELS, 3, padding=1)
        nn.init.zeros_(self.leave.weight)

    def forward(self, x, t, context):
        condition = self.condition(t, context)
        h = self.levels(self.enter(x.to(self.enter.weight.dtype)), condition)
        return self.leave(F.silu(self.leave_norm(h))).to(x.dtype)

    def levels(self, h, condition):
        wide = self.wide_in(h, condition)
        mid = self.mid_look(self.mid_in(self.down1(wide), condition))
        h = self.deep_look(self.deep(self.down2(mid), condition))
        h = torch.cat([F.interpolate(h, scale_factor=2.0, mode="nearest"), mid], 1)
        h = self.mid_look_out(self.mid_out(h, condition))
        h = torch.cat([F.interpolate(self.up(h), scale_factor=2.0, mode="nearest"), wide], 1)
        for block in self.wide_out:
            h = block(h, condition)
        return h


class LargeNet(TargetNet):
    """The new base as people have it: for pictures of 128x128, in latents of an autoencoder trained apart.

    TargetNet with a level of 32x32 around its three.
    """

    coder, fineness = "large_autoencoder", 2

    def __init__(self, fine=32, wide=64, condition=192):
        super().__init__(wide=wide, condition=condition)

        def block(before, after):
            return Block(before, after, condition, film=True)

        self.enter = nn.Conv2d(CHANNELS, fine, 3, padding=1)
        self.fine_in = block(fine, fine)
        self.shrink, self.enlarge = nn.Conv2d(fine, wide, 3, stride=2, padding=1), nn.Conv2d(wide, fine, 1)
        self.fine_out = nn.ModuleList([block(2 * fine, fine), block(fine, fine)])
        self.leave_norm, self.leave = nn.GroupNorm(8, fine), nn.Conv2d(fine, CHANNELS, 3, padding=1)
        nn.init.zeros_(self.leave.weight)

    def levels(self, h, condition):
        fine = self.fine_in(h, condition)
        h = self.enlarge(super().levels(self.shrink(fine), condition))
        h = torch.cat([F.interpolate(h, scale_factor=2.0, mode="nearest"), fine], 1)
        for block in self.fine_out:
            h = block(h, condition)
        return h


class ScaledNet(TargetNet):
    """TargetNet in other clothes: the same denoiser for latents `scale` times as large, and it predicts eps.

    As far from 1 as the scale of SDXL's latents from that of SD1.5's: 0.18215 / 0.13025.
    """

    prediction, scale = "eps", 1.4

    def forward(self, x, t, context):
        s = diffusion.sigma_of_t(t)[:, None, None, None]
        noisy = x.float() * (1 + s * s).sqrt()
        # In unscaled latents the noise is smaller as well.
        inner = s / self.scale
        v = super().forward(
            noisy / self.scale / (1 + inner * inner).sqrt(), diffusion.t_of_sigma(inner.flatten()), context
        )
        clean = noisy / self.scale / (1 + inner * inner) - v * inner / (1 + inner * inner).sqrt()
        return ((noisy - self.scale * clean) / s).to(x.dtype)


class FlowNet(nn.Module):
    """The flow base: a small two-level U-Net on lifted latents, with two looks at all places on its low level.

    It predicts the velocity noise - clean of x = (1 - sigma) clean + sigma noise.
    """

    prediction, channels, scale, coder, fineness = "flow", lifted.CHANNELS, 1.0, "autoencoder", 1

    def __init__(self, wide=40, deep=80, condition=96):
        super().__init__()
        self.condition = Conditioning(condition)

        def block(before, after):
            return Block(before, after, condition, film=True)

        self.enter = nn.Conv2d(self.channels, wide, 3, padding=1)
        self.wide_in = block(wide, wide)
        self.down = nn.Conv2d(wide, deep, 3, stride=2, padding=1)
        self.deep = nn.ModuleList([block(deep, deep), block(deep, deep)])
        self.looks = nn.ModuleList([Attention(deep, heads=2), Attention(deep, heads=2)])
        self.up = nn.Conv2d(deep, wide, 1)
        self.wide_out = block(2 * wide, wide)
        self.leave_norm, self.leave = nn.GroupNorm(8, wide), nn.Conv2d(wide, self.channels, 3, padding=1)
        nn.init.zeros_(self.leave.weight)

    def forward(self, x, t, context):
        condition = self.condition(t, context)
        wide = self.wide_in(self.enter(x.to(self.enter.weight.dtype)), condition)
        h = self.down(wide)
        for block, look in zip(self.deep, self.looks, strict=True):
            h = look(block(h, condition))
        h = torch.cat([F.interpolate(self.up(h), scale_factor=2.0, mode="nearest"), wide], 1)
        h = self.leave(F.silu(self.leave_norm(self.wide_out(h, condition)))).float()
        # Only 4 of the 16 dimensions hold pictures; in the others x is noise, however little of it. So the
        # network starts from the best linear guess of the clean latent. Not in bfloat16: a small sigma
        # magnifies its rounding.
        x32, sigma = x.float(), t.float()[:, None, None, None] / diffusion.STEPS
        with torch.autocast(x.device.type, enabled=False):
            held = lifted.lift(lifted.lower(x32))
        signal = lifted.GAIN**2 * (1 - sigma)
        guess = held * signal / (signal * (1 - sigma) + sigma**2)
        return ((x32 - guess) / sigma.clamp(min=0.02) + h).to(x.dtype)


# The members of the family: bases and what was fine-tuned from them.
NETS = {
    "source": SourceNet,
    "adapted": SourceNet,
    "target": TargetNet,
    "oracle": TargetNet,
    "flow_target": FlowNet,
    "flow_oracle": FlowNet,
    "sibling": SourceNet,
    "source_lora": SourceNet,
    "banded_lora": SourceNet,
    "both_oracle": TargetNet,
    "source_few_steps": SourceNet,
    "small_source": SmallNet,
    "small_adapted": SmallNet,
    "large_target": LargeNet,
    "large_oracle": LargeNet,
    "scaled_target": ScaledNet,
    "scaled_oracle": ScaledNet,
}
# Members that are another's weights in other clothes.
WEIGHTS_OF = {"scaled_target": "target", "scaled_oracle": "oracle"}
