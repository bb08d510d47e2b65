"""The nodes, and the extension that lists them to ComfyUI."""

import nodes as host_nodes
from comfy_api.latest import ComfyExtension, io

from .authors_node import LatentDeltaKSampler
from .bridges import LatentBridgeFit, LatentBridgeInterposer, LatentBridgeLoad, LatentBridgeSave, LatentBridgeVAE
from .guidance import DeltaColorGuidance
from .options import DeltaCombine, DeltaFast, DeltaLimits, DeltaMask, DeltaReuse, DeltaSchedule
from .pairs import DeltaAutoguidance, DeltaPair
from .prompts import DeltaControlNet, DeltaPairText
from .report import DeltaReport
from .samplers import DeltaGuider, DeltaKSampler, DeltaKSamplerAdvanced, DeltaModel
from .views import DeltaBridge, DeltaResolution


class DeltaSamplingExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        # Where the authors' own pack comes later, it takes its id itself.
        theirs = [] if LatentDeltaKSampler.__name__ in host_nodes.NODE_CLASS_MAPPINGS else [LatentDeltaKSampler]
        return [
            DeltaKSampler,
            DeltaKSamplerAdvanced,
            DeltaPair,
            DeltaGuider,
            DeltaSchedule,
            DeltaMask,
            DeltaLimits,
            DeltaReuse,
            DeltaFast,
            DeltaCombine,
            DeltaAutoguidance,
            DeltaResolution,
            DeltaReport,
            DeltaBridge,
            LatentBridgeFit,
            LatentBridgeVAE,
            LatentBridgeSave,
            LatentBridgeLoad,
            DeltaModel,
            DeltaPairText,
            DeltaControlNet,
            LatentBridgeInterposer,
            DeltaColorGuidance,
            *theirs,
        ]
