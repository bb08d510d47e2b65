"""The pictures of the shipped workflows in ComfyUI's template browser: python -m harness lab.thumbnails [NUMBER ...]

Each shows what its workflow's use does to the lab's models, sampled in ComfyUI. Where the lab has no such adapter, the
picture is that of a style LoRA, and says so.
"""

import sys
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from harness.host import REPOSITORY
from harness.nodes import run_node

from . import networks, world
from .runs import Runs, bridges, conditioning, decoded, drawn, encoded, option

FOLDER = REPOSITORY / "example_workflows"
SIDE, WORDS, QUALITY = 384, 72, 65  # the words are below: the browser puts a badge over the top
NAMES = ["mushroom", "crown", "rocket", "umbrella", "cherries", "anchor"]
WITHOUT, WITH = "target", "target + delta"
INK, OUTLINE = "source_ink", "source_outline"
FLOW = "flow_target"

# Captions and what stands over each: images [n, 3, H, W] in -1..1.
Panels = dict[str, Tensor]


def pair(lab: Runs, adapted: str = INK, strength: float = 1.0, **how):
    return lab.pair(NAMES, adapted, strength=strength, **how)


def run(lab: Runs, target: str = "target", *deltas, seed: int = 1, names=NAMES, **how) -> Tensor:
    return lab.sample(target, names, seed, deltas, **how)


def both(lab: Runs, target: str, adapted: str, seed: int, way: str = "both autoencoders") -> Panels:
    """Return the target without and with a delta, over a bridge where it needs one."""
    delta = bridges()[way](pair(lab, adapted)) if target == FLOW else pair(lab, adapted)
    return {WITHOUT: run(lab, target, seed=seed), WITH: run(lab, target, delta, seed=seed)}


def three(lab: Runs, target: str, adapted: str, seed: int) -> Panels:
    return {"old + LoRA": run(lab, adapted, seed=seed)} | both(lab, target, adapted, seed)


def over(*ways: str) -> Callable[[Runs], Panels]:
    def panels(lab: Runs) -> Panels:
        made = {way.split()[-1]: run(lab, FLOW, bridges()[way](pair(lab)), seed=3) for way in ways}
        return {WITHOUT: run(lab, FLOW, seed=3)} | made

    return panels


def strengths(lab: Runs) -> Panels:
    bridge = bridges()["both autoencoders"]
    return {f"{k:g}": run(lab, FLOW, bridge(pair(lab, OUTLINE, k)), seed=14) for k in (0.0, 0.5, 1.0)}


def control(lab: Runs) -> Panels:
    images = drawn(NAMES, seed=3)
    delta = pair(lab, "source_control", wanted=networks.control_maps(images))
    shown = {"to follow": networks.silhouette(images).expand(-1, 3, -1, -1) * 2 - 1}
    return shown | {WITHOUT: run(lab, seed=5), WITH: run(lab, "target", delta, seed=5)}


def by_words(first: str, second: str, *strengths: float) -> Callable[[Runs], Panels]:
    def panels(lab: Runs) -> Panels:
        names, said = [first] * len(NAMES), [second] * len(NAMES)
        deltas = {k: lab.pair(names, "source", strength=k, said=said) for k in strengths}
        return {f"{k:g}": run(lab, "target", delta, names=names, seed=3) for k, delta in deltas.items()}

    return panels


def masked(lab: Runs) -> Panels:
    left = torch.zeros(1, 64, 64)
    left[:, :, :32] = 1
    ink, outline = (option("DeltaMask", mask=m)(pair(lab, a)) for a, m in ((INK, left), (OUTLINE, 1 - left)))
    return {WITHOUT: run(lab), "left": run(lab, "target", ink), "left and right": run(lab, "target", ink, outline)}


def cost(lab: Runs) -> Panels:
    panels = {}
    for name, change in {"every step": lambda delta: delta, "Delta Fast": option("DeltaFast")}.items():
        images = run(lab, "target", change(pair(lab, OUTLINE)))
        panels[f"{name}: {lab.rows / (2 * world.STEPS):.1f}"] = images
    return panels


def new_on_old(lab: Runs) -> Panels:
    delta = pair(lab, "target_outline", source="target")
    return {"source": run(lab, "source", seed=7), "source + delta": run(lab, "source", delta, seed=7)}


def spaces(lab: Runs) -> Panels:
    images = run(lab, FLOW, seed=3)
    small = decoded("source", encoded("source", F.avg_pool2d(images, 2)))
    return {"its own latents": images, "the source's": small}


def autoguided(lab: Runs) -> Panels:
    roles = {"weak_model": lab.model("source"), "positive": conditioning(NAMES)}
    weak = run_node("DeltaAutoguidance", **roles, negative=conditioning([""] * len(NAMES)), cfg=world.CFG, strength=0.5)
    return {WITHOUT: run(lab, seed=4), "autoguided": run(lab, "target", weak, seed=4)}


def windows(lab: Runs) -> Panels:
    ends = {"first half": {"end_percent": 0.5}, "second half": {"start_percent": 0.5}, "all": {}}
    made = {name: option("DeltaSchedule", **window)(pair(lab)) for name, window in ends.items()}
    return {name: run(lab, "target", delta, seed=6) for name, delta in made.items()}


def few_steps(lab: Runs) -> Panels:
    return {f"{steps} steps": run(lab, "target", pair(lab, OUTLINE), seed=5, steps=steps) for steps in (4, 8, 20)}


def colored(lab: Runs) -> Panels:
    images = run(lab, "target", seed=40, names=["grapes"] * len(NAMES))
    guided = run_node("DeltaColorGuidance", model=lab.model("target"), reference=images.movedim(1, -1) / 2 + 0.5)
    delta = pair(lab, OUTLINE)
    plain, colors = run(lab, "target", delta, seed=20), lab.sample("target", NAMES, 20, [delta], model=guided)
    return {"colors": images, WITH: plain, "guided": colors}


LORA, IN_ITS_PLACE = "a LoRA, from an old model to a new one", "a style LoRA, in its place"
# In the order of the workflows: the line below, what makes the panels.
PICTURES: list[tuple[str, Callable[[Runs], Panels]]] = [
    ("a LoRA on a model of twice the size", lambda lab: three(lab, FLOW, OUTLINE, 12)),
    ("a LoRA, to other latents", lambda lab: both(lab, FLOW, INK, 13)),
    ("a LoRA, from noise to flow", lambda lab: three(lab, FLOW, INK, 15)),
    ("strength of a LoRA's delta", strengths),
    ("the delta of a ControlNet", control),
    (LORA, lambda lab: both(lab, "target", OUTLINE, 7)),
    ("a LoRA, and the bridge between the latents", over("preview colors", "both autoencoders")),
    ("from lemon to mushroom, by words", by_words("lemon", "mushroom", 0.0, 1.0)),
    ("where two deltas act", masked),
    ("the cost beside the plain target", cost),
    ("strength, from lemon to mushroom", by_words("lemon", "mushroom", 0.4, 0.7, 1.0)),
    (IN_ITS_PLACE, lambda lab: three(lab, "target", INK, 16)),
    ("one more word: bell to crown", by_words("bell", "crown", 0.0, 1.0)),
    ("a LoRA, latents of one kind", lambda lab: three(lab, "target", OUTLINE, 18)),
    ("a LoRA, from new to old", new_on_old),
    ("one image in two latent spaces", spaces),
    ("a LoRA, over two bridges", over("preview colors", "fitted")),
    ("away from a smaller model", autoguided),
    ("when a delta acts", windows),
    ("a LoRA, in few steps and in many", few_steps),
    ("a LoRA, in the colors of other images", colored),
]


def draw(line: str, panels: Panels) -> Image.Image:
    """Return the panels side by side, each a block of images, with their captions, and the line below."""
    sheet = Image.new("RGB", (SIDE, SIDE), "white")
    pen, width, columns = ImageDraw.Draw(sheet), SIDE // len(panels), 2 if len(panels) == 2 else 1
    cell = width // columns
    rows = (SIDE - WORDS) // cell

    def write(x: float, y: float, words: str, size: int, color: str = "black") -> None:
        pen.text((x, y), words, color, ImageFont.load_default(size), anchor="mm")

    for place, (caption, images) in enumerate(panels.items()):
        pixels = ((images + 1) * 127.5).round().clamp(0, 255).byte().movedim(1, -1).cpu().numpy()
        for number, image in enumerate(np.resize(pixels, (max(len(pixels), rows * columns), *pixels.shape[1:]))):
            if number < rows * columns:
                where = place * width + number % columns * cell, number // columns * cell
                sheet.paste(Image.fromarray(image).resize((cell, cell), Image.Resampling.BICUBIC), where)
        write((place + 0.5) * width, SIDE - WORDS + 14, caption, 17)
        if place:
            pen.line((place * width, 0, place * width, SIDE - WORDS), "white", 6)
    write(SIDE / 2, SIDE - 22, line, 19, "dimgray")
    return sheet


@torch.inference_mode()
def main(numbers: list[int]) -> None:
    lab, workflows = Runs(), sorted(FOLDER.glob("*.json"))
    for number, (path, (line, panels)) in enumerate(zip(workflows, PICTURES, strict=True), start=1):
        if not numbers or number in numbers:
            draw(line, panels(lab)).save(path.with_suffix(".jpg"), quality=QUALITY)


if __name__ == "__main__":
    main([int(number) for number in sys.argv[1:]])
