"""The pack through the server's queue, as every user runs it, on the lab's trained models."""

import psutil
import pytest
import torch

from harness.headless import PromptError
from lab import storage

from ..tiny import relative_error
from .prompts import Prompt, run_and_load

# One of each kind: test_samplers.py runs all of them, without a queue.
SAMPLERS = ("euler", "euler_ancestral_cfg_pp", "heun", "dpmpp_sde", "dpmpp_2m", "lcm", "ddim", "uni_pc")


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_identities_in_the_queue(server, sampler):
    prompt = Prompt()
    latents = run_and_load(
        server,
        prompt,
        {
            "plain": prompt.ksampler("target", sampler_name=sampler),
            "none": prompt.delta_ksampler("source", "source_ink", "target", 0.0, sampler_name=sampler),
            "same": prompt.delta_ksampler("source", "source", "target", 1.0, sampler_name=sampler),
            "adapted": prompt.ksampler("source_ink", sampler_name=sampler),
            "telescoped": prompt.delta_ksampler("source", "source_ink", "source", 1.0, sampler_name=sampler),
            "delta": prompt.delta_ksampler("source", "source_ink", "target", 1.0, sampler_name=sampler),
        },
    )
    assert torch.equal(latents["none"], latents["plain"])
    assert torch.equal(latents["same"], latents["plain"])
    assert relative_error(latents["telescoped"], latents["adapted"]) < 1e-4
    assert relative_error(latents["delta"], latents["plain"]) > 0.01


def test_the_authors_node_runs_as_ours_where_theirs_is_absent(server):
    """In prompts without titles (`_meta`) too, as scripts write them."""
    prompt = Prompt()
    roles = ("source", "source_ink", "target")
    theirs = prompt.delta_ksampler(*roles, 1.5, node="LatentDeltaKSampler")
    unpublished = prompt.delta_ksampler(*roles, 1.5, node="LatentDeltaKSampler")
    prompt.nodes[unpublished[0]]["inputs"] |= {"a": 1.0, "b": 0.5, "mode": "sigmoid"}
    latents = run_and_load(
        server,
        prompt,
        {"ours": prompt.delta_ksampler(*roles, 1.5), "theirs": theirs, "unpublished": unpublished},
    )
    assert torch.equal(latents["theirs"], latents["ours"])
    assert torch.equal(latents["unpublished"], latents["ours"])


def test_the_custom_sampler_nodes(server):
    prompt = Prompt()
    whole = prompt.delta_pair(strength=0.5, delta=prompt.delta_pair(strength=0.5))
    custom = prompt.custom_sampler("target", prompt.delta_guider("target", whole))
    delta_advanced = prompt.delta_ksampler_advanced("target", whole)
    latents = run_and_load(
        server,
        prompt,
        {
            "whole": prompt.delta_ksampler("source", "source_ink", "target", 1.0),
            "custom": custom,
            "advanced": delta_advanced,
        },
    )
    assert relative_error(latents["custom"], latents["whole"]) < 1e-4
    assert torch.equal(latents["custom"], latents["advanced"])


def test_progress_and_previews_are_those_of_a_ksampler(server):
    def watched(build):
        prompt, messages = Prompt(batch=2), []
        latent = build(prompt)

        def listen(kind, data):
            if kind == "progress" and data["node"] == latent[0]:
                messages.append((data["value"], data["max"]))
            if kind == "preview":
                messages.append("preview")

        run_and_load(server, prompt, {"x": latent}, on_message=listen)
        return messages

    plain = watched(lambda prompt: prompt.ksampler("target", steps=6, seed=11))
    delta = watched(lambda prompt: prompt.delta_ksampler("source", "source_ink", "target", steps=6, seed=11))
    assert "preview" in plain and (6, 6) in plain
    assert delta == plain


def test_an_error_reaches_the_user_as_advice(server):
    prompt = Prompt()
    latent = prompt.delta_ksampler("source", "flow_target", "target")
    with pytest.raises(PromptError, match=r"DeltaError: .*adapted model on AutoEncoderFormat.* A delta needs both"):
        run_and_load(server, prompt, {"x": latent})


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_named(server, bad):
    """The queue itself lets NaN pass, and refuses what is larger than the greatest."""
    prompt = Prompt()
    latent = prompt.delta_ksampler("source", "source_ink", "target", bad)
    with pytest.raises(PromptError, match="delta_strength"):
        run_and_load(server, prompt, {"x": latent})


def test_a_crossing_and_its_options_in_the_queue(server):
    """To other latents of twice the size through option nodes: the ink arrives, and an empty window is the target."""
    prompt = Prompt(width=128)
    vaes = {f"{role}_vae": prompt.add("LabVAE", name=name) for role, name in CODERS.items()}
    half = prompt.add("DeltaResolution", delta=prompt.delta_pair(), scale=0.5, noise_match="same noise")
    pair = prompt.add("DeltaBridge", delta=half, bridge=prompt.add("LatentBridgeVAE", **vaes))
    window = {"end_percent": 1.0, "curve": "constant", "strength_start": 1.0, "strength_end": 1.0}
    deltas = {
        "full": pair,
        "reused": prompt.add("DeltaReuse", delta=pair, every=2, threshold=0.0, extrapolate=True),
        "closed": prompt.add("DeltaSchedule", delta=pair, start_percent=1.0, **window),
    }
    plain = {"steps": 12, "scheduler": "simple"}
    latents = {name: prompt.delta_ksampler_advanced("flow_target", delta, **plain) for name, delta in deltas.items()}
    latents["target"] = prompt.ksampler("flow_target", **plain)
    found = run_and_load(server, prompt, latents)
    assert torch.equal(found["closed"], found["target"])
    colors = {name: colorfulness(storage.coder("autoencoder").decode(found[name])) for name in found}
    assert max(colors["full"], colors["reused"]) < 0.6 * colors["target"]


CODERS = {"source": "patches", "target": "autoencoder"}


def colorfulness(images):
    """Return how far the channels of images [n, 3, H, W] are apart, at the tenth of the pixels where they are most."""
    return (images.amax(1) - images.amin(1)).flatten().quantile(0.9)


@pytest.mark.parametrize("at_step", [1, 3])
def test_a_cancel_ends_the_run_and_the_next_is_as_if_nothing_had_been(server, at_step):
    def build(steps, seed):
        prompt = Prompt()
        return prompt, prompt.delta_ksampler("source", "source_ink", "target", steps=steps, seed=seed)

    prompt, latent = build(4, 21)
    expected = run_and_load(server, prompt, {"x": latent})["x"]
    endless, latent = build(2000, 22 + at_step)

    def interrupt(kind, data):
        if kind == "progress" and data["node"] == latent[0] and data["value"] == at_step:
            server.post("/interrupt", {})

    with pytest.raises(PromptError, match="interrupted"):
        run_and_load(server, endless, {"x": latent}, on_message=interrupt)
    server.post("/free", {"unload_models": True, "free_memory": True})
    prompt, latent = build(4, 21)
    assert torch.equal(run_and_load(server, prompt, {"x": latent})["x"], expected)


def test_a_hundred_runs_leave_the_servers_memory_flat(server):
    process = psutil.Process(server.process.pid)
    prompt = Prompt()
    latent = prompt.delta_ksampler("source", "source_ink", "target", steps=1)
    prompt.save("memory", latent)

    def runs(seeds):
        for seed in seeds:
            prompt.nodes[latent[0]]["inputs"]["seed"] = seed
            server.run(prompt.nodes)
        return process.memory_info().rss

    warm = runs(range(40))
    after = runs(range(40, 140))
    # The server keeps a history of the prompts it ran; a leaked run would hold models, megabytes each.
    assert after - warm < 20 * 2**20, f"{(after - warm) / 2**20:.1f} MB more after 100 runs"
