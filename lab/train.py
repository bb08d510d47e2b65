"""Trains the family's networks.

Weights land in lab/weights/<name>.safetensors (float16, metadata says how they came to be).
"""

import math

import numpy as np
import torch
from torch.nn import functional
from torch.optim import swa_utils
from tqdm import tqdm

from . import autoencoder, denoisers, diffusion, judge, lifted, shapes
from .denoisers import one_hot
from .storage import load, load_autoencoder, save

CPU_TYPE = torch.bfloat16  # arithmetic of the convolutions during training; weights stay float32


def averaged(model, decay):
    """A moving average of a model's weights, with a short memory at first: the random start is forgotten."""

    def step(ours, theirs, count):
        return ours + (theirs - ours) * (1 - torch.clamp((count + 1) / (count + 11), max=decay))

    return swa_utils.AveragedModel(model, avg_fn=step, use_buffers=True).requires_grad_(False)


def optimise(model, loss_of_step, steps, rate, title, decay=0.999, spared=(), keep=None):
    """Runs AdamW with a warm-up and a cosine decay; returns the averaged model.

    Parameters whose name contains a word of `spared` get no weight decay.
    `keep(model, step)` is called with the averaged model every 1000 steps.
    """

    def is_spared(name):
        return any(word in name for word in spared)

    groups = [
        {"params": [p for n, p in model.named_parameters() if is_spared(n) == flag], "weight_decay": decayed}
        for flag, decayed in ((False, 0.01), (True, 0.0))
    ]
    optimiser = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.99))
    warm = 100

    def factor(k):
        return min((k + 1) / warm, 0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * k / steps)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
    average, bar, shown = averaged(model, decay), tqdm(range(steps), title, mininterval=10, ascii=True), None
    for step in bar:
        value = loss_of_step(model, step)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        schedule.step()
        average.update_parameters(model)
        shown = value.item() if shown is None else 0.99 * shown + 0.01 * value.item()
        bar.set_postfix_str(f"loss {shown:.4f}", refresh=False)
        if keep and (step + 1) % 1000 == 0:
            keep(average.module, step + 1)
    return average.module.eval()


def train_autoencoder(name="autoencoder", steps=2200, polish=1900, batch=32, seed=1, share=1.0, fineness=1):
    """First on all looks alike, then mostly on those two that are ever sampled.

    `share` is that of the full pool of pictures. Of finer pictures it sees pieces of 64x64.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = autoencoder.made(name).to(memory_format=torch.channels_last)

    def piece(pictures):
        y, x = rng.integers(0, pictures.shape[1] - 64 + 1, 2)
        return pictures[:, y : y + 64, x : x + 64]

    def train_on(model, sizes, count, rate, noise, title):
        drawn = [
            shapes.draw(rng, rng.integers(-1, len(shapes.CLASSES), round(share * n)), look, fineness=fineness)
            for n, look in zip(sizes, shapes.LOOKS, strict=True)
        ]
        pool = np.concatenate(drawn)

        def loss_of_step(model, step):
            chosen = pool[rng.integers(0, len(pool), batch)]
            picture = autoencoder.to_model(piece(chosen) if fineness > 1 else chosen)
            picture = picture.to(memory_format=torch.channels_last)
            with torch.autocast("cpu", CPU_TYPE):
                return autoencoder.loss(model, picture, noise)

        return optimise(model, loss_of_step, count, rate, title, decay=0.995), drawn

    model, _ = train_on(model, (6000, 6000, 6000), steps, 2e-3, 0.08, f"{name} 1")
    model.train().requires_grad_(True)
    model, (base, styled, _) = train_on(model, (7000, 9000, 2000), polish, 1.5e-3, 0.05, f"{name} 2")
    model.fold(autoencoder.to_model(np.concatenate([base[:1000], styled[:1000]])))
    facts = dict(trained_on="base, styled and wild pictures", steps=steps + polish, batch=batch, seed=seed)
    save(name, model.state_dict(), **facts)


def train_large_autoencoder():
    train_autoencoder("large_autoencoder", 1800, 1400, seed=101, share=0.4, fineness=2)


def picture_latents(model, rng, labels, look, shrink=1, fineness=1):
    """Draws pictures, `shrink` times smaller or `fineness` times larger, and encodes them.

    Returns latents [n,4,h,w] and labels, as tensors.
    """
    labels, parts = np.sort(labels), []
    with torch.no_grad():
        for part in np.array_split(labels, max(1, len(labels) // 250)):
            pictures = autoencoder.to_model(shapes.draw(rng, part, look, fineness=fineness))
            parts.append(model.encode(functional.avg_pool2d(pictures, shrink)))
    return torch.cat(parts), torch.as_tensor(labels)


WILD_SHARE, WILD_NOISE = 0.1, torch.tensor(0.83)  # wild pictures get at most this noise-to-signal ratio
UNNAMED_SHARE, DROPPED_SHARE = 0.25, 0.12


def train_denoiser(
    name,
    make,
    classes,
    look,
    steps,
    rate,
    seed,
    batch=32,
    start=None,
    pool=32000,
    shrink=1,
    go_on=False,
):
    """Trains one denoiser on a pool of pictures, or fine-tunes the one called `start`; with `go_on` a second sitting.

    A base model also sees wild pictures, but only at low noise: there a
    denoiser merely cleans up what is already drawn, whatever it is.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    coder = load_autoencoder(make.coder)
    unnamed = int(pool * UNNAMED_SHARE)
    labels = np.concatenate([np.full(unnamed, shapes.UNNAMED), rng.choice(classes, pool - unnamed)])
    clean, labels = picture_latents(coder, rng, labels, look, shrink, make.fineness)
    wild = 0 if start else round(batch * WILD_SHARE)
    if wild:
        wild_labels = rng.choice([shapes.UNNAMED, *classes], pool // 4)
        wild_clean, wild_labels = picture_latents(coder, rng, wild_labels, "wild", shrink, make.fineness)
    model = make().to(memory_format=torch.channels_last)
    wild_timesteps = diffusion.timestep(model, diffusion.own_sigma(model, WILD_NOISE))
    if start or go_on:
        load(name if go_on else start, model).train().requires_grad_(True)

    def loss_of_step(model, step):
        chosen = torch.randint(len(clean), (batch,))
        x, known = clean[chosen], labels[chosen]
        t = diffusion.even_timesteps(model, batch)
        if wild:
            chosen = torch.randint(len(wild_clean), (wild,))
            x[:wild], known[:wild] = wild_clean[chosen], wild_labels[chosen]
            t[:wild] = torch.rand(wild) * wild_timesteps
        if model.channels == lifted.CHANNELS:
            x = lifted.lift(x)
        context = one_hot(known) * (torch.rand(batch, 1, 1) >= DROPPED_SHARE)
        x = x.to(memory_format=torch.channels_last)
        with torch.autocast("cpu", CPU_TYPE):
            return diffusion.training_loss(model, x, context, t, torch.randn_like(x))

    facts = dict(
        classes=" ".join(shapes.CLASSES[k] for k in classes),
        look=look,
        batch=batch,
        rate=rate,
        seed=seed,
        prediction=model.prediction,
        architecture=type(model).__name__,
        fine_tuned_from=start or "nothing",
    )

    def keep(average, step):
        return save(name, average.state_dict(), start, steps=step, **facts)

    model = optimise(model, loss_of_step, steps, rate, name, spared=("condition.name",), keep=keep)
    save(name, model.state_dict(), start, steps=steps, **facts)


def train_source(steps=9000):
    train_denoiser("source", denoisers.SourceNet, shapes.SEEN, "base", steps, 1e-3, seed=11)


def train_adapted(steps=3500):
    train_denoiser("adapted", denoisers.SourceNet, shapes.SEEN, "style", steps, 5e-4, seed=12, start="source")


def train_target(steps=6500):
    train_denoiser("target", denoisers.TargetNet, shapes.SEEN + shapes.UNSEEN, "base", steps, 1e-3, seed=21)


def train_oracle(steps=1500):
    train_denoiser(
        "oracle", denoisers.TargetNet, shapes.SEEN + shapes.UNSEEN, "style", steps, 5e-4, seed=22, start="target"
    )


def train_flow_target(steps=9000):
    train_denoiser("flow_target", denoisers.FlowNet, shapes.SEEN + shapes.UNSEEN, "base", steps, 2e-3, seed=41)


def train_flow_oracle(steps=2500):
    every = shapes.SEEN + shapes.UNSEEN
    train_denoiser("flow_oracle", denoisers.FlowNet, every, "style", steps, 1e-3, seed=42, start="flow_target")


def train_sibling(steps=1200):
    every = shapes.SEEN + shapes.UNSEEN
    train_denoiser("sibling", denoisers.SourceNet, every, "base", steps, 5e-4, seed=51, start="source")


def train_small_source(steps=5000):
    train_denoiser("small_source", denoisers.SmallNet, shapes.SEEN, "base", steps, 1e-3, seed=61, shrink=2)


def train_small_adapted(steps=2000):
    train_denoiser(
        "small_adapted", denoisers.SmallNet, shapes.SEEN, "style", steps, 5e-4, seed=62, start="small_source", shrink=2
    )


def train_large_target(steps=7000, more=5500):
    every = shapes.SEEN + shapes.UNSEEN
    how = dict(classes=every, look="base", batch=24)
    train_denoiser("large_target", denoisers.LargeNet, steps=steps, rate=1e-3, seed=121, pool=16000, **how)
    polish_large_target(more)


def polish_large_target(steps=5500):
    """A second sitting, on other pictures."""
    how = dict(classes=shapes.SEEN + shapes.UNSEEN, look="base", batch=24, pool=9000, go_on=True)
    train_denoiser("large_target", denoisers.LargeNet, steps=steps, rate=8e-4, seed=123, **how)


def train_large_oracle(steps=2000):
    every = shapes.SEEN + shapes.UNSEEN
    how = dict(seed=122, batch=24, pool=12000, start="large_target")
    train_denoiser("large_oracle", denoisers.LargeNet, every, "style", steps, 5e-4, **how)


def train_large_judge():
    train_judge("large_judge", seed=131, pool=5000, coder="large_autoencoder", fineness=2)


def train_judge(name="judge", steps=1500, batch=64, seed=31, pool=8000, coder="autoencoder", fineness=1):
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    pictures, kinds, styles = judge.training_pool(rng, load_autoencoder(coder), pool, fineness)
    model = judge.Judge(fineness).to(memory_format=torch.channels_last)

    def loss_of_step(model, step):
        chosen = torch.randint(len(pictures), (batch,))
        x = pictures[chosen].contiguous(memory_format=torch.channels_last)
        return judge.training_loss(model, x, kinds[chosen], styles[chosen])

    model = optimise(model, loss_of_step, steps, 2e-3, name, decay=0.995)
    save(name, model.state_dict(), trained_on="noisy base and styled pictures", steps=steps, batch=batch, seed=seed)
