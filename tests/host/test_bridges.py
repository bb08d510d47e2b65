"""The nodes that make, keep and give bridges, with small VAEs of the host."""

from typing import ClassVar

import comfy.latent_formats
import comfy.sd
import comfy.supported_models
import comfy.taesd.taesd
import folder_paths
import nodes as host_nodes
import pytest
import safetensors.torch
import torch
from comfy.model_base import ModelType

from harness.nodes import node, of_the_pack, option, run_node

from .gaussian import denoiser, latents, normal
from .tiny import advanced_sampler, bridge, latent, model, pair, relative_error, seen

SD15, SD3 = comfy.latent_formats.SD15, comfy.latent_formats.SD3


def vae(channels, seed, levels=4):
    """Return a VAE of the host: random weights, 2^(levels - 1) pixels of the picture per latent pixel."""
    config = {
        "embed_dim": channels,
        "ddconfig": {
            "double_z": True, "z_channels": channels, "resolution": 64, "in_channels": 3, "out_ch": 3, "ch": 32,
            "ch_mult": [1] * levels, "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0,
        },
    }  # fmt: skip
    torch.manual_seed(seed)
    with torch.inference_mode(False):
        made = comfy.sd.VAE(sd={}, config={"params": config})
    made.latent_channels = channels
    made.downscale_ratio = made.upscale_ratio = 2 ** (levels - 1)
    for name, parameter in made.first_stage_model.named_parameters():
        parameter.requires_grad_(False)
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.9 / parameter[0].numel() ** 0.5)
        else:
            torch.nn.init.constant_(parameter, float("norm" in name and name.endswith("weight")))
    return made


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    """Pictures that are made are small here: the VAEs are slow on a CPU."""
    monkeypatch.setattr(of_the_pack("nodes.bridges"), "MADE_EDGE", 8)


@pytest.fixture(scope="module")
def vaes():
    return vae(4, 1), vae(16, 2)


@pytest.fixture(scope="module")
def images():
    small = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(small, 64, mode="bicubic").clamp(0, 1).movedim(1, -1)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty models/latent_bridges."""
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "latent_bridges", ([str(tmp_path / "bridges")], set()))
    return tmp_path / "bridges"


def fitted(images, source_vae, target_vae):
    # The host gives every input of this node as a list.
    out = node("LatentBridgeFit").execute(images=[images], source_vae=[source_vae], target_vae=[target_vae])
    return out.result


def refusal(act, *args, **kwargs) -> str:
    with pytest.raises(ValueError) as caught:
        act(*args, **kwargs)
    assert type(caught.value).__name__ == "DeltaError"
    return str(caught.value)


def test_a_fit_maps_the_latents_of_one_vae_to_the_others(vaes, images):
    source_vae, target_vae = vaes
    bridge, report = fitted(images, source_vae, target_vae)
    assert (bridge.source.channels, bridge.target.channels) == (4, 16)
    rows = [v.encode(images).movedim(1, -1).flatten(0, 2) for v in vaes]
    for affine, known, wanted in ((bridge.to_source, *rows[::-1]), (bridge.to_target, *rows)):
        ones = torch.cat([known, torch.ones(len(known), 1)], 1)
        best = torch.linalg.lstsq(ones, wanted).solution
        alone = (wanted - ones @ best).square().mean()
        latents = [v.encode(images).movedim(1, -1).movedim(-1, 1) for v in vaes]
        given, goal = latents if affine is bridge.to_target else latents[::-1]
        assert affine.weight.shape == (goal.shape[1], given.shape[1], 3, 3)
        around = (affine(given) - goal).square().mean()
        # With its neighbours a pixel is explained better than by the best map of its own channels.
        assert around < 0.95 * alone
    lines = report.splitlines()
    assert [len(line.split(": ")[1].split()) for line in lines[1:]] == [4, 16]


def test_a_fit_between_equal_vaes_is_exact(vaes, images):
    bridge, report = fitted(images, vaes[0], vaes[0])
    alone = torch.zeros(4, 4, 3, 3)
    alone[:, :, 1, 1] = torch.eye(4)
    torch.testing.assert_close(bridge.to_source.weight, alone, rtol=0, atol=1e-3)
    assert not bridge.lossy
    assert "mean 1.000" in report


def test_pictures_of_many_sizes_are_seen_alike_by_both_vaes(vaes):
    """A folder gives a list; a VAE of 16 pixels a latent pixel crops more than one of 8."""
    coarse = vae(32, 3, levels=5)
    generator = torch.Generator().manual_seed(1)
    sizes = [(1, 64, 64), (1, 104, 72), (1, 70, 100), (2, 1500, 40)]
    images = [torch.rand(*size, 3, generator=generator) for size in sizes]
    pairs = of_the_pack("sampling.host.vae_bridge").encode_pairs(images, vaes[0], coarse)
    shapes = [(tuple(s.shape), tuple(t.shape)) for s, t in pairs]
    assert shapes == [
        ((4, 8, 8), (32, 4, 4)),
        ((4, 12, 8), (32, 6, 4)),
        ((4, 8, 12), (32, 4, 6)),
        *[((4, 128, 2), (32, 64, 1))] * 2,
    ]
    bridge, report = node("LatentBridgeFit").execute(images=images, source_vae=[vaes[0]], target_vae=[coarse]).result
    assert bridge.to_source(pairs[1][1][None]).shape == (1, 4, 12, 8)
    assert "mean" in report


def test_save_and_load_give_the_same_bridge(vaes, images, folder):
    bridge, _ = fitted(images, *vaes)
    node("LatentBridgeSave").execute(bridge=bridge, filename_prefix="sd15/to_flux")
    out = node("LatentBridgeSave").execute(bridge=bridge, filename_prefix="sd15/to_flux")
    assert out.ui == {"text": ("Saved as sd15/to_flux_00002_.safetensors",)}
    names = of_the_pack("sampling.host.bridge_files").names()
    assert [name.replace("\\", "/") for name in names] == [f"sd15/to_flux_0000{k}_.safetensors" for k in (1, 2)]
    loaded = node("LatentBridgeLoad").execute(bridge_name="sd15/to_flux_00001_.safetensors").result[0]
    for way in ("to_source", "to_target"):
        one, other = getattr(loaded, way), getattr(bridge, way)
        assert torch.equal(one.weight, other.weight) and torch.equal(one.bias, other.bias)
        assert (one.fold, one.unfold) == (other.fold, other.unfold)
    assert (loaded.source, loaded.target) == (bridge.source, bridge.target)


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "a/../../escaped", r"..\escaped", r"C:\escaped"])
def test_a_name_that_leaves_the_folder_is_refused(vaes, images, folder, name):
    bridge, _ = fitted(images, *vaes)
    assert "leads out of the folder models/latent_bridges" in refusal(
        node("LatentBridgeSave").execute, bridge=bridge, filename_prefix=name
    )
    assert "leads out of" in refusal(node("LatentBridgeLoad").execute, bridge_name=name + ".safetensors")
    assert not folder.exists()


def damage_kind(tensors, metadata):
    metadata.clear()


def damage_shape(tensors, metadata):
    tensors["to_source.weight"] = torch.zeros(3, 3)


def damage_number(tensors, metadata):
    tensors["to_target.bias"][0] = float("nan")


def damage_missing(tensors, metadata):
    del tensors["to_target.bias"]


def damage_metadata(tensors, metadata):
    metadata["shapes"] = '{"source": {"channels": 4}}'


def damage_dtype(tensors, metadata):
    tensors["to_source.weight"] = tensors["to_source.weight"].to(torch.int32)


def shapes(text):
    def damage_shapes(tensors, metadata):
        metadata["shapes"] = text

    return damage_shapes


SHAPES = "channels and downscale of the source's latents were expected"
DAMAGES = {
    "kind": (damage_kind, "its kind is None"),
    "shape": (damage_shape, "was expected, [3, 3] was found"),
    "number": (damage_number, "a bias of finite numbers was expected, and 1 values of"),
    "dtype": (damage_dtype, "a weight of real numbers was expected, torch.int32 was found"),
    "missing": (damage_missing, "to_target.bias"),
    "metadata": (damage_metadata, SHAPES),
    "no json": (shapes("{"), ""),
    "a list": (shapes("[4, 8]"), SHAPES),
    "lists": (shapes('{"source": [4, 8], "target": [4, 8]}'), SHAPES),
    "a word": (shapes('{"source": {"channels": "four", "downscale": 8}}'), SHAPES),
    "zero": (shapes('{"source": {"channels": 4, "downscale": 0}}'), SHAPES),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_is_no_bridge(vaes, images, folder, damage):
    damage, reason = DAMAGES[damage]
    bridge, _ = fitted(images, *vaes)
    node("LatentBridgeSave").execute(bridge=bridge, filename_prefix="fit")
    (path,) = folder.iterdir()
    with safetensors.safe_open(path, "pt") as file:
        tensors, metadata = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
    damage(tensors, metadata)
    safetensors.torch.save_file(tensors, path, metadata)
    message = refusal(node("LatentBridgeLoad").execute, bridge_name=path.name)
    assert message.startswith(f"{path.name} in the folder models/latent_bridges is not a latent bridge")
    assert reason in message
    assert "Latent Bridge Save" in message


def test_files_and_folders_that_are_links(vaes, images, folder, tmp_path):
    """People keep models elsewhere, and link them."""
    bridge, _ = fitted(images, *vaes)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder.mkdir()
    (folder / "linked").symlink_to(elsewhere, target_is_directory=True)
    node("LatentBridgeSave").execute(bridge=bridge, filename_prefix="linked/fit")
    (saved,) = elsewhere.iterdir()
    (folder / "file.safetensors").symlink_to(saved)
    for name in (f"linked/{saved.name}", "file.safetensors"):
        loaded = node("LatentBridgeLoad").execute(bridge_name=name).result[0]
        assert torch.equal(loaded.to_source.weight, bridge.to_source.weight)


def test_a_file_that_is_no_safetensors(folder):
    folder.mkdir()
    (folder / "pickle.safetensors").write_bytes(b"\x80\x04not a tensor")
    message = refusal(node("LatentBridgeLoad").execute, bridge_name="pickle.safetensors")
    assert "is not a latent bridge" in message


def test_a_bridge_of_networks_is_not_saved(vaes, folder):
    bridge = node("LatentBridgeVAE").execute(source_vae=vaes[0], target_vae=vaes[1]).result[0]
    assert "made of networks" in refusal(node("LatentBridgeSave").execute, bridge=bridge, filename_prefix="x")


def test_a_bridge_for_other_formats_is_refused(vaes, images, base, adapted):
    class OnSD3Latents(comfy.supported_models.SD15):
        latent_format = SD3

    target = model(2, family=OnSD3Latents, in_channels=16, out_channels=16)
    bridge, _ = fitted(images, vaes[1], vaes[0])
    delta = node("DeltaBridge").execute(delta=pair(base, adapted), bridge=bridge).result[0]
    message = refusal(advanced_sampler, target, delta)
    assert "from a target of 4 channels at 1/8 of the picture to a source of 16 channels" in message
    assert "target model works on SD3 latents (16 channels" in message
    assert "source_vae (or source_latents) is the source model's" in message


class Interposer:
    """Written as the node of SD-Latent-Interposer: one network for a direction, kept until another is asked for."""

    reads: ClassVar = []

    def __init__(self):
        self.loaded = None

    def convert(self, samples, latent_src, latent_dst):
        if self.loaded != (latent_src, latent_dst):
            self.loaded = latent_src, latent_dst
            self.reads.append(self.loaded)
            before, after = (16 if name == "v3" else 4 for name in self.loaded)
            generator = torch.Generator().manual_seed(self.reads.index(self.loaded))
            self.weight = torch.randn(after, before, 1, 1, generator=generator) / before
        latent = samples["samples"].cpu().float()
        mixed = torch.nn.functional.conv2d(latent, self.weight)
        return ({**samples, "samples": (mixed + 0.3 * torch.tanh(mixed)).to(samples["samples"])},)


@pytest.fixture
def interposer(monkeypatch):
    """SD-Latent-Interposer, installed."""
    monkeypatch.setattr(Interposer, "reads", [])
    monkeypatch.setitem(host_nodes.NODE_CLASS_MAPPINGS, "LatentInterposer", Interposer)


def test_networks_of_another_pack_are_a_bridge(interposer):
    """Each direction is read once, before the run; noise passes by what is linear of them."""
    made = run_node("LatentBridgeInterposer", source_latents="SD3", target_latents="SDXL")
    assert Interposer.reads == [("xl", "v3"), ("v3", "xl")]
    assert (made.source.channels, made.target.channels, made.models, made.lossy) == (16, 4, (), True)
    latents = torch.randn(2, 4, 6, 10, generator=torch.Generator().manual_seed(3)) / 0.13025
    seen = Interposer().convert({"samples": latents}, "xl", "v3")[0]["samples"]
    assert torch.equal(made.to_source(latents), seen)
    assert relative_error(made.noise_map(latents), seen) < 0.1
    back = [Interposer().convert({"samples": given}, "v3", "xl")[0]["samples"] for given in (2 * seen, seen)]
    assert torch.equal(made.delta_to_target(2 * seen, seen), back[0] - back[1])


def test_without_the_other_pack_its_bridge_says_what_to_do():
    message = refusal(run_node, "LatentBridgeInterposer")
    assert "https://github.com/city96/SD-Latent-Interposer" in message
    assert "leave the Delta Bridge out" in message and "Latent Bridge VAE" in message


def through_pixels(vaes):
    source_vae, target_vae = vaes
    made = run_node("LatentBridgeVAE", source_vae=source_vae, target_vae=target_vae)
    return made, lambda raw: target_vae.encode(source_vae.decode(raw))


def through_networks(vaes):
    made = run_node("LatentBridgeInterposer", source_latents="SD1.x", target_latents="SD3")
    return made, lambda raw: Interposer().convert({"samples": raw}, "v1", "v3")[0]["samples"]


@pytest.mark.parametrize("through", [through_pixels, through_networks])
@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral"])
def test_a_delta_through_pixels_or_networks(vaes, interposer, sampler, through):
    """What arrives is the difference of what both predictions become in the target's latents.

    From the second call on the target sees its state without it.
    """
    made, to_target = through(vaes)
    generator = torch.Generator().manual_seed(2)
    means = [torch.randn(1, 4, 1, 1, generator=generator) * 0.3 for _ in range(2)]
    pictures = [mean.expand(1, 4, 8, 8) for mean in means]
    constant = [lambda x, ratio, mean=mean: mean.expand_as(x) for mean in means]
    delta = pair(*(denoiser(d, latent_format=SD15) for d in constant))
    # One colour everywhere is no shape that target and source could agree upon.
    delta = option("DeltaBridge", delta, bridge=made)
    target = denoiser(normal(torch.zeros(1, 16, 1, 1), 0.5), ModelType.FLOW, SD3)
    before, after = (to_target(p / 0.18215) for p in pictures)
    moved = (after - before) * 1.5305
    without = []

    def denoise(x, ratio):
        without.append(moved)
        return normal(torch.zeros(1, 16, 1, 1), 0.5)(x - sum(without[1:2]), ratio) + moved

    expected = denoiser(denoise, ModelType.FLOW, SD3)
    empty = {"samples": torch.zeros(1, 16, 8, 8)}
    nothing = pair(*[denoiser(lambda x, ratio: x * 0, latent_format=SD3)] * 2)
    found = advanced_sampler(target, delta, sampler, latent_image=empty, cfg=1.0)["samples"]
    expected = advanced_sampler(expected, nothing, sampler, latent_image=empty, cfg=1.0)["samples"]
    assert relative_error(found, expected) < 1e-3
    assert relative_error(advanced_sampler(target, nothing, sampler, latent_image=empty)["samples"], expected) > 0.05


def tiny_autoencoder(channels, scale, seed):
    """A TAESD of ComfyUI's as its VAE loader makes it, with random weights."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, value in comfy.taesd.taesd.TAESD(latent_channels=channels).state_dict().items():
        size = 1.4 / value[0].numel() ** 0.5 if value.ndim > 1 else 0.1
        weights[name] = size * torch.randn(value.shape, generator=generator)
    weights |= {"vae_scale": torch.tensor(scale), "vae_shift": torch.tensor(0.0)}
    return comfy.sd.VAE(sd=weights)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_tiny_autoencoders_are_a_bridge(base, adapted, scale):
    """taesd and taesdxl between models of SD1.5 and SDXL, the pair at the target's size and at half of it."""

    class OnSDXLLatents(comfy.supported_models.SD15):
        latent_format = comfy.latent_formats.SDXL

    target = model(3, family=OnSDXLLatents)
    vaes = {"source_vae": tiny_autoencoder(4, 0.18215, 1), "target_vae": tiny_autoencoder(4, 0.13025, 2)}
    delta = option("DeltaResolution", pair(base, adapted), scale=scale)
    delta = option("DeltaBridge", delta, bridge=run_node("LatentBridgeVAE", **vaes))
    sizes = []
    with seen(base, lambda x: sizes.append(tuple(x.shape[2:]))):
        found = advanced_sampler(target, delta, latent_image=latent(1, 16))["samples"]
    assert set(sizes) == {(int(16 * scale),) * 2}
    assert torch.isfinite(found).all()
    plain = advanced_sampler(target, pair(base, base), latent_image=latent(1, 16))["samples"]
    assert relative_error(found, plain) > 1e-3


def test_vaes_of_two_scales_leave_the_pairs_noise_as_it_is():
    """One picture in the latents of SD1.5 and of SDXL, which each model scales to its own: as noisy for both."""
    levels = {"source": [], "target": []}

    def noted(role, form):
        def predict(x, ratio):
            levels[role].append(ratio.flatten()[0].item())
            return x * 0

        return denoiser(predict, latent_format=form)

    vaes = {"source_vae": tiny_autoencoder(4, 0.18215, 1), "target_vae": tiny_autoencoder(4, 0.13025, 1)}
    delta = pair(noted("source", SD15), denoiser(lambda x, ratio: x * 0, latent_format=SD15))
    delta = option("DeltaBridge", delta, bridge=run_node("LatentBridgeVAE", **vaes))
    advanced_sampler(noted("target", comfy.latent_formats.SDXL), delta, cfg=1.0)
    assert levels["source"][1:] == pytest.approx(levels["target"][1:], rel=0.02)


def test_a_fit_without_pictures_makes_its_own(vaes):
    """The same at every call; between equal VAEs the fit is exact."""
    given = {name: [vaes[0]] for name in ("source_vae", "target_vae")}
    made, again = (run_node("LatentBridgeFit", **given, scale=[1.0]) for _ in range(2))
    assert torch.equal(made.to_source.weight, again.to_source.weight)
    assert not made.lossy


@pytest.mark.parametrize("name", ["LatentBridgeFit", "LatentBridgeVAE"])
def test_a_vae_whose_latents_are_smaller_than_the_host_says(name):
    """As those of taef2 are: at 1/16, and 1/8 by the host."""
    finer, coarser = vae(4, 1), vae(4, 2, levels=5)
    coarser.downscale_ratio = 8
    given = {"source_vae": finer, "target_vae": coarser}
    if name == "LatentBridgeFit":
        given = {key: [each] for key, each in given.items()} | {"scale": [1.0]}
    made = run_node(name, **given)
    assert (made.source.downscale, made.target.downscale) == (8, 16)
    assert made.to_source(torch.zeros(1, 4, 4, 4)).shape == (1, 4, 8, 8)
    assert made.to_target(torch.zeros(1, 4, 8, 8)).shape == (1, 4, 4, 4)


def test_a_fit_at_a_lower_resolution_leads_there_by_itself(vaes, images, base, adapted):
    source_vae, target_vae = vaes[0], vae(4, 3)
    lists = {"images": [images], "source_vae": [source_vae], "target_vae": [target_vae], "scale": [0.5]}
    fitted_bridge = run_node("LatentBridgeFit", **lists)
    assert fitted_bridge.source.downscale == 16
    assert fitted_bridge.to_source(torch.zeros(1, 4, 16, 16)).shape == (1, 4, 8, 8)
    delta, sizes = option("DeltaBridge", pair(base, adapted), bridge=fitted_bridge), []
    with seen(base, lambda x: sizes.append(tuple(x.shape[2:]))):
        alone = advanced_sampler(model(3), delta, latent_image=latent(1, 16))["samples"]
        named = option("DeltaResolution", delta, scale=0.5)
        assert torch.equal(advanced_sampler(model(3), named, latent_image=latent(1, 16))["samples"], alone)
    assert set(sizes) == {(8, 8)}


def test_latents_of_an_odd_size_and_of_several_frames_are_refused():
    def target_of(axes, downscale, channels):
        mean = torch.zeros(1, channels, 1, 1)
        return denoiser(normal(mean, 1.0), latent_format=latents(channels, axes, downscale))

    video, picture, coarse = target_of(3, 8, 4), target_of(2, 8, 4), target_of(2, 16, 128)
    way = bridge((128, 16), (4, 8), torch.eye(128, 16), torch.eye(16, 128))
    delta = option("DeltaBridge", pair(coarse, coarse), bridge=way)
    message = refusal(advanced_sampler, picture, delta, latent_image={"samples": torch.zeros(1, 4, 9, 13)})
    assert "is 13x9" in message and "multiples of 2" in message
    delta = option("DeltaBridge", pair(picture, picture), bridge=bridge((4, 8), (4, 8), torch.eye(4), torch.eye(4)))
    message = refusal(advanced_sampler, video, delta, latent_image={"samples": torch.zeros(1, 4, 5, 8, 8)})
    assert "[1, 4, 5, 8, 8]" in message and "one frame" in message
