"""Scratch: candidates for a better default."""
import argparse, sys
from functools import partial
from pathlib import Path
import torch
from contextlib import contextmanager
from harness.nodes import of_the_pack, run_node
from . import measure as M, networks, world
from .runs import CFG, Runs, across, bridges, chained, option, conditioning, decoded, SCHEDULERS
import comfy.samplers

@contextmanager
def apart(on):
    P = of_the_pack("sampling.prepared_delta").PreparedDelta
    old = P.__dict__["is_lossy"]
    P.is_lossy = property(lambda self: on and self.adapted is not None)
    try: yield
    finally: P.is_lossy = old

def with_apart(on, method):
    def sample(names, seed):
        with apart(on): return method(names, seed)
    return sample

def langevin(n, snr):
    def function(model, x, sigmas, extra_args=None, callback=None, disable=None, **k):
        gen = torch.Generator(device="cpu").manual_seed(5)
        s_in = x.new_ones([x.shape[0]])
        for i in range(len(sigmas)-1):
            s = sigmas[i]
            for _ in range(n if i else 0):
                d = model(x, s*s_in, **extra_args)
                eps = 2*(snr*s)**2
                x = x + eps*(d-x)/s**2 + (2*eps)**.5*torch.randn(x.shape, generator=gen).to(x)*0.5**.5*1.0
            d = model(x, s*s_in, **extra_args)
            x = d + (x-d)*(sigmas[i+1]/s)
        return x
    return comfy.samplers.KSAMPLER(function)

def candidates(runs, target, style):
    adapted, oracle, over = f"source_{style}", f"{target}_{style}", across(target)
    def delta(change=None, over=over, cfg=CFG, tcfg=CFG, **how):
        def sample(names, seed):
            how2 = {k:(v if k!="said" else [""]*len(names)) for k,v in how.items()}
            made = over(runs.pair(names, adapted, cfg=cfg, **how2))
            return runs.sample(target, names, seed, [change(made) if change else made], cfg=tcfg)
        return sample
    for s in (0.7, 1.0, 1.4):
        yield "states apart", f"{s:g}", with_apart(True, delta(strength=s))
    if target == "flow_target":
        for name, b in bridges().items():
            for on in (True, False):
                yield f"bridge, apart {on}", name, with_apart(on, delta(over=b))
        yield "lossless asked", "paper 1.4", with_apart(False, delta(strength=1.4))
    yield "empty pair", "1", delta(said=1)
    yield "empty pair", "1.4", delta(said=1, strength=1.4)
    def half(first_empty):
        def sample(names, seed):
            e=[""]*len(names)
            a = over(runs.pair(names, adapted, said=e if first_empty else None))
            b = over(runs.pair(names, adapted, said=None if first_empty else e))
            a = option("DeltaSchedule", end_percent=0.4)(a); b = option("DeltaSchedule", start_percent=0.4)(b)
            return runs.sample(target, names, seed, [a, b])
        return sample
    yield "empty pair first 40 %", "1", half(True)
    yield "empty pair after 40 %", "1", half(False)
    yield "mixed prompt", "half empty", lambda names, seed: runs.sample(target, names, seed, [over(runs.pair(names, adapted, strength=0.5)), over(runs.pair(names, adapted, strength=0.5, said=[""]*len(names)))])
    yield "pair cfg", "1.5", delta(cfg=1.5)
    yield "pair cfg", "4", delta(cfg=4.0)
    yield "target cfg 4", "1", delta(tcfg=4.0)
    yield "both cfg 4", "1", delta(tcfg=4.0, cfg=4.0)
    yield "both cfg 1", "1", delta(tcfg=1.0, cfg=1.0)
    if target == "target":
        for n, snr, on in ((2, 0.15, False), (4, 0.15, False), (2, 0.15, True)):
            def sample(names, seed, n=n, snr=snr):
                model = run_node("DeltaModel", model=runs.model(target), delta=runs.pair(names, adapted))
                sig = run_node("BasicScheduler", model=model, scheduler="karras", steps=20, denoise=1.0)
                out = run_node("SamplerCustom", model=model, add_noise=True, noise_seed=seed, cfg=CFG, positive=conditioning(names), negative=conditioning([""]*len(names)), sampler=langevin(n, snr), sigmas=sig, latent_image={"samples": torch.zeros(len(names), 12, 16, 16)})
                return decoded(target, out["samples"])
            yield "langevin", f"{n} {snr} apart {on}", with_apart(on, sample)

M.methods = candidates
if __name__ == "__main__":
    M.main()
