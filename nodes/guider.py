"""The guider, for SamplerCustomAdvanced and every other node that takes one."""

import comfy.samplers
from comfy_api.latest import io

from ..sampling.host.transfer import with_deltas
from .inputs import CATEGORY, cfg_input, delta_to_add, role_inputs
from .live import chart


class DeltaGuider(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeltaGuider",
            display_name="Delta Guider",
            category=CATEGORY,
            description="A CFG guider that adds deltas to the model's predictions. For SamplerCustomAdvanced.",
            search_aliases=["delta sampling", "lora transfer", "cfg guider"],
            inputs=[
                *role_inputs("target"),
                cfg_input("The guidance scale of the target model. The Delta Pair has its own."),
                delta_to_add(),
            ],
            # Equal guiders are not shared between nodes: each draws on the chart of its own.
            not_idempotent=True,
            outputs=[io.Guider.Output(tooltip="The guider, for SamplerCustomAdvanced.")],
        )

    @classmethod
    def execute(cls, model, positive, negative, cfg, delta) -> io.NodeOutput:
        guider = comfy.samplers.CFGGuider(with_deltas(model, delta, chart()))
        guider.set_conds(positive, negative)
        guider.set_cfg(cfg)
        return io.NodeOutput(guider)
