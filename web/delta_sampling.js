// Opens workflows that use the method authors' node, LatentDeltaKSampler, where it is not installed.
import { app } from "../../scripts/app.js";

const OLD = "LatentDeltaKSampler";
const NEW = "DeltaKSampler";
// Nine of their eleven workflows were saved with a strength schedule, three widgets after the strength.
const SCHEDULE = { first: 1, count: 3, widgets: 11 };

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
  beforeConfigureGraph(graph) {
    if (globalThis.LiteGraph?.registered_node_types?.[OLD]) return;
    const subgraphs = graph.definitions?.subgraphs ?? [];
    for (const { nodes } of [graph, ...subgraphs]) nodes?.forEach(modernise);
  },
});
