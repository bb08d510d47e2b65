"""What sampling the product itself would give, measured: python -m lab.product

The method's prediction belongs to p_target * p_adapted / p_source at each noise level, but what Euler steps along it
reach is another distribution: a product of noisy densities is not the noisy density of a product.

Euler            Euler steps along the method's prediction
Langevin         the same, with steps of Langevin's dynamics at each noise level (Du et al. 2023, arXiv 2302.11552)
particles        several stochastic runs a picture, weighted towards the product and drawn anew at each step (Skreta et
                 al. 2025, Feynman-Kac correctors, arXiv 2503.02819). For three densities of powers 1, 1 and -1 the
                 logarithm of a weight grows by (D_target - D_source) . (D_adapted - D_source) / sigma^4 per sigma^2.
without the name Euler steps, the pair under the empty prompt

Prints a table in markdown and writes it to lab/product.md. It needs many times the calls of a plain run, except for
the last: it tells what better sampling could bring, and is no way to sample. Of so many numbers as a picture has,
eight particles are few; Langevin's steps come nearer.
"""

import argparse
import itertools
import pathlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from . import denoisers, diffusion
from .family import CFG, FIRST, STEPS, Family
from .measures import GROUPS, Scores, table, with_closures
from .roles import CROSSINGS

RESULTS = pathlib.Path(__file__).parent / "product.md"
LANGEVIN = {"Langevin, 4 steps a level": 4, "Langevin, 16 steps a level": 16}
PARTICLES = {"particles, 1": 1, "particles, 8": 8}
PULL = 0.1  # of the way to the prediction that a Langevin step goes

Call = Callable[[Tensor, Tensor], Tensor]


def with_langevin(denoised: Call, x: Tensor, sigmas: Tensor, corrections: int, seed: int = 9) -> Tensor:
    """Return clean latents: Euler steps, after `corrections` Langevin steps at each noise level but the first."""
    generator = torch.Generator().manual_seed(seed)
    for now, then in itertools.pairwise(sigmas):
        for _ in range(corrections if now < sigmas[0] else 0):
            noise = torch.randn(x.shape, generator=generator)
            x = x + PULL * (denoised(x, now.expand(len(x))) - x) + (2 * PULL) ** 0.5 * now * noise
        x = diffusion.sample_euler(denoised, x, torch.stack([now, then]))
    return x


def with_particles(
    source: Call, adapted: Call, target: Call, x: Tensor, sigmas: Tensor, many: int, seed: int = 9
) -> Tensor:
    """Return clean latents, one of `many` weighted runs of each picture; x [pictures * many, C, H, W]."""
    generator = torch.Generator().manual_seed(seed)
    for now, then in itertools.pairwise(sigmas):
        level = now.expand(len(x))
        s, a, t = (call(x, level) for call in (source, adapted, target))
        clean, growth = t + (a - s), ((t - s) * (a - s)).flatten(1).sum(1) / now**4 * (now**2 - then**2)
        down, up = diffusion.ancestral_step(now, then)
        x = clean + (x - clean) * (down / now) + up * torch.randn(x.shape, generator=generator)
        chances = growth.view(-1, many).double().softmax(1)
        drawn = torch.multinomial(chances, many, replacement=True, generator=generator)
        x = x[(drawn + many * torch.arange(len(drawn))[:, None]).flatten()]
    return x[::many]


@torch.no_grad()
def measure(family: Family, classes: tuple, n: int, seed: int) -> dict[str, dict]:
    """Return rows of scores for one group of classes: way -> {score: number}."""
    nets, scores = family.nets_of(FIRST), Scores(family, classes, n)
    labels = np.resize(classes, n)
    context = denoisers.one_hot(torch.as_tensor(labels))
    sigmas = diffusion.schedule(nets["target"], STEPS)

    def asked(prompts: Tensor) -> list[Call]:
        return [diffusion.guided(nets[role], prompts, CFG) for role in ("source", "adapted", "target")]

    def start(many: int = 1) -> Tensor:
        noise = torch.randn(n * many, nets["target"].channels, 16, 16, generator=torch.Generator().manual_seed(seed))
        return diffusion.pure_noise(nets["target"], noise, sigmas[0])

    def paper(source: Call, adapted: Call, target: Call) -> Call:
        return lambda x, sigma: target(x, sigma) + (adapted(x, sigma) - source(x, sigma))

    source, adapted, target = asked(context)
    unnamed = asked(torch.zeros_like(context))[:2]
    latents = {
        "Euler": diffusion.sample_euler(paper(source, adapted, target), start(), sigmas),
        "without the name": diffusion.sample_euler(paper(*unnamed, target), start(), sigmas),
    }
    for name, corrections in LANGEVIN.items():
        latents[name] = with_langevin(paper(source, adapted, target), start(), sigmas, corrections)
    for name, many in PARTICLES.items():
        latents[name] = with_particles(*asked(context.repeat_interleave(many, 0)), start(many), sigmas, many)
    pictures = {column: family.sample(column, labels, seed) for column in ("target", "oracle")}
    pictures |= {way: family.pictures(found, nets["target"]) for way, found in latents.items()}
    rows = with_closures({way: scores.of(found, labels) for way, found in pictures.items()})
    return {way: row for way, row in rows.items() if way not in ("target", "oracle")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=24, help="pictures per row")
    parser.add_argument("--seed", type=int, default=5)
    arguments = parser.parse_args()
    family = Family()
    how = (
        f"{arguments.samples} samples per row, {STEPS} Karras steps, guidance {CFG}, strength 1, seed {arguments.seed}"
    )
    lines = [f"`python -m lab.product`: {FIRST}, {how}.", ""]
    for classes in CROSSINGS[FIRST].groups:
        rows = table(measure(family, classes, arguments.samples, arguments.seed))
        lines += [f"**{GROUPS[classes]}**", "", *rows, ""]
        print("\n".join(lines[-len(rows) - 3 :]), flush=True)
    RESULTS.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
