"""The pictures of the shipped workflows in ComfyUI's template browser: python -m harness lab.thumbnails

Each shows what its workflow's use does to the lab's trained models, sampled in ComfyUI. Where the lab
has no such adapter, the picture is that of a style fine-tune, and says so.
"""

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from harness.host import REPOSITORY
from harness.nodes import option, run_node

from . import autoencoder, lifted, shapes
from .family import CFG, SAME_DETAIL, Family
from .proof.runs import Runs, conditioning, pair
from .roles import fitted_bridge

FOLDER = REPOSITORY / "example_workflows"
SIDE, WORDS = 384, 96  # the words are below: the browser puts a badge over the top
LABELS = np.array([0, 3, 1, 2, 3, 0])
CIRCLES, STARS = np.full(len(LABELS), 0), np.full(len(LABELS), 3)
WITHOUT, WITH = "target", "target + delta"
STYLE = "lab picture: a style fine-tune"
# Uses that differ from a fine-tune in nothing that the lab could show: workflow -> title, the line below.
LIKE_A_FINE_TUNE = {
    "checkpoint_fine_tune": ("A fine-tune", "the delta of a style fine-tune"),
    "lora": ("A LoRA", STYLE),
    "lycoris": ("A LyCORIS", STYLE),
    "controlnet": ("A ControlNet", STYLE),
    "reference_picture_ip_adapter": ("A reference picture", STYLE),
    "textual_inversion": ("A textual inversion", STYLE),
    "sd3_to_sd35": ("SD3 to SD3.5", STYLE),
    "lcm_lora": ("LCM-LoRA: expect little", STYLE + ", no LCM"),
}


class Sampler:
    """The family in ComfyUI: pictures [n, 64, 64, 3] of a network, with deltas or without."""

    def __init__(self):
        self.runs = Runs()
        self.nothing = conditioning(np.full(len(LABELS), shapes.UNNAMED))

    def pair(self, source="source", adapted="adapted", strength=1.0, names=(LABELS, LABELS)):
        """Return the delta of two networks, each prompted with its class names."""
        models = (self.runs.model(source), self.runs.model(adapted))
        roles = ((model, conditioning(said), self.nothing) for model, said in zip(models, names, strict=True))
        return pair(*roles, strength=strength)

    def run(self, delta=(), target="target", said=LABELS, seed=1) -> np.ndarray:
        made = self.runs.sample(target, said, seed, delta)
        return autoencoder.to_pictures(self.runs.pictures(target, made))

    def both(self, delta, **run) -> dict[str, np.ndarray]:
        return {WITHOUT: self.run(**run), WITH: self.run(delta, **run)}


def fitted(family: Family) -> dict[str, np.ndarray]:
    """Pictures in the 16 channels of the flow networks, and the same where a fitted bridge leads."""
    source, target = family.nets["source"], family.nets["flow_target"]
    drawn = autoencoder.to_model(shapes.draw(np.random.default_rng(5), LABELS, "wild"))
    latents = lifted.lift(family.coder.encode(drawn))
    across = fitted_bridge(family.coder, source, target).clean_to_source(latents)
    shown = {"16 channels": family.pictures(latents, target), "bridged to 4": family.pictures(across, source)}
    return {caption: autoencoder.to_pictures(pictures) for caption, pictures in shown.items()}


def bridged(family: Family) -> dict[str, np.ndarray]:
    where = {"crossing": "eps, 4 channels -> flow, 16 channels"}
    made = {WITHOUT: family.sample("target", LABELS, 1, **where), WITH: family.sample(SAME_DETAIL, LABELS, 1, **where)}
    return {caption: autoencoder.to_pictures(pictures) for caption, pictures in made.items()}


def thumbnails(lab: Sampler):
    """Yield workflow, title, the line below, {caption: pictures}."""
    for seed, (name, words) in enumerate(LIKE_A_FINE_TUNE.items(), start=10):
        yield name, *words, lab.both(lab.pair(), seed=seed)
    names = {"adapted": "source", "names": (CIRCLES, STARS)}
    by_words = lab.both(lab.pair(**names), said=CIRCLES)
    yield "prompt_only", "Prompts alone", "the delta from circle to star, two words", by_words
    slid = {f"{k:g}": lab.run(lab.pair(strength=k, **names), said=STARS, seed=3) for k in (-1.0, 0.0, 1.0)}
    yield "concept_slider", "A slider", "strength of the delta from circle to star", slid
    left = torch.zeros(1, 64, 64)
    left[:, :, :32] = 1
    masks = {"nowhere": 0 * left, "left half": left, "right half": 1 - left}
    where = {place: lab.run(option("DeltaMask", lab.pair(), mask=mask)) for place, mask in masks.items()}
    yield "two_loras_with_masks", "Deltas with masks", "where a style fine-tune acts", where
    speeds = {"full": lab.run(lab.pair()), "Delta Fast": lab.run(option("DeltaFast", lab.pair(), pair_guidance="off"))}
    yield "fast_preset", "Fast", "3 and 1.2 times the target's cost", speeds
    roles = {"weak_model": lab.runs.model("source"), "positive": conditioning(LABELS), "negative": lab.nothing}
    weak = run_node("DeltaAutoguidance", **roles, cfg=CFG, strength=0.5)
    guided = {"target": lab.run(seed=4), "autoguided": lab.run(weak, seed=4)}
    yield "autoguidance", "Autoguidance", "away from a smaller model", guided
    scaled = lab.both(lab.pair(), target="scaled_target")
    yield "sd15_lora_to_sdxl_native_size", "To latents of another scale", STYLE, scaled
    back = lab.both(lab.pair("target", "oracle"), target="source")
    yield "sdxl_lora_to_sd15", "From a new model to an old", STYLE, back
    yield (
        "sd15_lora_to_sd35_with_bridge",
        "Over a bridge",
        "4 channels to 16, a style fine-tune",
        bridged(lab.runs.family),
    )
    yield "fit_a_latent_bridge", "Fit a bridge", "the same pictures in two latent spaces", fitted(lab.runs.family)


def draw(title: str, line: str, panels: dict[str, np.ndarray]) -> Image.Image:
    """Return the panels side by side, each a block of pictures, with their captions, the title and the line."""
    sheet = Image.new("RGB", (SIDE, SIDE), "white")
    pen, width, columns = ImageDraw.Draw(sheet), SIDE // len(panels), 2 if len(panels) == 2 else 1
    cell = width // columns
    rows = (SIDE - WORDS) // cell
    top = (SIDE - WORDS - rows * cell) // 2

    def write(x, y, words, size, colour="black"):
        pen.text((x, y), words, colour, ImageFont.load_default(size), anchor="mm")

    for place, (caption, pictures) in enumerate(panels.items()):
        for number, picture in enumerate(pictures[: rows * columns]):
            where = place * width + number % columns * cell, top + number // columns * cell
            sheet.paste(Image.fromarray(picture).resize((cell, cell), Image.Resampling.BICUBIC), where)
        write((place + 0.5) * width, top + rows * cell + 14, caption, 18)
        pen.line((place * width, 0, place * width, SIDE - WORDS), "white", 6)
    write(SIDE / 2, SIDE - 48, title, 26)
    write(SIDE / 2, SIDE - 16, line, 15, "dimgray")
    return sheet


if __name__ == "__main__":
    torch.set_num_threads(1)
    with torch.inference_mode():
        for name, title, line, panels in thumbnails(Sampler()):
            draw(title, line, panels).save(FOLDER / f"{name}.jpg", quality=85)
