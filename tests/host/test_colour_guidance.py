"""Guidance by the colours of a picture: what it sees, what it leaves alone, and how near the colours come."""

import pytest
import torch
from comfy.latent_formats import LatentFormat, Wan21
from comfy.patcher_extension import WrappersMP

from harness.nodes import of_the_pack, run_node

from .test_bridges import vae
from .tiny import delta_guider, delta_ksampler, delta_model, image_latent, ksampler, latent, model, pair

SAMPLERS = ["euler", "euler_ancestral", "dpmpp_2m", "dpmpp_sde", "uni_pc", "euler_ancestral_cfg_pp"]


def picture(seed=1, batch=1, height=64, width=64):
    """Pictures of coarse colours, [B, H, W, 3]."""
    coarse = torch.rand(batch, 3, height // 16, width // 16, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (height, width)).movedim(1, -1)


def guided(target, reference=None, **settings):
    reference = picture() if reference is None else reference
    return run_node(
        "DeltaColorGuidance",
        model=target,
        reference=reference,
        **{"start_percent": 0.0, "end_percent": 1.0, **settings},
    )


def distance(target, samples, reference):
    """How far the colours of sampled latents are from those of a picture, in the host's preview."""
    transport, spaces = of_the_pack("sampling.colour_transport"), of_the_pack("sampling.host.latent_spaces")
    preview = spaces.LatentSpace.of(target).preview
    colours = preview(target.model.process_latent_in(samples)).flatten(2).mT
    wanted = torch.nn.functional.avg_pool2d(reference.movedim(-1, 1), 8).flatten(2).mT * 2 - 1
    return transport.sliced_distance(colours, wanted, transport.directions())


class TestOff:
    @pytest.mark.parametrize("off", [{"strength": 0.0}, {"start_percent": 0.7, "end_percent": 0.3}])
    def test_nothing_is_put_on_the_model(self, base, off):
        assert guided(base, **off) is base

    @pytest.mark.parametrize("sampler", SAMPLERS)
    def test_outside_its_window_it_is_the_ksampler(self, base, sampler):
        """No call of these four steps lies in it."""
        found = ksampler(guided(base, start_percent=0.999, end_percent=0.9995), sampler)
        assert torch.equal(found, ksampler(base, sampler))


class TestColours:
    @pytest.mark.parametrize("sampler", SAMPLERS)
    def test_they_come_near_the_reference(self, base, sampler):
        plain, found = (distance(base, ksampler(each, sampler), picture()) for each in (base, guided(base)))
        assert found < 0.25 * plain

    def test_strength_is_a_share_of_the_way(self, base):
        found = [distance(base, ksampler(guided(base, strength=s)), picture()) for s in (0.1, 0.4, 1.0)]
        assert found[0] > 1.2 * found[1] > 1.2 * found[2]

    def test_places_of_the_reference_do_not_matter(self, base):
        turned = picture().flip(1, 2)
        assert torch.allclose(ksampler(guided(base, turned)), ksampler(guided(base)), atol=1e-4)

    def test_each_picture_has_its_own_or_all_have_one(self, base):
        references = picture(batch=2)
        run = {"latent_image": latent(2)}
        each = ksampler(guided(base, references), **run)
        both = [ksampler(guided(base, references[k : k + 1]), **run) for k in range(2)]
        for k in range(2):
            assert torch.allclose(each[k], both[k][k], atol=1e-4)
        assert not torch.allclose(both[0], both[1], atol=1e-2)

    @pytest.mark.parametrize("size", [(8, 8), (1, 6), (200, 330), (1500, 40)])
    def test_the_reference_may_have_any_size(self, base, size):
        assert ksampler(guided(base, torch.rand(1, *size, 3))).isfinite().all()

    def test_transparency_of_the_reference_is_left_out(self, base):
        clear = torch.cat([picture(), torch.rand(1, 64, 64, 1)], -1)
        assert torch.equal(ksampler(guided(base, clear)), ksampler(guided(base)))

    def test_with_a_vae_its_latents_are_the_reference(self, base):
        """Read as the prediction is read, colours of a VAE that knows none are met as they come."""
        coder = vae(4, 1)
        read = distance_of_latents(base, coder.encode(picture()), ksampler(guided(base, vae=coder)))
        assert read < 0.5 * distance_of_latents(base, coder.encode(picture()), ksampler(guided(base)))


def distance_of_latents(target, reference, samples):
    transport, spaces = of_the_pack("sampling.colour_transport"), of_the_pack("sampling.host.latent_spaces")
    preview = spaces.LatentSpace.of(target).preview
    colours = [preview(target.model.process_latent_in(each)).flatten(2).mT for each in (samples, reference)]
    return transport.sliced_distance(*colours, transport.directions())


class TestInARun:
    @pytest.mark.parametrize("sampler", ["euler", "euler_ancestral_cfg_pp"])
    def test_either_order_with_deltas_sees_the_sum(self, base, adapted, sampler):
        """As source and target are one, the sum is the adapted model."""
        target, delta = model(3), pair(base, adapted)
        before = ksampler(delta_model(guided(target), delta), sampler)
        behind = ksampler(guided(delta_model(target, delta)), sampler)
        assert torch.equal(before, behind)
        assert torch.equal(before, delta_ksampler(base, adapted, guided(target), sampler=sampler))
        whole = delta_ksampler(base, adapted, guided(base), sampler=sampler)
        assert torch.allclose(whole, ksampler(guided(adapted), sampler), atol=1e-3)

    def test_a_guider_of_this_pack_takes_it(self, base, adapted):
        from .tiny import custom_sampler

        delta = pair(base, adapted)
        found = custom_sampler(delta_guider(guided(model(3)), delta))
        assert not torch.allclose(found, custom_sampler(delta_guider(model(3), delta)), atol=1e-2)

    def test_what_a_mask_keeps_is_kept(self, base):
        mask = torch.zeros(1, 64, 64)
        mask[:, :, 32:] = 1
        image = image_latent(5, noise_mask=mask)
        found = ksampler(guided(base), latent_image=image)
        assert torch.allclose(found[..., :4], image["samples"][..., :4], atol=1e-5)
        assert not torch.allclose(found[..., 4:], ksampler(base, latent_image=image)[..., 4:], atol=1e-2)

    def test_the_model_is_as_before(self, base):
        plain = ksampler(base)
        weights = {name: value.clone() for name, value in base.model.state_dict().items()}
        ksampler(guided(base))
        assert torch.equal(ksampler(base), plain)
        assert not base.get_all_wrappers(WrappersMP.PREDICT_NOISE)
        assert all(torch.equal(value, weights[name]) for name, value in base.model.state_dict().items())

    def test_under_inference_mode_it_is_the_same(self, base):
        plain = ksampler(guided(base))
        with torch.inference_mode():
            assert torch.equal(ksampler(guided(base)), plain)

    def test_it_costs_no_model_call(self, base):
        from .tiny import seen

        calls = []
        with seen(base, lambda x: calls.append(len(x))):
            ksampler(guided(base))
        assert len(calls) == 4


class NoPreview(LatentFormat):
    latent_channels = 4


class TestErrors:
    def error(self, *words):
        return pytest.raises(of_the_pack("sampling.errors").DeltaError, match=".*".join(words))

    def formatted(self, base, latent_format):
        clone = base.clone()
        clone.add_object_patch("latent_format", latent_format)
        return clone

    def test_latents_without_a_preview(self, base):
        with self.error("NoPreview", "latent_rgb_factors", "Take it off"):
            guided(self.formatted(base, NoPreview()))

    def test_videos(self, base):
        wrapper = guided(self.formatted(base, Wan21())).get_all_wrappers(WrappersMP.PREDICT_NOISE)[0]
        for shape in ([1, 16, 3, 4, 4], [1, 1, 500], [1, 4, 4, 4]):
            with self.error(str(shape).replace("[", r"\["), "one frame"):
                wrapper(None, torch.zeros(shape), torch.ones(1))

    def test_another_number_of_references(self, base):
        with self.error("has 2 pictures", "3"):
            ksampler(guided(base, picture(batch=2)), latent_image=latent(3))

    @pytest.mark.parametrize("shape", [(0, 8, 8, 3), (1, 8, 8, 1), (8, 8, 3)])
    def test_no_pictures(self, base, shape):
        with self.error("has the shape", "Load Image"):
            guided(base, torch.zeros(shape))

    def test_broken_pictures(self, base):
        with self.error("1 values", "NaN"):
            guided(base, picture().index_fill(0, torch.tensor([0]), 0.5).put(torch.tensor(7), torch.tensor(torch.nan)))

    def test_another_models_vae(self, base):
        with self.error("16 channels", "4 channels", "Connect the VAE"):
            guided(base, vae=vae(16, 1))
