"""The pictures of the shipped workflows in ComfyUI's template browser: python -m harness lab.thumbnails [NUMBER ...]

Each shows what its workflow's use does to the lab's trained models, sampled in ComfyUI. Where the lab
has no such adapter, the picture is that of a style fine-tune, and says so.
"""

import sys
from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch.nn import functional

from harness.host import REPOSITORY
from harness.nodes import option, run_node

from . import adapters, autoencoder, lifted, shapes
from .family import CFG, STEPS
from .proof.methods import APART, ROLES
from .proof.runs import Runs, chained, conditioning, late_sigmas, over_a_bridge, pair, ways_apart
from .roles import fitted_bridge

FOLDER = REPOSITORY / "example_workflows"
SIDE, WORDS = 384, 72  # the words are below: the browser puts a badge over the top
QUALITY = 80
LABELS = np.array([0, 3, 1, 2, 3, 0])
CIRCLES, STARS = np.full(len(LABELS), 0), np.full(len(LABELS), 3)
SQUARES, TRIANGLES = np.full(len(LABELS), 1), np.full(len(LABELS), 2)
DENOISE = 0.7
LARGE = ROLES[APART].target
WITHOUT, WITH = "target", "target + delta"

# Captions and what stands over each: pictures [n, H, W, 3], or one [H, W, 3] that fills the place.
Panels = dict[str, np.ndarray]


class Sampler:
    """The family in ComfyUI: pictures [n, H, W, 3] of a network, with deltas or without."""

    def __init__(self):
        self.runs = Runs()
        self.nothing = conditioning(np.full(len(LABELS), shapes.UNNAMED))

    def pair(self, source="source", adapted="adapted", strength=1.0, names=(LABELS, LABELS)):
        """Return the delta of two networks, each prompted with its class names."""
        models = (self.runs.model(source), self.runs.model(adapted))
        roles = ((model, conditioning(said), self.nothing) for model, said in zip(models, names, strict=True))
        return pair(*roles, strength=strength)

    def words(self, source, adapted, strength=1.0):
        """Return the delta of the source prompted with two kinds of names."""
        return self.pair(adapted="source", names=(source, adapted), strength=strength)

    def run(self, delta=(), target="target", said=LABELS, seed=1, **how) -> np.ndarray:
        made = self.runs.sample(target, said, seed, delta, **how)
        return autoencoder.to_pictures(self.runs.pictures(target, made))

    def both(self, delta, **run) -> Panels:
        return {WITHOUT: self.run(**run), WITH: self.run(delta, **run)}

    @cached_property
    def apart(self) -> dict[str, Callable]:
        """Return the ways to a target with an autoencoder of its own, for a pair of half the size."""
        return ways_apart(self.runs, "source", LARGE)


def option_of(name: str, **settings) -> Callable:
    return lambda delta: option(name, delta, **settings)


def lora_apart(lab: Sampler) -> Panels:
    delta = lab.apart["nothing wired"](lab.pair(adapted="source_lora"))
    alone = {"old + LoRA": lab.run(target="source_lora", seed=12)}
    return alone | lab.both(delta, target=LARGE, seed=12)


def tiny(lab: Sampler) -> Panels:
    ways = {"by itself": "nothing wired", "with tiny ones": "both autoencoders"}
    deltas = {caption: lab.apart[way](lab.pair(adapted="source_lora")) for caption, way in ways.items()}
    return {WITHOUT: lab.run(target=LARGE, seed=3)} | {
        caption: lab.run(delta, target=LARGE, seed=3) for caption, delta in deltas.items()
    }


def strengths(lab: Sampler) -> Panels:
    return {
        f"{k:g}": lab.run(lab.pair(adapted="source_lora", strength=k), target="flow_target", seed=14)
        for k in (0.0, 0.5, 1.0)
    }


def to_flow(lab: Sampler, seed: int) -> Panels:
    return lab.both(lab.pair(adapted="source_lora"), target="flow_target", seed=seed)


def three(lab: Sampler) -> Panels:
    return {"old + LoRA": lab.run(target="source_lora", seed=15)} | to_flow(lab, 15)


def control(lab: Sampler) -> Panels:
    drawn = autoencoder.to_model(shapes.draw(np.random.default_rng(3), LABELS, "base"))
    wanted = adapters.silhouette(drawn)
    maps = functional.avg_pool2d(wanted, autoencoder.FACTOR)
    delta = lab.runs.pair("source", "source_control", LABELS, wanted=maps)
    return {"to follow": autoencoder.to_pictures(wanted.expand(-1, 3, -1, -1) * 2 - 1)} | lab.both(delta, seed=5)


def masked(lab: Sampler) -> Panels:
    left = torch.zeros(1, 64, 64)
    left[:, :, :32] = 1
    masks = {"nowhere": 0 * left, "left half": left, "right half": 1 - left}
    return {place: lab.run(option("DeltaMask", lab.pair(), mask=mask)) for place, mask in masks.items()}


def fast(lab: Sampler) -> Panels:
    delta = lab.pair(adapted="source_lora")
    return {
        "full: 3 times": lab.run(delta),
        "Delta Fast: 1.2": lab.run(option("DeltaFast", delta, pair_guidance="auto")),
    }


def slider(lab: Sampler) -> Panels:
    return {f"{k:g}": lab.run(lab.words(CIRCLES, STARS, k), said=STARS, seed=3) for k in (-1.0, 0.0, 1.0)}


def reference(lab: Sampler) -> Panels:
    return {"adapted": lab.run(target="adapted", seed=16)} | lab.both(lab.pair(), target="scaled_target", seed=16)


def alike(lab: Sampler) -> Panels:
    return {"adapted": lab.run(target="adapted", seed=18)} | lab.both(lab.pair(), target="sibling", seed=18)


def second_pass(lab: Sampler) -> Panels:
    """The old model's pictures, and the same redone by it with the new pair's delta."""
    first = lab.runs.sample("source", LABELS, 17)
    late = late_sigmas(lab.runs.net("source"), STEPS, DENOISE)
    delta = lab.pair("target", "oracle")
    second = lab.runs.sample("source", LABELS, 117, delta, start=first.latents, sigmas=late)
    shown = {"first pass": first, "second pass": second}
    return {name: autoencoder.to_pictures(lab.runs.pictures("source", made)) for name, made in shown.items()}


def spaces(lab: Sampler) -> Panels:
    """Pictures in the 16 channels of the flow networks, and the same where a fitted bridge leads."""
    family = lab.runs.family
    source, target = family.nets["source"], family.nets["flow_target"]
    drawn = autoencoder.to_model(shapes.draw(np.random.default_rng(5), LABELS, "wild"))
    latents = lifted.lift(family.coder.encode(drawn))
    across = fitted_bridge(family.coder, source, target).to_source(latents)
    shown = {"16 channels": family.pictures(latents, target), "bridged to 4": family.pictures(across, source)}
    return {caption: autoencoder.to_pictures(pictures) for caption, pictures in shown.items()}


def fitted(lab: Sampler) -> Panels:
    delta = lab.pair(adapted="source_lora")
    bridge = over_a_bridge(lab.runs, "source", "flow_target")
    return {
        WITHOUT: lab.run(target="flow_target", seed=19),
        "found": lab.run(delta, target="flow_target", seed=19),
        "fitted": lab.run(bridge(delta), target="flow_target", seed=19),
    }


def autoguided(lab: Sampler) -> Panels:
    roles = {"weak_model": lab.runs.model("source"), "positive": conditioning(LABELS), "negative": lab.nothing}
    weak = run_node("DeltaAutoguidance", **roles, cfg=CFG, strength=0.5)
    return {"target": lab.run(seed=4), "autoguided": lab.run(weak, seed=4)}


def reported(lab: Sampler) -> Panels:
    changes = (
        option_of("DeltaSchedule", end_percent=0.8),
        option_of("DeltaLimits", parallel=0.5),
        option_of("DeltaReuse", every=2),
    )
    delta = chained(*changes)(lab.pair(adapted="source_lora"))
    lab.run(delta)
    drawn = run_node("DeltaReport", delta=delta, samples={})[0].numpy()
    # The size at each step is the first of the report's three charts.
    return {"": (drawn[:, : drawn.shape[1] * 3 // 8] * 255).astype(np.uint8)}


def few_steps(lab: Sampler) -> Panels:
    delta = lab.runs.pair("source", "source_few_steps", LABELS, cfg=1.0)
    return {
        "4 steps": lab.run(seed=5, steps=4),
        "4, with delta": lab.run(delta, seed=5, steps=4, sampler="lcm"),
        "24 steps": lab.run(seed=5),
    }


def coloured(lab: Sampler) -> Panels:
    drawn = shapes.draw(np.random.default_rng(3), LABELS, "wild")
    images = torch.from_numpy(drawn).float() / 255
    guided = run_node("DeltaColorGuidance", model=lab.runs.model("target"), reference=images)
    delta = lab.pair(adapted="source_lora")
    return {"colours": drawn, WITH: lab.run(delta, seed=20), "guided": lab.run(delta, seed=20, model=guided)}


STYLE = "a style fine-tune, in its place"
# In the order of the workflows: the line below, what makes the panels.
PICTURES: list[tuple[str, Callable[[Sampler], Panels]]] = [
    ("a LoRA on a model of twice the size", lora_apart),
    ("a LoRA, from 4 channels to 16", lambda lab: to_flow(lab, 13)),
    ("strength of a LoRA's delta", strengths),
    ("a LoRA, from noise to flow", three),
    ("the delta of a ControlNet", control),
    ("a fine-tune on a newer model", lambda lab: lab.both(lab.pair(), seed=7)),
    ("a LoRA, and the way between the latents", tiny),
    ("from circle to star, by words", lambda lab: lab.both(lab.words(CIRCLES, STARS), said=CIRCLES)),
    ("where a delta acts", masked),
    ("the cost beside the plain target", fast),
    ("strength, from circle to star", slider),
    (STYLE, reference),
    ("one more word: square to triangle", lambda lab: lab.both(lab.words(SQUARES, TRIANGLES), said=SQUARES, seed=6)),
    ("a fine-tune, latents of one kind", alike),
    ("a fine-tune, from new to old", second_pass),
    ("one picture in two latent spaces", spaces),
    ("a LoRA, over two bridges", fitted),
    ("away from a smaller model", autoguided),
    ("what the delta did, step by step", reported),
    ("few steps: expect little", few_steps),
    ("a LoRA, in the colours of other pictures", coloured),
]


def draw(line: str, panels: Panels) -> Image.Image:
    """Return the panels side by side, each a block of pictures, with their captions, and the line below."""
    sheet = Image.new("RGB", (SIDE, SIDE), "white")
    pen, width, columns = ImageDraw.Draw(sheet), SIDE // len(panels), 2 if len(panels) == 2 else 1
    cell = width // columns
    rows = (SIDE - WORDS) // cell
    top = (SIDE - WORDS - rows * cell) // 2

    def write(x, y, words, size, colour="black"):
        pen.text((x, y), words, colour, ImageFont.load_default(size), anchor="mm")

    for place, (caption, pictures) in enumerate(panels.items()):
        if pictures.ndim == 3:
            shown = Image.fromarray(pictures)
            shown.thumbnail((width, SIDE - WORDS), Image.Resampling.LANCZOS)
            sheet.paste(shown, (place * width, (SIDE - WORDS - shown.height) // 2))
            continue
        for number, picture in enumerate(pictures[: rows * columns]):
            where = place * width + number % columns * cell, top + number // columns * cell
            sheet.paste(Image.fromarray(picture).resize((cell, cell), Image.Resampling.BICUBIC), where)
        write((place + 0.5) * width, SIDE - WORDS + 14, caption, 19)
        if place:
            pen.line((place * width, 0, place * width, SIDE - WORDS), "white", 6)
    write(SIDE / 2, SIDE - 22, line, 19, "dimgray")
    return sheet


def main(numbers: list[int]) -> None:
    torch.set_num_threads(1)
    lab, workflows = Sampler(), sorted(FOLDER.glob("*.json"))
    with torch.inference_mode():
        for number, (path, (line, panels)) in enumerate(zip(workflows, PICTURES, strict=True), start=1):
            if not numbers or number in numbers:
                draw(line, panels(lab)).save(path.with_suffix(".jpg"), quality=QUALITY)


if __name__ == "__main__":
    main([int(number) for number in sys.argv[1:]])
