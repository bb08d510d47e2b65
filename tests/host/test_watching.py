"""Who watches a run is told what each call added; nobody else costs anything."""

import pytest
import torch

from harness.nodes import of_the_pack, option

from .tiny import combine, ksampler, pair

run = of_the_pack("sampling.host.run")


class Watcher:
    def __init__(self):
        self.steps, self.calls = [], []

    def __call__(self, steps):
        self.steps.append(steps)
        return self.calls.append


def test_a_watcher_gets_one_entry_a_call(base, adapted):
    whole = option("DeltaSchedule", pair(base, adapted), start_percent=0.3)
    deltas = combine(whole, option("DeltaReuse", pair(base, adapted, 0.5), every=2))
    watcher = Watcher()
    plain = ksampler(run.with_deltas(base, deltas), steps=6)
    assert torch.equal(ksampler(run.with_deltas(base, deltas, watcher), steps=6), plain)
    assert watcher.steps == [6] and len(watcher.calls) == 6
    late, reused = zip(*watcher.calls, strict=True)
    assert late[0] is None and late[-1] is not None
    assert [evaluated for _, evaluated in reused] == [True, False] * 3
    for trace, seen in zip(run.last_traces(deltas), (late, reused), strict=True):
        found = trace.numbers()
        assert [size for size, _ in filter(None, seen)] == pytest.approx(found["size"])
        assert [evaluated for _, evaluated in filter(None, seen)] == found["evaluated"]


def test_each_run_is_a_new_one_and_a_sampler_may_call_more_than_once_a_step(base, adapted):
    watcher = Watcher()
    model = run.with_deltas(base, pair(base, adapted), watcher)
    for steps in (4, 3):
        ksampler(model, "heun", steps=steps)
    assert watcher.steps == [4, 3]
    assert len(watcher.calls) == 7 + 5


def test_samplers_that_use_the_unconditional_part_are_watched_alike(base, adapted):
    watcher = Watcher()
    ksampler(run.with_deltas(base, pair(base, adapted), watcher), "euler_cfg_pp", steps=3)
    assert len(watcher.calls) == 3 and all(len(call) == 1 for call in watcher.calls)


def test_nothing_is_read_where_nobody_watches(base, adapted, monkeypatch):
    def read(entries):
        raise AssertionError("read for nobody")

    monkeypatch.setattr(run, "sizes", read)
    delta = pair(base, adapted)
    for watch in (None, lambda steps: None):
        ksampler(run.with_deltas(base, delta, watch))
    with pytest.raises(AssertionError, match="read for nobody"):
        ksampler(run.with_deltas(base, delta, Watcher()))


def test_a_node_outside_of_the_queue_has_no_chart():
    assert of_the_pack("nodes.live").chart() is None
