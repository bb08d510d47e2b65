"""The lab's world, coders and weights."""

import numpy as np
import pytest
import torch

from lab import drawings, judge, latents, lora, networks, storage, world


@pytest.fixture(scope="module")
def drawn():
    """One drawing for each set and name: a disc in a corner, in a colour of its own."""
    y, x = np.mgrid[: drawings.PIXELS, : drawings.PIXELS] / drawings.PIXELS
    disc = ((x - 0.3) ** 2 + (y - 0.4) ** 2 < 0.06).astype(np.uint8)
    colours = np.random.default_rng(1).integers(0, 200, (len(world.SETS), len(world.NAMES), 3, 1, 1), dtype=np.uint8)
    alpha = np.broadcast_to(255 * disc, (*colours.shape[:2], 1, *disc.shape))
    return torch.from_numpy(np.concatenate([colours * disc, alpha], 2))


@pytest.mark.parametrize("size", [64, 128])
def test_drawings_are_laid_out_at_random_on_pale_grounds(drawn, size):
    made = drawings.Drawings(drawn, world.SOURCE_SETS, range(len(world.NAMES)), size)
    images, labels, _ = made.draw(64, torch.Generator().manual_seed(1))
    assert images.shape == (64, 3, size, size) and images.min() >= -1 and images.max() <= 1
    assert (images[:, :, 0, 0] >= 0.59).all() and len(labels.unique()) > 24
    shares = networks.silhouette(images).mean((1, 2, 3))
    assert shares.min() > 0.05 and shares.max() < 0.3 and shares.std() > 0.01


def test_the_groups_are_apart_and_each_model_knows_its_own():
    assert len(set(world.NAMES)) == len(world.NAMES) == 48
    assert set(world.BASES["source"].names) == set(world.TRAINED + world.KNOWN)
    bases = {*world.SOURCE_SETS, *world.TARGET_SETS}
    assert not bases & {*world.STYLES.values(), world.HELD_BACK}


def test_patches_come_back_but_for_the_components_that_are_left_out(drawn):
    images = drawings.Drawings(drawn, world.SOURCE_SETS, range(len(world.NAMES)), 64).draw(64)[0]
    coder = latents.PatchLatents()
    share = coder.fit(images)
    error = (coder.decode(coder.encode(images)) - images).square().mean() / images.var()
    assert error < 1.5 * (1 - share) and share > 0.9
    weight, bias = coder.rgb_factors()
    preview = torch.einsum("bchw,cr->brhw", coder.encode(images), weight) + bias[:, None, None]
    assert (preview - torch.nn.functional.avg_pool2d(images, latents.FACTOR)).abs().mean() < 0.02


def test_a_name_that_was_never_trained_is_the_empty_prompt():
    net = storage.base("source")
    x, t = torch.randn(2, net.channels, 16, 16, generator=torch.Generator().manual_seed(1)), torch.tensor([300.0, 700])
    labels = (world.labels([name] * 2) for name in ("airplane", "candy", ""))
    known, unknown, none = (networks.one_hot(torch.tensor(both)) for both in labels)
    assert torch.equal(net(x, t, unknown), net(x, t, none)) and not torch.equal(net(x, t, known), net(x, t, none))


def test_the_weights_stay_small():
    assert sum(file.stat().st_size for file in storage.WEIGHTS.iterdir()) <= 8_000_000


def test_weights_are_kept_to_a_hundredth(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "WEIGHTS", tmp_path)
    state = {"layer.weight": torch.randn(8, 4, 3, 3), "layer.bias": torch.randn(8)}
    storage.save("net", state)
    for key, value in storage.stored("net").items():
        assert (value - state[key]).norm() < 0.01 * state[key].norm()


def test_a_lora_starts_at_nothing_and_its_parts_are_the_whole():
    net = networks.SourceNet()
    plain = {name: weight.clone() for name, weight in net.named_parameters()}
    lora.add(net, rank=2)
    layer = net.blocks_down[0].conv1
    assert torch.equal(layer.weight, plain["blocks_down.0.conv1.weight"])
    torch.nn.init.normal_(layer.parametrizations.weight[0].up)
    parts = lora.parts(net)
    change = (parts["blocks_down.0.conv1.up"] @ parts["blocks_down.0.conv1.down"]).view_as(layer.weight)
    torch.testing.assert_close(layer.weight, plain["blocks_down.0.conv1.weight"] + change)
    assert "condition.name.up" not in parts


def test_the_judge_reads_every_image():
    images = torch.rand(3, 3, 128, 128) * 2 - 1
    names, styles = judge.read(storage.load_judge(), images)
    assert names.shape == styles.shape == (3,) and names.max() <= judge.NONE and styles.max() < len(judge.STYLES)
