"""Source and adapted in one batched model call, where they are one model that differs in its prompts alone."""

import math

import comfy.patcher_extension
import comfy.samplers
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from .branches import OpenBranch
from .checks import explained
from .lending import lent

# What a model can carry that wants to see one branch's guidance as a whole.
OWN_GUIDANCE = ("sampler_pre_cfg_function", "sampler_calc_cond_batch_function")


def go_together(source: OpenBranch, adapted: OpenBranch) -> bool:
    """Say whether two open branches may share a model call."""
    options = source.model_options
    wrappers = comfy.patcher_extension.get_all_wrappers(WrappersMP.PREDICT_NOISE, options, is_model_options=True)
    one_model = source.branch.model is adapted.branch.model
    conds = [cond for branch in (source, adapted) for conds in branch.guider.conds.values() for cond in conds]
    hooked = any(cond.get("hooks") for cond in conds)
    return one_model and not (hooked or wrappers or any(options.get(name) for name in OWN_GUIDANCE))


def predict_together(
    source: OpenBranch, adapted: OpenBranch, x: Tensor, sigma: Tensor, with_uncond: bool
) -> list[tuple[Tensor, ...]]:
    """Return the predictions of both, as `OpenBranch.predict` returns one; the host batches what fits into memory."""
    model, options, device = source.guider.inner_model, source.model_options, source.patcher.load_device
    x_there, sigma_there = x.to(device), sigma.to(device)
    conds = []
    for branch in (source, adapted):
        guided = with_uncond or not math.isclose(branch.guider.cfg, 1.0) or options.get("disable_cfg1_optimization")
        conds += [branch.guider.conds["positive"], branch.guider.conds.get("negative") if guided else None]
    with explained(source.role, source.guider), lent(source.weights):
        found = comfy.samplers.calc_cond_batch(model, conds, x_there, sigma_there, options)
        predictions = []
        for k, branch in enumerate((source, adapted)):
            (cond, uncond), (positive, negative) = found[2 * k : 2 * k + 2], conds[2 * k : 2 * k + 2]
            denoised = comfy.samplers.cfg_function(
                model, cond, uncond, branch.guider.cfg, x_there, sigma_there, options, positive, negative
            )
            parts = (denoised, uncond) if with_uncond else (denoised,)
            predictions.append(tuple(part.to(x.device) for part in parts))
    return predictions
