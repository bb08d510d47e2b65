"""What a run notes of its deltas, and the report that is drawn of it."""

import pytest
import torch

from harness.nodes import node, of_the_pack, option

from .gaussian import denoiser
from .tiny import advanced_sampler, combine, latent, pair


def constant(value):
    return denoiser(lambda x, ratio: torch.full_like(x, value))


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


def test_a_report_is_a_picture_with_a_row_for_each_delta():
    one = pair(constant(0.0), constant(1.0))
    two = option("DeltaReuse", pair(constant(0.0), constant(2.0)), every=2)
    together = combine(one, two)
    for delta in (one, together):
        out = advanced_sampler(constant(1.0), delta, steps=6)
    single, both = (node("DeltaReport").execute(delta=d, samples=out).result[0] for d in (one, together))
    assert single.shape[0] == 1 and single.shape[3] == 3 and single.dtype == torch.float32
    assert both.shape[1] == 2 * single.shape[1] and both.shape[2] == single.shape[2] == 1200
    assert both.min() >= 0 and both.max() <= 1 and both.std() > 0.1


def test_a_report_before_the_run_is_refused(base, adapted):
    error = of_the_pack("sampling.errors").DeltaError
    with pytest.raises(error, match="Connect samples to the output of the sampler"):
        node("DeltaReport").execute(delta=pair(base, adapted), samples=latent())
