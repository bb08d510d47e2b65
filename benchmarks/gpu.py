"""What a GPU makes of the pack: python -m harness --gpu benchmarks.gpu (make gpu), in at most eight minutes.

The engine's identities on small networks in half precision, and the cost of a step at the sizes of SD1.5 and SDXL, with
random weights: first with static memory, then with dynamic. An identity that does not hold makes it end with 1.
Without a GPU it runs small networks on the CPU, with static memory: that shows that the script works, and no more.
"""

import resource
import sys
import time
from collections.abc import Iterator
from functools import cache, partial
from itertools import chain

import comfy.memory_management
import comfy.model_management
import comfy.model_patcher
import comfyui_version
import torch
from comfy.model_patcher import ModelPatcher
from comfy_aimdo import control as aimdo
from torch.utils._python_dispatch import TorchDispatchMode

from harness.nodes import option, run_node, with_lora

from .architectures import CFG, conditioning, network

GPU, CPU = torch.cuda.is_available(), torch.device("cpu")
SMALL = {"model_channels": 32}
# The edge of the latents; the pair of SD1.5 beside SDXL works at half of it.
STEPS, SIZES = (12, {"SD1.5": 64, "SDXL": 128}) if GPU else (2, {"SD1.5": 16, "SDXL": 16})
ROUNDING = 5e-2  # of the delta's effect: what half precision may change where sums have another order
READS = {f"aten::{name}" for name in ("item", "is_nonzero", "_local_scalar_dense", "equal", "nonzero", "masked_select")}
prompts = cache(lambda name: {kind: conditioning(name) for kind in ("positive", "negative")})


class Reads(TorchDispatchMode):
    """Counts how often the CPU waits for a value of the device, in the host's code and in the pack's."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if any(torch.is_tensor(each) and each.is_cuda == GPU for each in args):
            copied = GPU and torch.is_tensor(out) and out.device == CPU
            self.count += copied or func._schema.name in READS
        return out


def model(name: str, seed: int, dtype=torch.float16, disable_dynamic: bool = False, **changed) -> ModelPatcher:
    """Return a model of an architecture with random weights, as from a loader: the host can make it again."""
    device = comfy.model_management.get_torch_device()  # which fills SDXL at once, a CPU takes a minute
    generator = torch.Generator(device).manual_seed(seed)
    with torch.inference_mode(False), torch.no_grad():
        made = network(name, device, dtype, **changed)
        for weight in made.parameters():
            weight.normal_(std=0.6 / weight[0].numel() ** 0.5, generator=generator)
    patcher_class = ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    patcher = patcher_class(made.to(CPU), device, CPU)
    patcher.cached_patcher_init = (partial(model, name, seed, dtype, **changed), ())
    return patcher


def sampled(target: ModelPatcher, name: str, steps: int, size: int) -> torch.Tensor:
    """Return the latent that a KSampler makes with prompts for the architecture `name`."""
    latent = {"samples": torch.zeros(1, 4, size, size)}
    return run_node("KSampler", model=target, **prompts(name), cfg=CFG, steps=steps, latent_image=latent)["samples"]


def pair(source: ModelPatcher, adapted: ModelPatcher, strength: float = 1.0):
    """Return the DELTA of two models of SD1.5's architecture."""
    roles = {f"{role}_{kind}": prompt for role in ("source", "adapted") for kind, prompt in prompts("SD1.5").items()}
    return run_node("DeltaPair", source_model=source, adapted_model=adapted, **roles, cfg=CFG, strength=strength)


def identities(dtype: torch.dtype) -> Iterator[tuple[str, str]]:
    """Yield what has to be the same, and how far off it is, relative to the largest effect of the delta."""
    base = partial(model, "SD1.5", dtype=dtype, **SMALL)

    def run(target, *deltas):
        for delta in deltas:
            target = run_node("DeltaModel", model=target, delta=delta)
        return sampled(target, "SD1.5", steps=4, size=16)

    source, target = base(1), base(3)
    adapted, plain = with_lora(source, 5), run(target)
    half, full, none = (pair(source, adapted, strength) for strength in (0.5, 1.0, 0.0))
    whole, apart = run(target, full), run(target, pair(base(1), with_lora(base(1), 5)))
    effect = (whole - plain).abs().max()

    def compared(what, found, expected, tolerance=0.0):
        error = ((found - expected).abs().max() / effect).item()
        same = "bit for bit" if torch.equal(found, expected) else f"{error:.1e} of the effect off"
        return f"{what}, {dtype}", same if error <= tolerance else f"WRONG: {same}"

    yield f"effect of the delta, {dtype}", f"{effect / plain.abs().max():.3f} of the result"
    yield compared("strength 0 = KSampler", run(target, none), plain)
    yield compared("equal branches = KSampler", run(target, pair(source, source)), plain)
    yield compared("source as target = adapted", run(source, full), run(adapted), ROUNDING)
    yield compared("two halves = whole", run(target, half, half), whole, ROUNDING)
    yield compared("shared weights = loaded apart", whole, apart)


def costs(name: str) -> Iterator[tuple[str, str]]:
    """Yield what a step costs: of the plain target, with a LoRA pair of SD1.5, and with that under Delta Fast."""
    target, source = (model(*which, **({} if GPU else SMALL)) for which in ((name, 3), ("SD1.5", 1)))
    delta = pair(source, with_lora(source, 5, rank=16, size=0.01))
    delta = option("DeltaResolution", delta, scale=1.0 if name == "SD1.5" else 0.5)
    plain = None
    for case, acting in {"plain": (), "full": delta, "fast": option("DeltaFast", delta)}.items():
        run = partial(sampled, run_node("DeltaModel", model=target, delta=acting), name, size=SIZES[name])
        few, many = Reads(), Reads()
        for steps, reads in ((2, few), (4, many)):
            with reads:
                run(steps=steps)
        if GPU:
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        run(steps=STEPS)  # ends with the latent on the CPU, and so waits for the GPU
        seconds = (time.perf_counter() - start) / STEPS
        plain = plain or seconds
        peak = torch.cuda.max_memory_allocated() if GPU else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        times = f"{1e3 * seconds:.1f} ms a step, {seconds / plain:.2f} of plain"
        yield f"{name}, {case}", f"{times}; {(many.count - few.count) / 2:.1f} reads a step; peak {peak / 1e9:.2f} GB"


@torch.inference_mode()
def main() -> None:
    where = torch.cuda.get_device_name() if GPU else "CPU with small networks, so the figures say nothing"
    versions = f"ComfyUI {comfyui_version.__version__}, torch {torch.__version__}"
    rows = [f"{versions}, {where}.", "", "| memory | what | found |", "|---|---|---|"]
    for memory in ("static", "dynamic"):
        if memory == "dynamic":  # as in ComfyUI's main.py
            if GPU and not (aimdo.init() and aimdo.init_device(torch.cuda.current_device())):
                raise RuntimeError("comfy-aimdo did not start: there is no dynamic memory on this machine")
            comfy.memory_management.aimdo_enabled = GPU
            comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
        checks = (identities(dtype) for dtype in (torch.float16, torch.bfloat16))
        for what, found in chain(*checks, *map(costs, SIZES)):
            rows.append(f"| {memory} | {what} | {found} |")
            print(rows[-1], flush=True)
        comfy.model_management.unload_all_models()
    print("", *rows, sep="\n")
    sys.exit(any("WRONG" in row for row in rows))


if __name__ == "__main__":
    main()
