"""The id of the node that the method's authors published, kept working where it is not installed.

This replaces it in prompts sent to the queue. Workflows opened in the browser are changed by
`web/delta_sampling.js`, which also reads the nine that were saved with three more widgets.
"""

from comfy_api.latest import ComfyAPI, io

INPUTS = [
    *(f"{role}_{part}" for role in ("source", "adapted", "target") for part in ("model", "positive", "negative")),
    "delta_strength",
    "seed",
    "steps",
    "cfg",
    "sampler_name",
    "scheduler",
    "latent_image",
    "denoise",
]
WIDGETS = ["delta_strength", "seed", "control_after_generate", "steps", "cfg", "sampler_name", "scheduler", "denoise"]


async def register_replacement() -> None:
    """Let the host run `LatentDeltaKSampler` as `DeltaKSampler`: same inputs, same meaning of strength."""
    await ComfyAPI().node_replacement.register(
        io.NodeReplace(
            new_node_id="DeltaKSampler",
            old_node_id="LatentDeltaKSampler",
            old_widget_ids=WIDGETS,
            input_mapping=[{"new_id": name, "old_id": name} for name in INPUTS],
            output_mapping=[{"new_idx": 0, "old_idx": 0}],
        )
    )
