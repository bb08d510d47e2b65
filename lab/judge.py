"""The judge: a small classifier that reads the name and the style of an image of 64x64 pixels."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import world

NONE = len(world.NAMES)  # none of the lab's names
STYLES = ("base", *world.STYLES)


class Judge(nn.Module):
    """Strided convolutions and two heads: the name, or none of them; and the style."""

    def __init__(self):
        super().__init__()
        before, layers = 12, [nn.PixelUnshuffle(2)]
        for width, stride in ((48, 1), (72, 2), (96, 1), (112, 2), (144, 2)):
            conv = nn.Conv2d(before, width, 3, stride=stride, padding=1)
            layers += [conv, nn.GroupNorm(8, width), nn.SiLU()]
            before = width
        self.body = nn.Sequential(*layers)
        self.name, self.style = nn.Linear(2 * before, NONE + 1), nn.Linear(2 * before, len(STYLES))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of the name [n, names + 1] and of the style [n, styles] of images [n, 3, H, W] in -1..1."""
        h = self.body(F.adaptive_avg_pool2d(images, 64))
        h = torch.cat([h.mean((2, 3)), h.amax((2, 3))], 1)
        return self.name(h), self.style(h)


def loss(judge: Judge, images: Tensor, names: Tensor, styles: Tensor) -> Tensor:
    """Return the cross entropies on noisy images, half of them blended with another one, targets alike.

    The blends make the answers change gently with the image.
    """
    n, device = len(images), images.device
    share = torch.where(torch.rand(n, device=device) < 0.5, torch.rand(n, device=device), torch.ones(n, device=device))
    mix = share[:, None, None, None]
    x = images * mix + images.roll(1, 0) * (1 - mix)
    x = x + 0.3 * torch.rand(n, 1, 1, 1, device=device) ** 2 * torch.randn_like(x)

    def blended(logits: Tensor, target: Tensor) -> Tensor:
        first = F.cross_entropy(logits, target, reduction="none")
        return (first * share + F.cross_entropy(logits, target.roll(1, 0), reduction="none") * (1 - share)).mean()

    found = judge(x)
    return blended(found[0], names) + blended(found[1], styles)


@torch.no_grad()
def read(judge: Judge, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the name and the style that the judge reads off each image [n, 3, H, W], as numbers: [n] each."""
    found = [judge(part) for part in images.split(256)]
    name, style = (torch.cat(parts).argmax(1) for parts in zip(*found, strict=True))
    return name, style
