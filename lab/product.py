"""What sampling the product itself would give, measured: python -m lab.product

The method's prediction belongs to p_target * p_adapted / p_source at each noise level, but what Euler steps along it
reach is another distribution: a product of noisy densities is not the noisy density of a product.

as in the paper  Euler steps along the method's prediction
Langevin         the same, with steps of Langevin's dynamics at each noise level (Du et al. 2023, arXiv 2302.11552)
particles        several stochastic runs a picture, weighted towards the product and drawn anew at each step (Skreta et
                 al. 2025, Feynman-Kac correctors, arXiv 2503.02819). For three densities of powers 1, 1 and -1 the
                 logarithm of a weight grows by (D_target - D_source) . (D_adapted - D_source) / sigma^4 per sigma^2.
without the name as in the paper, the pair under the empty prompt
trust            as in the paper, with trust as it is by default

Prints a table in markdown and writes it to lab/product.md. It needs many times the calls of a plain run, except for
the last two: it is a bound for what better sampling could bring, not a way to sample.
"""

import argparse
import itertools
import pathlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from sampling.crossing import Crossing

from . import denoisers, diffusion
from .family import CFG, STEPS, Family
from .measures import GROUPS, Scores, table, with_closures
from .roles import CROSSINGS, levels, with_delta

RESULTS = pathlib.Path(__file__).parent / "product.md"
LANGEVIN = {"Langevin, 4 steps a level": 4, "Langevin, 16 steps a level": 16}
PARTICLES = {"particles, 1": 1, "particles, 8": 8}
PULL = 0.1  # of the way to the prediction that a Langevin step goes

Call = Callable[[Tensor, Tensor], Tensor]


def sampled(denoised: Call, x: Tensor, sigmas: Tensor, corrections: int = 0, seed: int = 9) -> Tensor:
    """Return clean latents: Euler steps, after `corrections` Langevin steps at each noise level but the first."""
    generator = torch.Generator().manual_seed(seed)
    for now, then in itertools.pairwise(sigmas):
        level = now.expand(len(x))
        for _ in range(corrections if now < sigmas[0] else 0):
            noise = torch.randn(x.shape, generator=generator)
            x = x + PULL * (denoised(x, level) - x) + (2 * PULL) ** 0.5 * now * noise
        clean = denoised(x, level)
        x = clean + (x - clean) * (then / now)
    return x


def with_particles(source: Call, adapted: Call, target: Call, x: Tensor, sigmas: Tensor, many: int, seed: int = 9):
    """Return clean latents, one of `many` weighted runs of each picture; x [pictures * many, C, H, W]."""
    generator = torch.Generator().manual_seed(seed)
    for now, then in itertools.pairwise(sigmas):
        level = now.expand(len(x))
        s, a, t = (call(x, level) for call in (source, adapted, target))
        clean, growth = t + (a - s), ((t - s) * (a - s)).flatten(1).sum(1) / now**4 * (now**2 - then**2)
        up = torch.minimum(then, (then**2 * (now**2 - then**2) / now**2).sqrt())
        down = (then**2 - up**2).sqrt()
        x = clean + (x - clean) * (down / now) + up * torch.randn(x.shape, generator=generator)
        chances = growth.view(-1, many).double().softmax(1)
        drawn = torch.multinomial(chances, many, replacement=True, generator=generator)
        x = x[(drawn + many * torch.arange(len(drawn))[:, None]).flatten()]
    return x[::many]


@torch.no_grad()
def measure(family: Family, classes: tuple, n: int, seed: int) -> dict[str, dict]:
    """Return rows of scores for one group of classes: way -> {score: number}."""
    nets, scores = family.nets_of("eps -> v"), Scores(family, classes, n)
    labels = np.resize(classes, n)
    context = denoisers.one_hot(torch.as_tensor(labels))
    sigmas = diffusion.schedule(nets["target"], STEPS)

    def asked(many: int = 1) -> dict[str, Call]:
        prompts = context.repeat_interleave(many, 0)
        return {role: diffusion.guided(net, prompts, CFG) for role, net in nets.items()}

    def start(many: int = 1) -> Tensor:
        noise = torch.randn(n * many, nets["target"].channels, 16, 16, generator=torch.Generator().manual_seed(seed))
        return diffusion.pure_noise(nets["target"], noise, sigmas[0])

    one = asked()
    unnamed = {role: diffusion.guided(nets[role], torch.zeros_like(context)) for role in ("source", "adapted")}

    def paper(calls: dict[str, Call]) -> Call:
        return lambda x, sigma: one["target"](x, sigma) + (calls["adapted"](x, sigma) - calls["source"](x, sigma))

    crossing = Crossing(levels(nets["target"]), (levels(nets["source"]), levels(nets["adapted"])))
    found = {
        "target": sampled(one["target"], start(), sigmas),
        "oracle": sampled(one["oracle"], start(), sigmas),
        "as in the paper": sampled(paper(one), start(), sigmas),
        "without the name": sampled(paper(one | unnamed), start(), sigmas),
        "trust": sampled(with_delta(crossing, one["source"], one["adapted"], one["target"]), start(), sigmas),
    }
    for name, corrections in LANGEVIN.items():
        found[name] = sampled(paper(one), start(), sigmas, corrections)
    for name, many in PARTICLES.items():
        calls = asked(many)
        found[name] = with_particles(*(calls[k] for k in ("source", "adapted", "target")), start(many), sigmas, many)
    rows = {way: scores.of(family.pictures(latents, nets["target"]), labels) for way, latents in found.items()}
    return {way: row for way, row in with_closures(rows).items() if way not in ("target", "oracle")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=24, help="pictures per row")
    parser.add_argument("--seed", type=int, default=5)
    arguments = parser.parse_args()
    family = Family()
    how = (
        f"{arguments.samples} samples per row, {STEPS} Karras steps, guidance {CFG}, strength 1, seed {arguments.seed}"
    )
    lines = [f"`python -m lab.product`: eps -> v, {how}.", ""]
    for classes in CROSSINGS["eps -> v"].groups:
        rows = table(measure(family, classes, arguments.samples, arguments.seed))
        lines += [f"**{GROUPS[classes]}**", "", *rows, ""]
        print("\n".join(lines[-len(rows) - 3 :]), flush=True)
    RESULTS.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
