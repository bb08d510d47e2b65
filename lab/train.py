"""Trains the lab's networks: python -m lab.train [NAME ...]

In this order: coders, judge, bases, and what is fine-tuned from these. On a GPU the bases and the judge may be trained
side by side, one process each. It prints how long each took. Weights land in lab/weights.
"""

import functools
import math
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from . import diffusion, drawings, judge, latents, lora, networks, storage, world

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DROPPED = 0.12  # share of images that a base sees without their name
DECAY = 0.999  # of the moving average of the weights
STEPS = {"autoencoder": 3000, "judge": 2500, "base": 12000, "lora": 2000, "control": 800}


def optimise(module: nn.Module, loss: Callable[[], Tensor], steps: int, rate: float) -> dict[str, Tensor]:
    """Minimise `loss` with AdamW, warm-up and cosine decay; return the moving average of the module's state."""
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    pace, memory = torch.tensor(rate, device=DEVICE), torch.tensor(0.0, device=DEVICE)
    optimiser = torch.optim.AdamW(weights, lr=pace, betas=(0.9, 0.99), capturable=DEVICE.type == "cuda")
    average = [weight.detach().clone() for weight in weights]

    def step() -> None:
        optimiser.zero_grad(set_to_none=False)
        loss().backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        for kept, weight in zip(average, weights, strict=True):
            kept.lerp_(weight.detach(), 1 - memory)

    act = step
    for number in range(steps):
        pace.fill_(rate * min((number + 1) / 200, 0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * number / steps))))
        memory.fill_(min((number + 1) / (number + 11), DECAY))
        if number == 10 and DEVICE.type == "cuda":
            act = recorded(step)
        act()
        if number % 500 == 0:
            print(f"  step {number} of {steps}: loss {loss().item():.4f}", flush=True)
    for kept, weight in zip(average, weights, strict=True):
        weight.data.copy_(kept)
    return module.state_dict()


def recorded(step: Callable[[], None]) -> Callable[[], None]:
    """Return a step as a CUDA graph: small networks wait for Python otherwise."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def images_of(sets, names, size: int) -> drawings.Drawings:
    return drawings.Drawings(drawings.load(), sets, world.labels(names), size, DEVICE)


def train_patches(seed: int) -> None:
    sets = (*world.SOURCE_SETS, *world.TARGET_SETS, *world.STYLES.values())
    coder = latents.PatchLatents()
    share = coder.fit(images_of(sets, world.NAMES, 64).draw(2000)[0].cpu())
    storage.save("patches", coder.state_dict(), variance=share)


def train_autoencoder(seed: int) -> None:
    images = images_of((*world.TARGET_SETS, *world.STYLES.values()), world.NAMES, 128)
    coder = latents.AutoEncoder().to(DEVICE)
    optimise(coder, lambda: coder.loss(images.draw(32)[0]), STEPS["autoencoder"], 1.5e-3)
    with torch.no_grad():
        coder.fit_scale(images.draw(256)[0])
    storage.save("autoencoder", coder.state_dict(), steps=STEPS["autoencoder"], batch=32, seed=seed)


def train_judge(seed: int) -> None:
    """Train on all sets but the one held back; a quarter of the images are of names that are none of the lab's."""
    sets = [name for name in world.SETS if name != world.HELD_BACK]
    drawn = drawings.load()
    known = drawings.Drawings(drawn, sets, range(judge.NONE), 64, DEVICE)
    others = drawings.Drawings(drawn, sets, range(judge.NONE, drawn.shape[1]), 64, DEVICE)
    looks = torch.zeros(len(sets), dtype=torch.long, device=DEVICE)
    for number, style in enumerate(world.STYLES.values(), start=1):
        looks[sets.index(style)] = number
    # As many images of each style as of all bases' sets.
    often = [index for index, name in enumerate(sets) for _ in range(2 if name in world.STYLES.values() else 1)]
    for each in (known, others):
        each.drawn = each.drawn[often]
    looks = looks[often]
    coder, network = storage.coder("patches").to(DEVICE), judge.Judge().to(DEVICE)

    def loss() -> Tensor:
        (a, named, first), (b, _, second) = known.draw(96), others.draw(32)
        images, styles = torch.cat([a, b]), looks[torch.cat([first, second])]
        encoded = coder.encode(images)
        seen = coder.decode(encoded + 0.1 * torch.randn_like(encoded))
        images = torch.where(torch.rand(len(images), 1, 1, 1, device=DEVICE) < 0.5, images, seen)
        return judge.loss(network, images, torch.cat([named, torch.full_like(second, judge.NONE)]), styles)

    optimise(network, loss, STEPS["judge"], 2e-3)
    storage.save("judge", network.state_dict(), steps=STEPS["judge"], batch=128, seed=seed)


def denoising(net: networks.UNet, images: drawings.Drawings, batch: int, dropped: float, control: bool = False):
    """Return the loss of a denoiser on a fresh batch of images. Timesteps are spread evenly over the batch."""
    coder = storage.coder(net.coder).to(DEVICE)
    low = 0.02  # of flow: nearly no noise

    def loss() -> Tensor:
        pictures, names, _ = images.draw(batch)
        with torch.no_grad():
            clean = coder.encode(pictures)
        names = torch.where(torch.rand(batch, device=DEVICE) < dropped, torch.full_like(names, -1), names)
        even = (torch.arange(batch, device=DEVICE) + torch.rand(batch, device=DEVICE)) / batch
        flow = net.prediction == "flow"
        t = (low + (1 - low) * even) * diffusion.STEPS if flow else even * (diffusion.STEPS - 1)
        context = networks.one_hot(names)
        if control:
            context = networks.with_map(context, networks.control_maps(pictures))
        return diffusion.training_loss(net, clean, context, t, torch.randn_like(clean))

    return loss


def train_base(name: str, seed: int) -> None:
    data, net = world.BASES[name], networks.NETS[name]().to(DEVICE)
    optimise(net, denoising(net, images_of(data.sets, data.names, net.size), 64, DROPPED), STEPS["base"], 1.2e-3)
    storage.save(name, net.state_dict(), steps=STEPS["base"], batch=64, seed=seed, sets=data.sets)


def train_style(base: str, style: str, rank: int, seed: int) -> None:
    """Train a LoRA of a base on one style's drawings of the names TRAINED: the adapter, and the targets' oracles."""
    net = lora.add(storage.base(base).to(DEVICE), rank)
    images = images_of((world.STYLES[style],), world.TRAINED, net.size)
    optimise(net, denoising(net, images, LORA_BATCH[base], DROPPED), STEPS["lora"], 2e-3)
    facts = {"rank": rank, "steps": STEPS["lora"], "batch": LORA_BATCH[base], "seed": seed, "set": world.STYLES[style]}
    storage.save(f"{base}_{style}", lora.parts(net), **facts)


def train_control(base: str, seed: int) -> None:
    """Train a control by silhouettes on the base's own drawings."""
    net, data = storage.base(base).to(DEVICE), world.BASES[base]
    net.control = networks.control_for(net).to(DEVICE)
    net.control.requires_grad_(True)
    loss = denoising(net, images_of(data.sets, data.names, net.size), 64, DROPPED, control=True)
    optimise(net, loss, STEPS["control"], 2e-3)
    storage.save(f"{base}_control", net.control.state_dict(), steps=STEPS["control"], batch=64, seed=seed)


LORA_BATCH = {"source": 64, "target": 64, "flow_target": 24}
# The ranks of the adapters (source) and of the oracles, which are the same training on the targets.
RANKS = {"source": 16, "target": 10, "flow_target": 10}
RECIPES: dict[str, Callable[[int], None]] = {
    "patches": train_patches,
    "autoencoder": train_autoencoder,
    "judge": train_judge,
    **{name: functools.partial(train_base, name) for name in world.BASES},
    **{
        f"{base}_{style}": functools.partial(train_style, base, style, rank)
        for base, rank in RANKS.items()
        for style in world.STYLES
    },
    **{f"{base}_control": functools.partial(train_control, base) for base in world.CONTROLLED},
}


def main(names: list[str]) -> None:
    for name in names or RECIPES:
        seed, start = list(RECIPES).index(name), time.time()
        torch.manual_seed(seed)
        print(name, flush=True)
        RECIPES[name](seed=seed)
        print(f"{name}: {time.time() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
