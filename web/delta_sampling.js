// Opens workflows that use the method authors' node, LatentDeltaKSampler, where it is not installed.
import { app } from "../../scripts/app.js";

const OLD = "LatentDeltaKSampler";
const NEW = "DeltaKSampler";
// Nine of their eleven workflows were saved with a strength schedule, three widgets after the strength.
const SCHEDULE = { first: 1, count: 3, widgets: 11 };

// The pack that a node came from. Ours answers to the old id too, for prompts in the queue.
const packs = {};

function modernise(node) {
  if (node.type !== OLD) return;
  node.type = NEW;
  if (node.properties?.["Node name for S&R"] === OLD) node.properties["Node name for S&R"] = NEW;
  if (node.widgets_values?.length === SCHEDULE.widgets) {
    node.widgets_values.splice(SCHEDULE.first, SCHEDULE.count);
  }
}

app.registerExtension({
  name: "delta_sampling.authors_node",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name === OLD || nodeData.name === NEW) packs[nodeData.name] = nodeData.python_module;
  },
  beforeConfigureGraph(graph) {
    if (packs[OLD] !== undefined && packs[OLD] !== packs[NEW]) return;
    const subgraphs = graph.definitions?.subgraphs ?? [];
    for (const { nodes } of [graph, ...subgraphs]) nodes?.forEach(modernise);
  },
});
