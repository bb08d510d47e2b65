"""The lab: small diffusion models, trained on emoji by many artists, on which Delta Sampling is measured.

The folder is also a node pack of its own for ComfyUI, which the demo and the tests load beside
Delta Sampling. It is not part of what users install.
"""


async def comfy_entrypoint():
    """Return the extension. Imported only here, so that the lab trains without ComfyUI."""
    from .nodes import LabExtension

    return LabExtension()
