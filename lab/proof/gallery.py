"""What goes wrong, as pictures: python -m harness lab.proof.gallery"""

from collections.abc import Callable

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

from lab import autoencoder, shapes

from .methods import SMALL, delta_methods, strong
from .results import FOLDER
from .runs import Runs, chained, option

SEEN, UNSEEN = np.resize(shapes.SEEN, 4), np.resize(shapes.UNSEEN, 4)
SEED = 5


def rows(runs: Runs) -> dict[str, dict[str, Tensor]]:
    """Return title -> {what: pictures}."""

    def made(network: str, labels, delta=(), **how) -> Tensor:
        return runs.pictures(network, runs.sample(network, labels, SEED, delta, **how))

    def styled(labels, *changes: Callable, source="source", adapted="adapted", **how) -> Tensor:
        return made("target", labels, chained(*changes)(runs.pair(source, adapted, labels)), **how)

    small = delta_methods(runs, SMALL)["delta"]
    few = runs.pair("source", "source_few_steps", SEEN, cfg=1.0)

    def strength(value: float) -> Callable:
        return lambda delta: strong(delta, value)

    return {
        "names that the source\ndoes not know": {
            "target": made("target", UNSEEN), "adapted alone": made("adapted", UNSEEN), "delta": styled(UNSEEN),
            "oracle": made("oracle", UNSEEN),
        },
        "a pair of half the size": {
            "target": made("target", SEEN), "adapted alone": made("small_adapted", SEEN, size=8),
            "delta": styled(SEEN, small, source="small_source", adapted="small_adapted"),
            "strength 1.5": styled(SEEN, small, strength(1.5), source="small_source", adapted="small_adapted"),
            "oracle": made("oracle", SEEN),
        },
        "too much": {
            "target": made("target", SEEN), "strength 1": styled(SEEN), "strength 2": styled(SEEN, strength(2.0)),
            "strength 4": styled(SEEN, strength(4.0)),
            "strength 4, parallel 0": styled(SEEN, strength(4.0), option("DeltaLimits", parallel=0.0)),
        },
        "below zero": {
            "target": made("target", SEEN), "strength -0.5": styled(SEEN, strength(-0.5)),
            "strength -1": styled(SEEN, strength(-1.0)), "strength -2": styled(SEEN, strength(-2.0)),
        },
        "a few-step LoRA,\n4 steps": {
            "target, 4 steps": made("target", SEEN, steps=4),
            "adapted alone, lcm": made("source_few_steps", SEEN, steps=4, sampler="lcm"),
            "delta, lcm": made("target", SEEN, few, steps=4, sampler="lcm"),
            "delta, euler": made("target", SEEN, few, steps=4), "target, 24 steps": made("target", SEEN),
        },
    }  # fmt: skip


def draw(found: dict[str, dict[str, Tensor]]) -> None:
    columns = max(map(len, found.values()))
    figure, axes = plt.subplots(len(found), columns, figsize=(3.1 * columns, 1.25 * len(found)), layout="constrained")
    for line, (title, pictures) in zip(axes, found.items(), strict=True):
        for axis in line:
            axis.axis("off")
        for axis, (name, drawn) in zip(line, pictures.items(), strict=False):
            axis.imshow(np.concatenate(list(autoencoder.to_pictures(drawn)), 1))
            axis.set_title(name, fontsize=9)
        line[0].text(-0.04, 0.5, title, transform=line[0].transAxes, ha="right", va="center", fontsize=10)
    figure.savefig(FOLDER / "gallery.png", dpi=90)
    plt.close(figure)


def main() -> None:
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    with torch.inference_mode():
        draw(rows(Runs()))


if __name__ == "__main__":
    main()
