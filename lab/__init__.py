"""The lab: a small, real family of diffusion models that shows Delta Sampling work.

The folder is also a node pack of its own for ComfyUI, which the demo and the tests load beside
Delta Sampling. It is not part of what users install.
"""


async def comfy_entrypoint():
    """Return the extension. Imported only here, so that the lab trains and runs without ComfyUI."""
    from .nodes import LabExtension

    return LabExtension()
