"""A node that runs a copy of another by node expansion, as loops do."""

from comfy_execution.graph_utils import GraphBuilder


class RunCopy:
    """Runs a copy of the node whose latent it is given; that node itself does not run."""

    CATEGORY, FUNCTION, RETURN_TYPES = "test", "run", ("LATENT",)

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"samples": ("LATENT", {"rawLink": True, "lazy": True})},
            "hidden": {"prompt": "DYNPROMPT"},
        }

    def run(self, samples, prompt):
        number, output = samples
        node = prompt.get_node(number)
        graph = GraphBuilder()
        copy = graph.node(node["class_type"], number, **node["inputs"])
        copy.set_override_display_id(number)
        return {"result": (copy.out(output),), "expand": graph.finalize()}


NODE_CLASS_MAPPINGS = {"RunCopy": RunCopy}
