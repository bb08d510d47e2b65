"""The id of the node that the method's authors published, kept working where their node is not installed.

Workflows opened in the browser become a Delta KSampler: `web/delta_sampling.js` sees to it, and reads the nine
that were saved with three more widgets.
"""

from comfy_api.latest import io

from .samplers import DeltaKSampler


class LatentDeltaKSampler(DeltaKSampler):
    """Their node for prompts in the queue: the same inputs, the same meaning of strength."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = super().define_schema()
        schema.node_id = cls.__name__
        schema.display_name = "Delta KSampler (the authors' id)"
        schema.is_deprecated = schema.is_dev_only = True
        return schema
