"""Latents that look alike and mean different things: which are the same, and how others meet with no bridge wired."""

import logging
from itertools import permutations

import comfy.latent_formats as formats
import comfy.supported_models
import folder_paths
import pytest
import torch
import torch.nn.functional as F
from comfy.model_base import ModelType

from harness.nodes import of_the_pack, option, run_node

from .gaussian import denoiser, normal
from .tiny import advanced_sampler, bridge, delta_ksampler, ksampler, pair, relative_error

DRAWN = torch.Generator().manual_seed(11)
ONE_VAE = [
    ("SDXL", "SDXL_Playground_2_5"),
    ("Wan21", "Wan21"),
    ("ChromaRadiance", "PixelDiTPixel"),
    ("CogVideoX", "CogVideoX1_5"),
]
APART = [
    ("SD15", "SDXL"), ("SD3", "Flux"), ("Wan21", "HunyuanVideo"), ("Wan21", "Wan22"), ("SD15", "SD_X4"),
    ("Mochi", "Cosmos1CV8x8x8"), ("Flux", "CogVideoX"),
]  # fmt: skip
# Older hosts know fewer formats.
ONE_VAE, APART = ([two for two in pairs if all(hasattr(formats, name) for name in two)] for pairs in (ONE_VAE, APART))
FITTED = [*permutations(["SD15", "SDXL", "SD3"], 2)]
COLOURED = [("SD3", "Flux"), ("Flux", "SD3"), ("SDXL", "Flux")]
OF_OTHER_PIXELS = [("SD15", "Flux2"), ("Flux2", "SD15"), ("SDXL", "HunyuanImage21"), ("SD15", "ChromaRadiance")]


@pytest.fixture(autouse=True)
def no_bridges(tmp_path, monkeypatch):
    """A folder of bridges of this test alone."""
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "latent_bridges", ([str(tmp_path)], {".safetensors"}))
    folder_paths.filename_list_cache.pop("latent_bridges", None)
    return tmp_path


def space(name):
    return of_the_pack("sampling.host.latent_spaces").LatentSpace(getattr(formats, name)())


def factors(name):
    return torch.tensor(getattr(formats, name)().latent_rgb_factors)


def colours(name, latent):
    """The mean colour of raw latents, as the host's preview shows it."""
    form = getattr(formats, name)()
    latent = form.process_in(latent)
    reshape = getattr(form, "latent_rgb_factors_reshape", None) or (lambda same: same)
    return reshape(latent).mean((0, 2, 3)) @ factors(name)


def empty(name, size=8):
    form = getattr(formats, name)()
    return {"samples": torch.zeros(1, form.latent_channels, size, size)}


@pytest.mark.parametrize("one, other", ONE_VAE)
def test_formats_of_one_vae(one, other):
    assert space(one).vae == space(other).vae


@pytest.mark.parametrize("one, other", APART)
def test_formats_of_two_vaes(one, other):
    assert space(one).vae != space(other).vae


def test_names_of_latents():
    """Models of the host with the same VAE share their names; those of another do not."""
    assert {"sd15", "sd20"} <= space("SD15").names
    assert {"sdxl", "ssd1b"} <= space("SDXL").names
    assert {"flux", "chroma", "zimage"} <= space("Flux").names
    assert {"wan21", "qwenimage"} <= space("Wan21").names
    assert not space("SD15").names & space("SDXL").names


def changed_colours(source, target, change, size=8, kind=ModelType.EPS):
    """What a pair that adds `change` to the colours of its latents adds to the colours of a target's."""
    channels, own = (getattr(formats, name)().latent_channels for name in (source, target))
    there = factors(source)
    blocks = channels // len(there)  # several blocks of a pixel, as Flux.2 has
    step = (there @ torch.linalg.inv(there.T @ there) @ change).repeat_interleave(blocks)
    mean = 0.3 * torch.randn(channels, generator=DRAWN)
    models = (denoiser(normal(mean + by, 0.5), kind, getattr(formats, source)) for by in (0 * step, step))
    goal = denoiser(normal(0.3 * torch.randn(own, generator=DRAWN), 0.5), kind, getattr(formats, target))
    found = advanced_sampler(goal, pair(*models), latent_image=empty(target, size))["samples"]
    return colours(target, found) - colours(target, ksampler(goal, latent_image=empty(target, size)))


@pytest.mark.parametrize("source, target", COLOURED + OF_OTHER_PIXELS)
def test_a_change_of_colours_arrives_as_ridge_regression_leaves_it(source, target):
    """Exact denoisers; what a ridge takes off a weak direction is known."""
    kind = ModelType.FLOW if source in ("SD3", "Flux") else ModelType.EPS
    known = factors(target).T @ factors(target)
    for _ in range(3):
        change = 0.3 * torch.randn(3, generator=DRAWN)
        expected = torch.linalg.solve(
            known + of_the_pack("sampling.preview_bridge").RIDGE * torch.eye(3), known @ change
        )
        found = changed_colours(source, target, change, 32 if target == "ChromaRadiance" else 8, kind)
        assert relative_error(found, expected) < 0.03


def find(source, target):
    return of_the_pack("sampling.host.found_bridges").find_bridge(source, target, "source")


@pytest.mark.parametrize("source, target", FITTED)
def test_a_bridge_of_this_pack_keeps_brightness(source, target):
    source, target = space(source), space(target)
    coarse = 0.5 * torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    colours = F.interpolate(coarse, size=24, mode="bicubic")
    latent = of_the_pack("sampling.preview_bridge").latents_of_colours(source.preview)(colours)
    bridge = find(source, target)
    seen = target.preview(target.from_raw(bridge.to_target(source.raw_picture(latent))))
    assert bridge.is_fitted
    assert torch.corrcoef(torch.stack([seen.mean(1).flatten(), colours.mean(1).flatten()]))[0, 1] > 0.9


RELATIVES = [("SD20", "SDXL"), ("SSD1B", "SD15"), ("SDXL", "SD20"), ("SD3", "SSD1B"), ("SD20", "SD3")]


@pytest.mark.parametrize("source, target", RELATIVES)
def test_models_of_one_vae_have_one_bridge(source, target, caplog):
    kinds = (getattr(comfy.supported_models, name) for name in (source, target))
    spaces = of_the_pack("sampling.host.latent_spaces").LatentSpace
    with caplog.at_level(logging.INFO):
        find(*(spaces(kind.latent_format()) for kind in kinds))
    assert " of this pack" in caplog.text


def test_a_format_at_another_scale_has_the_bridge_of_its_vae():
    one, other = (find(space("SD15"), space(name)) for name in ("SDXL", "SDXL_Playground_2_5"))
    assert torch.equal(one.to_target.weight, other.to_target.weight)


@pytest.mark.parametrize("source, target", FITTED)
def test_a_file_of_the_users_comes_before_that_of_this_pack(source, target, caplog):
    before = find(space(source), space(target))
    run_node("LatentBridgeSave", bridge=before.reversed, filename_prefix=f"{target}_to_{source}")
    with caplog.at_level(logging.INFO):
        find(space(source), space(target))
    assert f"over the bridge {target}_to_{source}_00001_.safetensors in the folder models" in caplog.text


def test_a_damaged_file_of_the_users_is_an_error(no_bridges):
    (no_bridges / "sd15_to_sdxl.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"^sd15_to_sdxl\.safetensors in the folder models/latent_bridges is not"):
        find(space("SD15"), space("SDXL"))


HOW = {
    "SDXL": ["over the bridge sd15_to_sdxl.safetensors of this pack"],
    "Flux": ["by their preview colours", "sd15_to_flux"],
}


@pytest.mark.parametrize("goal", HOW)
def test_the_delta_ksampler_crosses_too_and_says_how(goal, caplog):
    source, adapted = (denoiser(normal(torch.full((4,), mean), 0.5), latent_format=formats.SD15) for mean in (0, 0.5))
    form = getattr(formats, goal)
    target = denoiser(normal(torch.zeros(form.latent_channels), 0.5), latent_format=form)
    with caplog.at_level(logging.INFO):
        found = delta_ksampler(source, adapted, target, latent_image=empty(goal))
    assert relative_error(ksampler(target, latent_image=empty(goal)), found) > 0.05
    (line,) = [line for line in caplog.messages if "Delta Sampling" in line]
    assert all(words in line for words in ["SD15 latents", f"{goal} latents", *HOW[goal]])


SIGNS = torch.tensor([1.0, -1.0, 1.0, -1.0])


@pytest.fixture
def crossing():
    """A delta of SD1.5 and a target of SDXL, whose latents are the same but for the signs of two channels."""
    step = torch.tensor([0.3, 0.1, -0.2, 0.4])
    source, adapted = (denoiser(normal(m, 0.5), latent_format=formats.SD15) for m in (0 * step, step))
    return pair(source, adapted), denoiser(normal(0.2 * step, 0.5), latent_format=formats.SDXL)


def sample(crossing, *options):
    delta, target = crossing
    for name, settings in options:
        delta = option(name, delta, **settings)
    return advanced_sampler(target, delta, latent_image=empty("SDXL"))["samples"]


def signs(scale=1.0):
    return bridge((4, 8), (4, 8), SIGNS.diag() / scale, scale * SIGNS.diag())


@pytest.mark.parametrize("name", ["sd15_to_sdxl", "mine/SD1.5_to_SDXL", "sd20_to_ssd1b"])
def test_a_saved_bridge_named_for_both_is_found(crossing, no_bridges, name, caplog):
    wired = sample(crossing, ("DeltaBridge", {"bridge": signs()}))
    assert relative_error(sample(crossing), wired) > 0.05
    run_node("LatentBridgeSave", bridge=signs(), filename_prefix=name)
    with caplog.at_level(logging.INFO):
        assert torch.equal(sample(crossing), wired)
    assert f"over the bridge {name}_00001_" in caplog.text


def test_a_saved_bridge_serves_both_ways(crossing, no_bridges):
    """One of SDXL to SD1.5 leads from SD1.5 to SDXL with its two maps in the other order."""
    wired = sample(crossing, ("DeltaBridge", {"bridge": signs(2.0)}))
    run_node("LatentBridgeSave", bridge=signs(0.5), filename_prefix="sdxl_to_sd15")
    assert torch.equal(sample(crossing), wired)


def test_a_wired_bridge_comes_first_and_a_bridge_of_others_is_left_alone(crossing, no_bridges):
    plain = sample(crossing)
    run_node("LatentBridgeSave", bridge=signs(), filename_prefix="sd15_to_flux")
    assert torch.equal(sample(crossing), plain)
    run_node("LatentBridgeSave", bridge=signs(), filename_prefix="sd15_to_sdxl")
    other = {"bridge": signs(2.0)}
    assert relative_error(sample(crossing, ("DeltaBridge", other)), sample(crossing)) > 0.05


def test_latents_of_one_vae_at_two_scales_need_no_bridge(caplog):
    source, adapted = (denoiser(normal(torch.full((4,), m), 0.5), latent_format=formats.SDXL) for m in (0, 0.5))
    target = denoiser(normal(torch.zeros(4), 0.5), latent_format=formats.SDXL_Playground_2_5)
    with caplog.at_level(logging.INFO):
        found = delta_ksampler(source, adapted, target, latent_image=empty("SDXL"))
    assert relative_error(ksampler(target, latent_image=empty("SDXL")), found) > 0.05
    assert "Delta Sampling" not in caplog.text
