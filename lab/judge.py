"""A small judge network and the scores it serves for.

The judge tells class and look of a picture. It is trained on noisy, blended
and re-coded pictures, so that its answers change gently with the picture.
All scores are free functions over float pictures [n,3,H,W] in -1..1.
"""

import numpy as np
import torch
from scipy import linalg
from torch import nn
from torch.nn import functional as F

from . import autoencoder, shapes

OTHER = len(shapes.CLASSES)  # class index of a random shape
FEATURES = 48


class Judge(nn.Module):
    """Strided convolutions, a feature vector, and two heads: class (six and "other") and styled or not."""

    def __init__(self, fineness=1):
        super().__init__()
        first = before = 12 * fineness**2
        layers = [nn.PixelUnshuffle(2 * fineness)]
        for width in (32, 64, 96, 128):
            layers += [
                nn.Conv2d(before, width, 3, stride=1 if before == first else 2, padding=1),
                nn.GroupNorm(8, width),
                nn.SiLU(),
            ]
            before = width
        self.body = nn.Sequential(*layers)
        self.feature = nn.Linear(128 * 2, FEATURES)
        self.kind, self.style = nn.Linear(FEATURES, OTHER + 1), nn.Linear(FEATURES, 1)

    def features(self, picture):
        h = self.body(picture)
        return F.silu(self.feature(torch.cat([h.mean((2, 3)), h.amax((2, 3))], 1)))

    def forward(self, picture):
        """Logits of the class [n,7] and of "styled" [n]."""
        h = self.features(picture)
        return self.kind(h), self.style(h)[:, 0]


def training_pool(rng, coder, n, fineness=1):
    """Base and styled pictures, half of them through the autoencoder; class and style targets."""
    pictures, kinds, styles = [], [], []
    for style, look in enumerate(("base", "style")):
        labels = np.sort(rng.integers(-1, len(shapes.CLASSES), n))
        drawn = autoencoder.to_model(shapes.draw(rng, labels, look, fineness=fineness))
        for part in torch.arange(1, n, 2).split(128):
            latent = coder.encode(drawn[part])
            drawn[part] = coder.decode(latent + 0.05 * torch.randn_like(latent))
        pictures.append(drawn)
        kinds.append(torch.as_tensor(np.where(labels < 0, OTHER, labels)))
        styles.append(torch.full((n,), float(style)))
    return torch.cat(pictures), torch.cat(kinds), torch.cat(styles)


def training_loss(model, pictures, kinds, styles):
    """Cross entropies on noisy pictures, half of them blended with another one (targets blend alike)."""
    n = len(pictures)
    share = torch.where(torch.rand(n) < 0.5, torch.rand(n), torch.ones(n))
    other = torch.randperm(n)
    mix = share[:, None, None, None]
    x = pictures * mix + pictures[other] * (1 - mix)
    x = x + 0.5 * torch.rand(n, 1, 1, 1) ** 2 * torch.randn_like(x)  # up to a quarter of the range
    kind, style = model(x)
    styled = styles * share + styles[other] * (1 - share)

    def by_kind(target):
        return F.cross_entropy(kind, target, reduction="none")

    loss = by_kind(kinds) * share + by_kind(kinds[other]) * (1 - share)
    return loss.mean() + F.binary_cross_entropy_with_logits(style, styled)


def _in_parts(call, pictures):
    with torch.no_grad():
        return torch.cat([call(part.float()) for part in pictures.split(128)])


def style_score(judge, pictures):
    """Mean probability of "styled"."""
    return _in_parts(lambda x: judge(x)[1].sigmoid(), pictures).mean().item()


def class_score(judge, pictures, labels):
    """Share of pictures in which the judge sees the class that was asked for."""
    found = _in_parts(lambda x: judge(x)[0].argmax(1), pictures)
    return (found == torch.as_tensor(labels)).float().mean().item()


def frechet(a, b):
    """Frechet distance between two sets of vectors [n,k], each taken as a normal distribution."""
    a, b = a.double().numpy(), b.double().numpy()
    ca, cb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(ca @ cb).real
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca + cb - 2 * root))


def judge_distance(judge, pictures, reference):
    """Frechet distance of the judge's features."""
    return frechet(_in_parts(judge.features, pictures), _in_parts(judge.features, reference))


def ground_colour(pictures):
    """Median colour of a frame of 3 pixels: the background. [n,3]"""
    frame = torch.ones(pictures.shape[-2:], dtype=torch.bool)
    frame[3:-3, 3:-3] = False
    return pictures.float()[:, :, frame].median(2).values


def colour_numbers(pictures):
    """Per picture: background colour, mean colour and spread of colours. [n,9]"""
    flat = pictures.float().flatten(2)
    return torch.cat([ground_colour(pictures), flat.mean(2), flat.std(2)], 1)


def colour_distance(pictures, reference):
    return frechet(colour_numbers(pictures), colour_numbers(reference))


def band_contrast(pictures):
    """Contrast of the bands on the background, of each picture: amplitude of the logarithm of its light. [n]

    Found by least squares in a frame of 8 pixels, at the best of the angles that bands have.
    """
    light = pictures.float().add(1).div(2).mean(1).clamp(min=0.01).log()
    size = light.shape[-1]
    place = torch.arange(size).float() * 64 / size
    frame = torch.ones(size, size, dtype=torch.bool)
    edge = size // 8
    frame[edge:-edge, edge:-edge] = False
    seen, found = light[:, frame].T, []
    for turn in torch.linspace(*shapes.BAND_TURNS, 5):
        along = (place[None] * turn.cos() + place[:, None] * turn.sin())[frame] * (2 * torch.pi / shapes.BAND_PERIOD)
        waves = torch.stack([torch.ones_like(along), along.sin(), along.cos()], 1)
        found.append(torch.linalg.lstsq(waves, seen).solution[1:].norm(dim=0))
    return torch.stack(found).amax(0)


def _laplacian(pictures):
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]).expand(3, 1, 3, 3)
    return F.conv2d(F.pad(pictures.float(), (1, 1, 1, 1), mode="replicate"), kernel, groups=3).abs().mean(1)


def detail_numbers(pictures):
    """Per picture: mean and spread of the Laplacian, which outlines, stripes and leftover noise all raise. [n,2]"""
    lap = _laplacian(pictures).flatten(1)
    return torch.stack([lap.mean(1), lap.std(1)], 1)


def detail_distance(pictures, reference):
    return frechet(detail_numbers(pictures), detail_numbers(reference))


def flat_noise(pictures):
    """Mean Laplacian, in thousandths of the colour range, where the background should be flat."""
    # Everything that differs clearly from the background, noise smoothed away, is shape; keep off it.
    smooth = F.avg_pool2d(pictures.float(), 5, stride=1, padding=2, count_include_pad=False)
    away = (smooth - ground_colour(pictures)[:, :, None, None]).abs().amax(1, keepdim=True)
    shape = F.max_pool2d((away > 0.3).float(), 9, stride=1, padding=4)[:, 0]
    flat = 1 - shape
    return ((_laplacian(pictures) * flat).sum() / flat.sum().clamp(min=1)).item() * 500


def diversity(judge, pictures, labels):
    """Mean spread of the judge's features among pictures of one class."""
    features, labels = _in_parts(judge.features, pictures), torch.as_tensor(labels)
    spreads = [features[labels == k].std(0).mean() for k in labels.unique()]
    return torch.stack(spreads).mean().item()


def gap_closure(target, method, oracle):
    """Share of the way from the target's distance down to the oracle's distance that the method goes."""
    return (target - method) / (target - oracle)
