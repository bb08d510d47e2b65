"""What bridges make of the latents of real VAEs: python -m harness benchmarks.real_latents FOLDER

FOLDER has real_latents.py, with decoders of the latents of SD1.x, SDXL and SD3 (AUTOMATIC1111's VAE-approx). Latents
of pictures are found by inverting these, which takes minutes at first. The tables go to benchmarks/real_latents.md.
"""

import math
import sys
from itertools import permutations
from pathlib import Path

import comfy.model_base
import comfy.supported_models_base
import comfyui_version
import torch
import torch.nn.functional as F
from comfy.model_base import ModelType
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from harness.host import find_host
from harness.nodes import of_the_pack, run_node

TABLE = Path(__file__).parent / "real_latents.md"
CPU = torch.device("cpu")
RIDGES = (0.001, 0.003, 0.01, 0.02, 0.03, 0.04, 0.06, 0.1, 0.3)
STEPS, SPREAD = 20, 0.1  # of the sampler; standard deviation of latents around the one that a denoiser knows

bridges, found_bridges, preview_bridge, latent_spaces = (
    of_the_pack(f"sampling.{name}")
    for name in ("bridges", "host.found_bridges", "preview_bridge", "host.latent_spaces")
)


class Measure:
    """The latent spaces of real_latents.py, and how a bridge between two of them is measured."""

    def __init__(self, folder: str):
        sys.path.insert(0, folder)
        import real_latents

        self.real = real_latents.Spaces(find_host())
        self.spaces = {kind: latent_spaces.LatentSpace(form) for kind, form in self.real.formats.items()}
        self.ways = [*permutations(self.spaces, 2)]

    def change(self, source: str) -> Tensor:
        """Return a change of the latents of `source` [B, C, h, w]: a part of the way to another picture's."""
        latent = self.real.latents[source]
        other = torch.randperm(len(latent), generator=torch.Generator().manual_seed(5))
        return 0.3 * (latent[other] - latent)

    def agreement(self, source: str, target: str, before: Tensor, after: Tensor) -> tuple[float, float]:
        """Return relative error and cosine of the picture's change from `before` to `after`, latents of `target`."""
        show, own = self.real.decoders[source], self.real.decoders[target]
        wanted = show(self.real.latents[source] + self.change(source)) - show(self.real.latents[source])
        found = own(after) - own(before)
        error = ((found - wanted).norm() / wanted.norm()).item()
        return error, torch.cosine_similarity(found.flatten(), wanted.flatten(), 0).item()

    def scores(self, source: str, target: str, bridge) -> tuple[float, float, float]:
        """Return the picture error of mapped latents, and relative error and cosine of a change that is carried."""
        given, wanted = self.real.formats[source], self.real.formats[target]

        def mapped(latent: Tensor) -> Tensor:
            return wanted.process_in(bridge.to_target(given.process_out(latent)))

        before, change = self.real.latents[target], self.change(source)
        after = before + mapped(change) - mapped(torch.zeros_like(change))
        error = self.picture_error(target, mapped(self.real.latents[source]))
        return error, *self.agreement(source, target, before, after)

    def picture_error(self, target: str, latent: Tensor) -> float:
        """Return the mean squared error of the pictures that latents of `target` show."""
        return F.mse_loss(self.real.decoders[target](latent), self.real.shown).item()


def found(source, target):
    return found_bridges.find_bridge(source, target, "source")


def by_colours(source, target):
    return found_bridges.preview_bridge(source, target)


def shared(source, target):
    return bridges.same_latents(source.shape) if source.shape == target.shape else None


WAYS = {"what is found by itself": found, "preview colours": by_colours, "raw latents shared": shared}


def table(measure: Measure) -> list[str]:
    """Return the table of the ways: picture error, relative error and cosine of a change, in all directions."""
    rows = [["way", *(f"{source} -> {target}" for source, target in measure.ways)], ["---"] * 7]
    for name, way in WAYS.items():
        made = [(pair, way(*(measure.spaces[kind] for kind in pair))) for pair in measure.ways]
        scores = [measure.scores(*pair, bridge) if bridge else None for pair, bridge in made]
        rows.append([name, *("{:.3f}, {:.2f}, {:.2f}".format(*each) if each else "" for each in scores)])
    rows.append(
        [
            "the target's own latents",
            *(f"{measure.picture_error(target, measure.real.latents[target]):.3f}" for _, target in measure.ways),
        ]
    )
    return [f"| {' | '.join(row)} |" for row in rows]


def ridges(measure: Measure) -> list[str]:
    """Return the table of the ridge of preview colours: the geometric mean of the picture error."""
    rows = ["| ridge | picture error |", "|---|---|"]
    chosen = preview_bridge.latents_of_colours
    for ridge in RIDGES:
        found_bridges.latents_of_colours = lambda preview, ridge=ridge: chosen(preview, ridge)
        bridged = ((pair, by_colours(*(measure.spaces[kind] for kind in pair))) for pair in measure.ways)
        errors = [measure.scores(*pair, bridge)[0] for pair, bridge in bridged]
        rows.append(f"| {ridge} | {math.exp(sum(map(math.log, errors)) / len(errors)):.4f} |")
    found_bridges.latents_of_colours = chosen
    return rows


def denoiser(mean: Tensor, form) -> ModelPatcher:
    """Return a MODEL of latents that are normally distributed around `mean` [B, C, h, w]: the exact denoiser."""

    class Family(comfy.supported_models_base.BASE):
        latent_format = form

    class Exact(comfy.model_base.BaseModel):
        def apply_model(self, x, t, *args, **kwargs):
            centre = mean.repeat(len(x) // len(mean), 1, 1, 1)
            ratio = t.reshape(-1, 1, 1, 1)
            return centre + SPREAD**2 / (SPREAD**2 + ratio**2) * (x - centre)

        def memory_required(self, *args, **kwargs):
            return 0

    class Nothing(torch.nn.Module):
        dtype = torch.float32

        def __init__(self, **kwargs):
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(1))

    with torch.inference_mode(False):
        made = Exact(Family({"dtype": torch.float32}), model_type=ModelType.EPS, device=CPU, unet_model=Nothing)
    return ModelPatcher(made, CPU, CPU)


def in_a_run(measure: Measure, source: str, target: str) -> tuple[float, float]:
    """Return relative error and cosine of a known change of `source` in what a KSampler makes of `target`."""
    forms, latents = measure.real.formats, measure.real.latents
    known = latents[source]
    models = (denoiser(mean, type(forms[source])) for mean in (known, known + measure.change(source)))
    prompt = [[torch.zeros(1, 7, 16), {}]]
    prompts = {f"{role}_{kind}": prompt for role in ("source", "adapted") for kind in ("positive", "negative")}
    delta = run_node(
        "DeltaPair", **dict(zip(("source_model", "adapted_model"), models, strict=True)), **prompts, cfg=1.0
    )
    plain = denoiser(latents[target], type(forms[target]))
    run = {"positive": prompt, "negative": prompt, "cfg": 1.0, "steps": STEPS, "sampler_name": "euler"}
    empty = {"samples": torch.zeros_like(latents[target])}
    before, after = (
        forms[target].process_in(run_node("KSampler", model=model, **run, latent_image=empty)["samples"])
        for model in (plain, run_node("DeltaModel", model=plain, delta=delta))
    )
    return measure.agreement(source, target, before, after)


@torch.inference_mode()
def main() -> None:
    torch.set_num_threads(1)
    measure = Measure(sys.argv[1])
    error, cosine = in_a_run(measure, "sd15", "sdxl")
    lines = [
        f"ComfyUI {comfyui_version.__version__}, torch {torch.__version__}. Latents of {len(measure.real.shown)} "
        "pictures of ComfyUI's template packages, found by inverting the VAE-approx decoders of AUTOMATIC1111's "
        "stable-diffusion-webui, and read by these. Picture error: mean squared error, colours from -1 to 1. Change: "
        "relative error and cosine of what 0.3 of the way to another picture's latent changes.",
        "",
        "Picture error, relative error and cosine of a change:",
        "",
        *table(measure),
        "",
        f"Geometric mean of the picture error of preview colours over the six directions ({preview_bridge.RIDGE} is "
        "used):",
        "",
        *ridges(measure),
        "",
        f"In a run, with nothing wired: a pair of SD1.5 with that change, a target of SDXL, exact denoisers, {STEPS} "
        f"Euler steps of a KSampler: relative error {error:.2f}, cosine {cosine:.2f}.",
        "",
    ]
    TABLE.write_text("\n".join(lines))
    print(TABLE.read_text())


if __name__ == "__main__":
    main()
