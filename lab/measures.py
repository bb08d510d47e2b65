"""What is measured of sampled pictures, and how it is told."""

import numpy as np
import torch
from torch import Tensor

from . import autoencoder, denoisers, judge, shapes

GROUPS = {shapes.SEEN: "classes that the source knows", shapes.UNSEEN: "names that the source does not know"}
DISTANCES = ("judge", "colour", "detail")


class Scores:
    """Scores of pictures against pictures of some classes in one look, which no training saw.

    They are drawn as `net` draws them: as finely, through its autoencoder.
    """

    def __init__(self, family, classes, n: int, look: str = "style", net=denoisers.TargetNet):
        self.judge = family.judges[net.fineness]
        self.reference = held_out(family.coders[net.coder], classes, max(n, 512), look, net.fineness)

    def of(self, pictures: Tensor, labels) -> dict[str, float]:
        """Return {score: number} of pictures [n, 3, H, W] in -1..1."""
        return {
            "style": judge.style_score(self.judge, pictures),
            "class": judge.class_score(self.judge, pictures, labels),
            "judge": judge.judge_distance(self.judge, pictures, self.reference),
            "colour": judge.colour_distance(pictures, self.reference),
            "detail": judge.detail_distance(pictures, self.reference),
            "flat noise": judge.flat_noise(pictures),
            "diversity": judge.diversity(self.judge, pictures, labels),
        }


def held_out(coder, classes, n: int, look: str = "style", fineness: int = 1, seed: int = 1000) -> Tensor:
    """Return pictures that no training saw, passed through the autoencoder as every sample is."""
    drawn = shapes.draw(np.random.default_rng(seed), np.resize(classes, n), look, fineness=fineness)
    with torch.no_grad():
        latents = (coder.encode(part) for part in autoencoder.to_model(drawn).split(64))
        return torch.cat([coder.decode(latent) for latent in latents]).clamp(-1, 1)


def with_closures(rows: dict[str, dict]) -> dict[str, dict]:
    """Return the rows with, for each distance, how much of the way from "target" to "oracle" they go."""
    ends = rows["target"], rows["oracle"]
    return {
        name: row | {f"closure {d}": judge.gap_closure(ends[0][d], row[d], ends[1][d]) for d in DISTANCES}
        for name, row in rows.items()
    }


def table(rows: dict[str, dict]) -> list[str]:
    """Return rows of scores as lines of markdown."""
    scores = list(next(iter(rows.values())))
    lines = ["| | " + " | ".join(scores) + " |", "|---" * (len(scores) + 1) + "|"]
    for name, row in rows.items():
        cells = [_cell(row.get(score)) for score in scores]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _cell(value) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, int):
        return str(value)
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"
