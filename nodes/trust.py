"""How far a delta is trusted about things that its source model does not know."""

from dataclasses import replace

from comfy_api.latest import io

from .inputs import CATEGORY, delta_input, delta_output


class DeltaTrust(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DeltaTrust",
            display_name="Delta Trust",
            category=CATEGORY,
            description="For prompts that the old model does not understand: where source and target disagree, carries "
            "the adapter's colours onto the target's own shapes in place of the source's shapes.",
            search_aliases=["delta sampling", "unknown names", "keep composition", "keep the target's shapes"],
            inputs=[
                delta_input(),
                io.Float.Input(
                    "limit",
                    default=0.15,
                    min=0.01,
                    max=10.0,
                    step=0.01,
                    tooltip="How far target and source may differ, relative to the delta, until it is half trusted. "
                    "Lower keeps more of the target's shapes, higher more of the adapter's.",
                ),
            ],
            outputs=[delta_output()],
        )

    @classmethod
    def execute(cls, delta, limit) -> io.NodeOutput:
        # Autoguidance is the difference of target and source itself: there is nothing to compare it with.
        return io.NodeOutput(tuple(d if d.adapted is None else replace(d, trust=limit) for d in delta))
