"""Noise schedule, denoised predictions, training loss and a sampler.

The noisy state is x = x0 + sigma * noise. The schedule is Stable Diffusion's
"scaled linear" one with 1000 steps. Networks get x / sqrt(1 + sigma^2) and a
timestep, and answer with eps or v, as their attribute `prediction` says.
"""

import itertools

import torch

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


def _column(sigma, x):
    return sigma.to(x.dtype).view(-1, *[1] * (x.ndim - 1))


def denoised(net, x, sigma, context):
    """The network's estimate of the clean latent. sigma is a tensor [B]."""
    s = _column(sigma, x)
    out = net(x / (1 + s * s).sqrt(), t_of_sigma(sigma), context)
    if net.prediction == "eps":
        return x - s * out
    return x / (1 + s * s) - out * s / (1 + s * s).sqrt()


def guided(net, context, scale=1.0):
    """A function (x, sigma) -> denoised with classifier-free guidance against the empty prompt."""

    def call(x, sigma):
        if scale == 1:
            return denoised(net, x, sigma, context)
        both = denoised(
            net, torch.cat([x, x]), torch.cat([sigma, sigma]), torch.cat([context, torch.zeros_like(context)])
        )
        named, empty = both.chunk(2)
        return empty + scale * (named - empty)

    return call


def training_loss(net, clean, context, t, noise):
    """Squared error of the prediction, weighted alike for both kinds of network.

    The weight makes it the squared error of v: every noise level then counts
    about the same, and low noise enough for clean samples. An error e in eps
    is an error e * sqrt(1 + sigma^2) in v.
    """
    s = _column(sigma_of_t(t), clean)
    scale = (1 + s * s).sqrt()
    out = net((clean + s * noise) / scale, t, context)
    if net.prediction == "eps":
        return ((out - noise) * scale).square().mean()
    return (out - (noise - s * clean) / scale).square().mean()


def karras_sigmas(steps, low=0.03, high=None, rho=7.0):
    """Falling noise levels, dense at the low end, followed by zero."""
    high = SIGMAS[-1].item() if high is None else high
    ramp = torch.linspace(0, 1, steps)
    sigmas = (high ** (1 / rho) + ramp * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    return torch.cat([sigmas, sigmas.new_zeros(1)])


@torch.no_grad()
def sample_euler(call, noise, sigmas, progress=lambda done: None):
    """Euler steps from pure noise (unit variance) along the falling sigmas; `progress` sees each step's number."""
    x = noise * (1 + sigmas[0] ** 2).sqrt()
    for step, (now, then) in enumerate(itertools.pairwise(sigmas), start=1):
        clean = call(x, now.expand(len(x)))
        x = clean + (x - clean) * (then / now)
        progress(step)
    return x
