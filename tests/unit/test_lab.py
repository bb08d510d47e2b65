"""The lab's shipped models, sampled without ComfyUI through the pure engine: what the README shows is there."""

import numpy as np
import pytest
import torch

from lab import adapters, autoencoder, diffusion, judge, lifted, product, shapes, storage
from lab.family import Family

LABELS = np.repeat(shapes.SEEN, 4)
TO_FLOW = {"crossing": "eps, 4 channels -> flow, 16 channels"}


@pytest.fixture(scope="module")
def family():
    torch.set_num_threads(1)
    return Family()


def score(family, column, **options):
    pictures = family.sample(column, LABELS, seed=2, steps=12, **options)
    return judge.style_score(family.judge, pictures), judge.class_score(family.judge, pictures, LABELS)


def test_the_delta_carries_the_style_and_keeps_the_class(family):
    style, kept = score(family, "target + delta")
    assert style > 0.9 and kept > 0.8


def test_the_target_itself_has_no_style(family):
    style, kept = score(family, "target")
    assert style < 0.1 and kept > 0.8


def test_the_flow_target_keeps_the_class_and_only_its_oracle_has_the_style(family):
    style, kept = score(family, "target", **TO_FLOW)
    assert style < 0.1 and kept > 0.8
    style, kept = score(family, "oracle", **TO_FLOW)
    assert style > 0.9 and kept > 0.8


def test_strength_0_is_the_target(family):
    plain = family.sample("target", LABELS[:2], seed=2, steps=4)
    assert torch.equal(family.sample("target + delta", LABELS[:2], seed=2, steps=4, strength=0.0), plain)


def test_a_name_that_was_never_trained_is_the_empty_prompt(family):
    unseen = family.sample("source", list(shapes.UNSEEN), seed=2, steps=4)
    assert torch.equal(family.sample("source", [shapes.UNNAMED] * 2, seed=2, steps=4), unseen)


def test_lowering_undoes_lifting():
    z = torch.randn(2, 4, 3, 5)
    assert torch.allclose(lifted.lower(lifted.lift(z)), z, atol=1e-6)
    assert torch.equal(lifted.LIFT.T @ lifted.LIFT, 4 * torch.eye(4))
    assert torch.equal(lifted.LIFT.square().sum(1), torch.ones(lifted.CHANNELS))


def test_a_flow_network_that_knows_the_answer_is_sampled_to_it():
    clean, noise = torch.randn(2, 1, 16, 8, 8).unbind()

    class Knowing:
        prediction = "flow"

        def __call__(self, x, t, context):
            sigma = t[:, None, None, None] / 1000
            assert torch.allclose(x, (1 - sigma) * clean + sigma * noise, atol=1e-5)
            return noise - clean

    net, sigmas = Knowing(), diffusion.schedule(Knowing(), 6)
    assert sigmas[0] == 1 and sigmas[-1] == 0 and (sigmas.diff() < 0).all()
    start = diffusion.pure_noise(net, noise, sigmas[0])
    made = diffusion.sample_euler(diffusion.guided(net, torch.zeros(1, 1, 6)), start, sigmas)
    assert torch.allclose(made, clean, atol=1e-5)
    assert diffusion.training_loss(net, clean, None, torch.tensor([300.0]), noise) == 0


def test_a_product_of_normal_distributions_is_reached_where_euler_steps_miss_it():
    """Of variances 1, 1/2 and 1/2 (source, adapted, target) that of the product is 1/3."""

    def normal(variance):
        return lambda x, sigma: x * variance / (variance + sigma.view(-1, 1, 1, 1) ** 2)

    source, adapted, target = normal(1.0), normal(0.5), normal(0.5)
    sigmas, count = diffusion.karras_sigmas(100), 2000

    def start(many=1):
        noise = torch.randn(count * many, 1, 1, 1, generator=torch.Generator().manual_seed(1))
        return noise * (1 + sigmas[0] ** 2).sqrt()

    def mixed(x, sigma):
        return target(x, sigma) + adapted(x, sigma) - source(x, sigma)

    assert diffusion.sample_euler(mixed, start(), sigmas).var() < 0.27
    assert abs(product.with_langevin(mixed, start(), sigmas, 16).var() - 1 / 3) < 0.03
    few, many = (product.with_particles(source, adapted, target, start(k), sigmas, k).var() for k in (1, 64))
    assert few < 0.29 < many < 1 / 3 + 0.03


def test_the_weights_stay_small():
    assert sum(file.stat().st_size for file in storage.WEIGHTS.iterdir()) <= 23_200_000


def test_a_fine_tune_is_kept_as_its_difference(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "WEIGHTS", tmp_path)
    base = {"layer.weight": torch.randn(8, 4, 3, 3), "layer.bias": torch.randn(8)}
    tuned = {key: value + 0.01 * torch.randn_like(value) for key, value in base.items()}
    storage.save("base", base)
    storage.save("tuned", tuned, start="base")
    kept, begun = storage.stored("tuned"), storage.stored("base")
    for key, value in tuned.items():
        assert (kept[key] - value).norm() < 0.02 * (value - begun[key]).norm()


def test_a_lora_is_kept_as_its_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "WEIGHTS", tmp_path)
    net = torch.nn.Sequential(torch.nn.Conv2d(4, 8, 3), torch.nn.Conv2d(8, 2, 1))
    storage.save("base", net.state_dict())
    net.load_state_dict(storage.stored("base"))
    tuned = adapters.add_low_rank(net, rank=2)
    for layer in tuned:
        torch.nn.init.normal_(layer.parametrizations.weight[0].up)
    storage.save("lora", adapters.low_rank_state(tuned), low_rank_on="base")
    kept = storage.stored("lora")
    for k, layer in enumerate(tuned):
        torch.testing.assert_close(kept[f"{k}.weight"], layer.weight, atol=0.02, rtol=0.01)


@pytest.mark.parametrize("look", ["base", "style"])
def test_a_silhouette_is_the_shape(look):
    drawn = shapes.draw(np.random.default_rng(1), [0, 1, 3, 5], look)
    pictures = autoencoder.to_model(drawn)
    found = adapters.silhouette(pictures)
    assert adapters.overlap(pictures, found) == 1
    assert all(0.05 < share < 0.5 for share in found.mean((1, 2, 3)).tolist())


def test_bands_are_seen_where_they_are():
    looks = ("base", "style", *shapes.BANDED)
    drawn = {look: shapes.draw(np.random.default_rng(5), [0, 1, 2, 3, 4, 5], look) for look in looks}
    contrast = {look: judge.band_contrast(autoencoder.to_model(pictures)) for look, pictures in drawn.items()}
    assert min(contrast["banded"].min(), contrast["both"].min()) > 0.25
    assert max(contrast["base"].max(), contrast["style"].max()) < 0.05
