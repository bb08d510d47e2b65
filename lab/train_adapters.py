"""Trains adapters of the lab's networks: a LoRA, a few-step LoRA and spatial controls."""

import itertools

import numpy as np
import torch

from . import adapters, denoisers, diffusion, shapes
from .denoisers import one_hot
from .storage import load, load_autoencoder, save
from .train import CPU_TYPE, DROPPED_SHARE, UNNAMED_SHARE, optimise, picture_latents

EVERY = shapes.SEEN + shapes.UNSEEN


def _labels(rng, classes, pool):
    unnamed = int(pool * UNNAMED_SHARE)
    return np.concatenate([np.full(unnamed, shapes.UNNAMED), rng.choice(classes, pool - unnamed)])


def _contexts(labels):
    """One-hot names, some of them left out at random."""
    return one_hot(labels) * (torch.rand(len(labels), 1, 1) >= DROPPED_SHARE)


def train_lora(name, base, make, classes, look, steps, seed, rank=4, rate=3e-3, batch=32, pool=16000):
    """A look as a LoRA of a network."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    clean, labels = picture_latents(load_autoencoder(), rng, _labels(rng, classes, pool), look)
    net = adapters.add_low_rank(load(base, make()).train(), rank)

    def loss_of_step(net, step):
        chosen = torch.randint(len(clean), (batch,))
        x, t = clean[chosen], diffusion.even_timesteps(net, batch)
        with torch.autocast("cpu", CPU_TYPE):
            return diffusion.training_loss(net, x, _contexts(labels[chosen]), t, torch.randn_like(x))

    keep = _keep_low_rank(name, base)
    keep(optimise(net, loss_of_step, steps, rate, name, keep=keep), steps)


def _keep_low_rank(name, base):
    return lambda net, step: save(name, adapters.low_rank_state(net), low_rank_on=base, steps=step)


def train_source_lora(steps=1500):
    train_lora("source_lora", "source", denoisers.SourceNet, shapes.SEEN, "style", steps, 71)


def train_banded_lora(steps=1500):
    """The second style."""
    train_lora("banded_lora", "source", denoisers.SourceNet, shapes.SEEN, "banded", steps, 73)


def train_both_oracle(steps=1200):
    """Both styles on the target."""
    train_lora("both_oracle", "oracle", denoisers.TargetNet, EVERY, "both", steps, 74)


def teacher_runs(teacher, count, seed, stages, substeps=6):
    """Return states at the levels of `stages` steps, those levels, labels and final latents of guided runs."""
    noise = torch.randn(count, teacher.channels, 16, 16, generator=torch.Generator().manual_seed(seed))
    labels = torch.as_tensor(np.resize(shapes.SEEN, count))
    sigmas = diffusion.karras_sigmas(stages)
    x, states = diffusion.pure_noise(teacher, noise, sigmas[0]), []
    for now, then in itertools.pairwise(sigmas):
        states.append(x)
        # Even in the logarithm; the last stage ends at zero.
        fine = torch.cat([torch.logspace(0, -1, substeps + 1)[:-1] * now, now.new_zeros(1)])
        if then > 0:
            fine = now * (then / now) ** torch.linspace(0, 1, substeps + 1)
        parts = zip(x.split(100), labels.split(100), strict=True)
        calls = ((part, diffusion.guided(teacher, one_hot(names), 2.0)) for part, names in parts)
        x = torch.cat([diffusion.sample_euler(call, part, fine) for part, call in calls])
    return states, sigmas[:-1], labels, x


def train_source_few_steps(steps=800, rank=16, batch=32, count=1200, stages=4, seed=81):
    """A few-step LoRA: from each of four noise levels straight to where the guided source ends."""
    torch.manual_seed(seed)
    states, sigmas, labels, final = teacher_runs(load("source", denoisers.SourceNet()), count, seed, stages)
    states = torch.stack(states)
    net = adapters.add_low_rank(load("source", denoisers.SourceNet()).train(), rank)

    def loss_of_step(net, step):
        chosen, stage = torch.randint(count, (batch,)), torch.randint(stages, (batch,))
        found = diffusion.denoised(net, states[stage, chosen], sigmas[stage], one_hot(labels[chosen]))
        return (found - final[chosen]).abs().mean()

    net = optimise(net, loss_of_step, steps, 2e-3, "source_few_steps")
    _keep_low_rank("source_few_steps", "source")(net, steps)


def train_control(name, base, make, classes, steps, seed, rate=2e-3, batch=32, pool=16000):
    """A control input by silhouettes, in the base look; the network itself stays as it is."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    coder = load_autoencoder()
    clean, labels = picture_latents(coder, rng, _labels(rng, classes, pool), "base")
    with torch.no_grad():
        maps = torch.cat([adapters.control_maps(coder.decode(part)) for part in clean.split(250)])
    net = adapters.Controlled(load(base, make()))

    def loss_of_step(net, step):
        chosen = torch.randint(len(clean), (batch,))
        x, t = clean[chosen], diffusion.even_timesteps(net, batch)
        context = adapters.with_map(_contexts(labels[chosen]), maps[chosen])
        with torch.autocast("cpu", CPU_TYPE):
            return diffusion.training_loss(net, x, context, t, torch.randn_like(x))

    def keep(net, step):
        save(name, net.control.state_dict(), control_of=base, steps=step)

    net = optimise(net, loss_of_step, steps, rate, name, keep=keep)
    keep(net, steps)


def train_source_control(steps=1500):
    train_control("source_control", "source", denoisers.SourceNet, shapes.SEEN, steps, 91)


def train_target_control(steps=1000):
    train_control("target_control", "target", denoisers.TargetNet, EVERY, steps, 92)
