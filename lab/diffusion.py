"""Noise schedule, denoised predictions, training loss and a sampler.

Networks say in their attribute `prediction` how they are called and what they answer.

eps, v  The noisy state is x = x0 + sigma * noise. The schedule is Stable Diffusion's
        "scaled linear" one with 1000 steps. The network gets x / sqrt(1 + sigma^2).
flow    The noisy state is x = (1 - sigma) * x0 + sigma * noise, sigma 0..1. The network
        gets x itself and the timestep 1000 * sigma, and answers with noise - x0.
"""

import itertools

import torch

from . import lifted

STEPS = 1000
_betas = torch.linspace(0.00085**0.5, 0.012**0.5, STEPS, dtype=torch.float64) ** 2
_kept = torch.cumprod(1 - _betas, 0)
SIGMAS = ((1 - _kept) / _kept).sqrt().float()
LOG_SIGMAS = SIGMAS.log()


def sigma_of_t(t):
    """Noise level at a (fractional) timestep, interpolated in the logarithm."""
    t = t.float().clamp(0, STEPS - 1)
    table = LOG_SIGMAS.to(t.device)
    low = t.floor().long()
    high = (low + 1).clamp(max=STEPS - 1)
    return torch.lerp(table[low], table[high], t - low).exp()


def t_of_sigma(sigma):
    """The fractional timestep of a noise level; the inverse of sigma_of_t."""
    table = LOG_SIGMAS.to(sigma.device)
    value = sigma.float().clamp(min=SIGMAS[0].item()).log()
    high = torch.searchsorted(table, value).clamp(1, STEPS - 1)
    low = high - 1
    return low + ((value - table[low]) / (table[high] - table[low])).clamp(0, 1)


def timestep(net, sigma):
    """The network's timestep for its own noise level."""
    return sigma * STEPS if net.prediction == "flow" else t_of_sigma(sigma)


def own_sigma(net, ratio):
    """The network's own noise level that hides a picture as noise of `ratio` hides the autoencoder's latents."""
    if net.prediction != "flow":
        return ratio
    ratio = lifted.GAIN * ratio
    return ratio / (1 + ratio)


def _column(sigma, x):
    return sigma.to(x.dtype).view(-1, *[1] * (x.ndim - 1))


def denoised(net, x, sigma, context):
    """The network's estimate of the clean latent. sigma is a tensor [B], the network's own noise level."""
    s = _column(sigma, x)
    if net.prediction == "flow":
        return x - s * net(x, timestep(net, sigma), context)
    out = net(x / (1 + s * s).sqrt(), timestep(net, sigma), context)
    if net.prediction == "eps":
        return x - s * out
    return x / (1 + s * s) - out * s / (1 + s * s).sqrt()


def guided(net, context, scale=1.0):
    """A function (x, sigma) -> denoised with classifier-free guidance against the empty prompt, which is zeros."""
    empty = torch.zeros_like(context)

    def call(x, sigma):
        if scale == 1:
            return denoised(net, x, sigma, context)
        both = denoised(net, torch.cat([x, x]), torch.cat([sigma, sigma]), torch.cat([context, empty]))
        named, unnamed = both.chunk(2)
        return unnamed + scale * (named - unnamed)

    return call


def training_loss(net, clean, context, t, noise):
    """Squared error of the prediction, weighted so that all noise levels count about the same.

    For eps the weight makes it the squared error of v, which keeps enough of low noise for
    clean samples: an error e in eps is an error e * sqrt(1 + sigma^2) in v. t is a tensor [B].
    """
    if net.prediction == "flow":
        s = _column(t / STEPS, clean)
        return (net((1 - s) * clean + s * noise, t, context) - (noise - clean)).square().mean()
    s = _column(sigma_of_t(t), clean)
    scale = (1 + s * s).sqrt()
    out = net((clean + s * noise) / scale, t, context)
    if net.prediction == "eps":
        return ((out - noise) * scale).square().mean()
    return (out - (noise - s * clean) / scale).square().mean()


def even_timesteps(net, count):
    """Timesteps for training in random order: evenly spread, with random offsets for less chance in the loss.

    For flow it is sigma before lifting that is evenly spread. [count]
    """
    t = (torch.arange(count) + torch.rand(count)) / count * (STEPS - 1)
    t = t[torch.randperm(count)]
    return timestep(net, own_sigma(net, t / (STEPS - t))) if net.prediction == "flow" else t


def karras_sigmas(steps, low=0.03, high=None, rho=7.0):
    """Falling noise levels, dense at the low end, followed by zero."""
    high = SIGMAS[-1].item() if high is None else high
    ramp = torch.linspace(0, 1, steps)
    sigmas = (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def schedule(net, steps):
    """Falling noise levels of the network's own kind: Karras's, which for flow begin at exactly 1."""
    sigmas = own_sigma(net, karras_sigmas(steps))
    if net.prediction == "flow":
        sigmas[0] = 1
    return sigmas


def pure_noise(net, noise, sigma):
    """The state that sampling starts from at the highest sigma; the noise has unit variance."""
    return noise if net.prediction == "flow" else noise * (1 + sigma**2).sqrt()


def ancestral_step(now, then, eta=1.0):
    """The noise level to step down to from `now`, and how much fresh noise leads up to `then`; both are sigmas."""
    up = torch.minimum(then, (then**2 * (now**2 - then**2) / now**2).sqrt()) * eta
    return (then**2 - up**2).sqrt(), up


@torch.no_grad()
def sample_euler(call, x, sigmas, progress=lambda done: None):
    """Euler steps from the noisy state x along the falling sigmas; `progress` sees each step's number.

    The slope is (x - clean) / sigma for flow too, where it is noise - clean.
    """
    for step, (now, then) in enumerate(itertools.pairwise(sigmas), start=1):
        clean = call(x, now.expand(len(x)))
        x = clean + (x - clean) * (then / now)
        progress(step)
    return x
