"""What a run asks of a device: no float64, which MPS lacks, and no value read back, for which a GPU has to wait."""

import sys
from collections.abc import Callable

import comfy.latent_formats as formats
import pytest
import torch
from comfy.model_base import ModelType
from torch.utils._python_dispatch import TorchDispatchMode

from harness.host import REPOSITORY, find_host
from harness.nodes import of_the_pack, option, run_node

from .gaussian import denoiser, latents, normal
from .test_bridges import vae
from .tiny import advanced_sampler, autoguidance, bridge, combine, image_latent, ksampler, pair

PACK, HOST = (str(REPOSITORY / "sampling"), str(REPOSITORY / "nodes")), str(find_host())
# What makes the CPU wait for a device: a value of a tensor as a number, and what looks at values to decide a shape.
READS = {"_local_scalar_dense", "item", "is_nonzero", "equal", "allclose", "nonzero", "masked_select"}


def is_the_packs() -> bool:
    """Say whether an operation was called by a line of the pack, not by the host or by the test."""
    frame = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(PACK):
            return True
        if file.startswith((HOST, __file__)):
            return False
        frame = frame.f_back
    return False


class Watched(TorchDispatchMode):
    """Notes the operations of the pack that make float64 of a tensor, and those that read its values."""

    def __init__(self):
        super().__init__()
        self.doubles, self.reads = [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.partition("::")[2]
        given = [each for each in args if torch.is_tensor(each)]
        if given and is_the_packs():
            doubled = torch.is_tensor(out) and out.dtype == torch.float64
            self.doubles += [name] * (doubled and not any(each.dtype == torch.float64 for each in given))
            left = torch.is_tensor(out) and out.device.type == "cpu" and given[0].device.type != "cpu"
            self.reads += [name] * (name in READS or left)
        return out


CHANGE = torch.tensor([0.3, 0.1, -0.2, 0.4])


def gaussian_pair(latent_format=formats.SD15, kind=ModelType.EPS, channels=4):
    shift = CHANGE.repeat(channels // 4)
    return pair(*(denoiser(normal(k * shift, 0.5), kind, latent_format) for k in (0, 1)))


def target_of(latent_format=formats.SD15, kind=ModelType.EPS, channels=4):
    return denoiser(normal(0.2 * CHANGE.repeat(channels // 4), 0.5), kind, latent_format)


def over_vaes():
    made = run_node("LatentBridgeVAE", source_vae=vae(4, 1), target_vae=vae(4, 2))
    return option("DeltaBridge", gaussian_pair(formats.SD15), bridge=made), target_of(formats.SDXL)


def over_a_lossy_bridge(**reuse):
    part = torch.eye(4) * (torch.arange(4) > 0)
    delta = option("DeltaBridge", gaussian_pair(latents(4)), bridge=bridge((4, 8), (4, 8), part, part))
    return (option("DeltaReuse", delta, **reuse) if reuse else delta), target_of(latents(4))


def with_option(name, **settings):
    return lambda: (option(name, gaussian_pair(), **settings), target_of())


# Each makes a delta and a target. Those of PLAIN read nothing of a device, those of READING one number or two a call.
PLAIN: dict[str, Callable] = {
    "plain": lambda: (gaussian_pair(), target_of()),
    "limits": with_option("DeltaLimits", parallel=0.5, norm_limit=0.3, band="low"),
    "mask": with_option("DeltaMask", mask=torch.ones(1, 8, 8)),
    "resolution": with_option("DeltaResolution", scale=0.5, noise_match="same detail"),
    "two deltas": lambda: (combine(gaussian_pair(), gaussian_pair()), target_of()),
    "autoguidance": lambda: (autoguidance(target_of()), target_of()),
    "to v": lambda: (gaussian_pair(), target_of(kind=ModelType.V_PREDICTION)),
    "to a flow": lambda: (gaussian_pair(), target_of(kind=ModelType.FLOW)),
    "to other scales": lambda: (gaussian_pair(latents(4, scale=0.2)), target_of(latents(4, scale=0.1, shift=0.3))),
    "a shipped bridge": lambda: (gaussian_pair(), target_of(formats.SDXL)),
    "preview colours": lambda: (gaussian_pair(), target_of(formats.Flux, ModelType.FLOW, 16)),
    "a lossy bridge": over_a_lossy_bridge,
    "tiny autoencoders": over_vaes,
}
READING: dict[str, Callable] = {
    "schedule": with_option("DeltaSchedule", curve="linear", strength_end=0.5),
    "reuse": with_option("DeltaReuse", every=2, extrapolate=True),
    "threshold": with_option("DeltaReuse", threshold=0.1),
    "fast": with_option("DeltaFast"),
    "reuse over a lossy bridge": lambda: over_a_lossy_bridge(every=2),
}


def watched_run(delta, target, steps: int) -> Watched:
    size = target.get_model_object("latent_format").latent_channels
    image = {"samples": torch.zeros(1, size, 8, 8)}
    with Watched() as watched:
        advanced_sampler(target, delta, steps=steps, latent_image=image)
    return watched


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    monkeypatch.setattr(of_the_pack("nodes.bridges"), "MADE_EDGE", 8)


def reads_a_call(delta, target) -> float:
    """Return how many values the pack reads in a call, of a run in which no tensor becomes float64."""
    few, many = (watched_run(delta, target, steps) for steps in (2, 4))
    assert few.doubles == many.doubles == []
    return (len(many.reads) - len(few.reads)) / 2


@pytest.mark.parametrize("case", PLAIN)
def test_a_call_reads_nothing_but_whether_it_is_finite(case):
    assert reads_a_call(*PLAIN[case]()) == 1


@pytest.mark.parametrize("case", READING)
def test_an_option_that_needs_the_noise_level_reads_it(case):
    assert reads_a_call(*READING[case]()) > 1


def test_colour_guidance_makes_no_float64():
    guided = run_node("DeltaColorGuidance", model=target_of(), reference=torch.rand(1, 32, 32, 3))
    with Watched() as watched:
        ksampler(guided, latent_image=image_latent(1))
    assert watched.doubles == []
