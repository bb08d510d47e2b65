"""What a run notes of its deltas, and the report that is drawn of it."""

import math
import sys

import pytest
import torch

from harness.nodes import node, of_the_pack, option

from .gaussian import denoiser
from .tiny import advanced_sampler, combine, latent, pair


def constant(value):
    return denoiser(lambda x, ratio: torch.full_like(x, value))


BLUE, ORANGE = (0x1F, 0x7A, 0xC4), (0xD0, 0x59, 0x0A)

traces = of_the_pack("sampling.host.run").last_traces


def numbers(delta):
    return [trace.numbers() for trace in traces(delta)]


def test_the_trace_of_a_known_delta():
    """The target says 2 everywhere, the pair's difference is -1, at half strength: a quarter, straight against it."""
    delta = pair(constant(0.5), constant(-0.5), 0.5)
    advanced_sampler(constant(2.0), delta, steps=5, latent_image=latent(2))
    (found,) = numbers(delta)
    assert found["size"] == pytest.approx([0.25] * 5)
    assert found["cosine"] == pytest.approx([-1.0] * 5)
    assert found["evaluated"] == [True] * 5
    assert found["sigma"] == sorted(found["sigma"], reverse=True)
    torch.testing.assert_close(traces(delta)[0].heat, torch.full((8, 8), 2.5))


def test_options_show_in_the_trace():
    left = torch.zeros(1, 64, 64)
    left[..., :32] = 1
    delta = option("DeltaReuse", option("DeltaMask", pair(constant(0.0), constant(1.0)), mask=left), every=2)
    delta = option("DeltaSchedule", delta, end_percent=0.9)
    advanced_sampler(constant(1.0), delta, "heun", steps=8)
    (found,) = numbers(delta)
    assert found["evaluated"][0] and not all(found["evaluated"])
    assert len(found["size"]) < 15
    assert traces(delta)[0].heat[:, :3].min() > 0 and traces(delta)[0].heat[:, 5:].max() == 0


def test_a_trace_is_that_of_the_last_run(base, adapted):
    delta = pair(base, adapted)
    for steps in (6, 3):
        advanced_sampler(base, delta, steps=steps)
    (found,) = numbers(delta)
    assert len(found["size"]) == 3


def test_a_run_notes_nothing_on_other_copies_of_its_delta():
    """A report belongs to the DELTA that was wired to the sampler."""
    delta = pair(constant(0.0), constant(1.0))
    advanced_sampler(constant(1.0), delta, steps=3)
    weaker = option("DeltaSchedule", delta, strength_start=0.5)
    advanced_sampler(constant(1.0), weaker, steps=5)
    assert [found["size"] for found in numbers(delta)] == [pytest.approx([1.0] * 3)]
    assert [found["size"] for found in numbers(weaker)] == [pytest.approx([0.5] * 5)]


def test_one_delta_twice_is_noted_twice_and_once_a_call():
    delta = pair(constant(0.0), constant(1.0))
    twice = combine(delta, delta)
    advanced_sampler(constant(1.0), twice, steps=4)
    assert [len(found["size"]) for found in numbers(twice)] == [4, 4]
    assert numbers(delta) == []


def hues(picture):
    """How many pixels of `picture` [H, W, 3] have the blue of an evaluated call, and the orange of a reused one."""
    return [((picture * 255).round() == torch.tensor(hue)).all(dim=-1).sum().item() for hue in (BLUE, ORANGE)]


def test_a_report_is_a_picture_with_a_row_for_each_delta():
    one = pair(constant(0.0), constant(1.0))
    two = option("DeltaReuse", pair(constant(0.0), constant(2.0)), every=2)
    together = combine(one, two)
    for delta in (one, together):
        out = advanced_sampler(constant(1.0), delta, steps=6)
    single, both = (node("DeltaReport").execute(delta=d, samples=out).result[0] for d in (one, together))
    assert single.shape == (1, 340, 1200, 3) and both.shape == (1, 680, 1200, 3) and single.dtype == torch.float32
    assert both.min() >= 0 and both.max() <= 1
    above, below = both[0, :340, :900], both[0, 340:, :900]  # less the place, whose colours are others
    blue, orange = hues(above)
    assert blue > 200 and orange == 0
    blue, orange = hues(below)
    assert blue > 100 and orange > 100


def test_marks_lie_at_the_numbers_and_heat_where_the_delta_acted():
    """Straight against the target in half of the picture: 135 degrees. A steady size lies near the top."""
    left = torch.zeros(1, 64, 64)
    left[..., :32] = 1
    delta = option("DeltaMask", pair(constant(0.5), constant(-0.5)), mask=left)
    out = advanced_sampler(constant(2.0), delta, steps=6)
    picture = node("DeltaReport").execute(delta=delta, samples=out).result[0][0]
    blue = ((picture * 255).round() == torch.tensor(BLUE)).all(dim=-1)
    rows = [part.any(dim=1).nonzero()[:, 0] for part in (blue[:300, 60:450], blue[:300, 510:900])]
    for found, middle in zip(rows, (276 - 242 / 1.08, 276 - 242 * 135 / 180), strict=True):
        assert found.max() - found.min() < 8 and abs(found.float().mean() - middle) < 2
    heat = picture[34:276, 932:1182].mean(dim=-1)
    assert heat[:, 10:100].min() > heat[:, -100:-10].max()


def test_a_report_needs_no_plotting_library(monkeypatch):
    """ComfyUI installs none."""
    delta = pair(constant(0.0), constant(1.0))
    out = advanced_sampler(constant(1.0), delta, steps=3)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in ("nodes.charts", "nodes.drawing", "nodes.report"):
        monkeypatch.delitem(sys.modules, of_the_pack(name).__name__)
    anew = of_the_pack("nodes.report").DeltaReport
    assert anew is not node("DeltaReport")
    assert anew.execute(delta=delta, samples=out).result[0].shape == (1, 340, 1200, 3)


@pytest.mark.parametrize("sizes", [(1.0, math.nan, math.inf, 0.5), (math.nan,), (0.0, 0.0), (1e12, 1e-12)])
@pytest.mark.parametrize("heat", [torch.full((8, 8), math.nan), torch.rand(1, 4096), torch.rand(4096, 1)])
def test_a_report_is_drawn_of_any_numbers(sizes, heat):
    """What is not finite is left out, and long latents are thin."""
    traced = of_the_pack("sampling.trace")
    entries = [traced.Entry(*torch.tensor([1.0, size, 0.0]), evaluated=True) for size in sizes]
    report = of_the_pack("nodes.drawing").draw([traced.Trace(entries, heat)])
    assert report.isfinite().all() and hues(report[0])[0] > 0


def test_a_report_before_the_run_is_refused(base, adapted):
    error = of_the_pack("sampling.errors").DeltaError
    with pytest.raises(error, match="Connect samples to the output of the sampler"):
        node("DeltaReport").execute(delta=pair(base, adapted), samples=latent())
