// The chart on the samplers and the guider: how large each delta was at every call of the model, during a run.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { FONT, Plot, TEXT, label, shape } from "./plot.js";

// Sent by nodes/live.py to the client that queued the run.
const EVENT = "delta_sampling.call";
const NODES = ["DeltaKSampler", "DeltaKSamplerAdvanced", "DeltaGuider", "DeltaModel"];

const LINE_OF_TEXT = 22;
const HEIGHT = 140;
// Both are told apart by colour-blind eyes, from each other and from light and dark grounds.
const KINDS = {
  evaluated: { colour: "#1f7ac4", mark: circle },
  reused: { colour: "#d0590a", mark: diamond },
};
const DASHES = ["none", "6 3", "2 3", "8 3 2 3"];

const charts = new WeakMap();

function circle(parent, x, y, colour) {
  shape(parent, "circle", { cx: x, cy: y, r: 3, fill: colour, class: "evaluated" });
}

function diamond(parent, x, y, colour) {
  const d = `M${x} ${y - 4}l4 4l-4 4l-4 -4z`;
  shape(parent, "path", { d, fill: "var(--comfy-input-bg, #222)", stroke: colour, "stroke-width": 1.5, class: "reused" });
}

// The runs of calls in which a delta acted: [[call, size], ...] each.
function stretches(calls, index) {
  const found = [[]];
  for (const { call, deltas } of calls) {
    if (deltas[index]) found.at(-1).push([call, deltas[index].size]);
    else found.push([]);
  }
  return found.filter((stretch) => stretch.length);
}

class Chart {
  constructor(node) {
    this.calls = [];
    this.plot = new Plot(node, "delta_chart", LINE_OF_TEXT, () => this.draw());
  }

  add(call) {
    // A call that does not follow the last one is the first of a new run.
    if (call.call <= (this.calls.at(-1)?.call ?? 0)) this.calls = [];
    this.calls.push(call);
    this.plot.setHeight(HEIGHT);
    this.due ??= requestAnimationFrame(() => {
      this.due = undefined;
      this.draw();
    });
  }

  draw() {
    if (this.calls.length) this.drawRun();
    else this.drawNothing();
  }

  drawNothing() {
    const { plot } = this;
    plot.clear("The sizes of the deltas show here during a run");
    const { width, height } = plot.size;
    const text = { "text-anchor": "middle", "fill-opacity": 0.6 };
    label(plot.svg, width / 2, height / 2 + FONT / 3, "delta sizes show here during a run", text);
  }

  drawRun() {
    const { plot, calls } = this;
    const last = calls.at(-1);
    const end = Math.max(last.steps, last.call);
    const series = last.deltas.map((_, index) => index);
    const top = Math.max(...calls.flatMap(({ deltas }) => deltas.map((delta) => delta?.size ?? 0))) || 1;
    const title = `Size of ${series.length === 1 ? "the delta" : `${series.length} deltas`} relative to the prediction`;
    plot.clear(`${title}, model call ${last.call} of ${end}`, [Math.min(1, end - 1), end], [0, top]);
    plot.grid([[1, "call 1"], [end, `${end}`]], [[0, "0"], [top, top.toPrecision(2)]]);
    for (const index of series) this.drawDelta(index, series.length > 1);
    this.drawLegend();
  }

  drawDelta(index, named) {
    const { plot, calls } = this;
    const group = shape(plot.svg, "g", { class: "delta" });
    const found = stretches(calls, index);
    const line = { stroke: TEXT, "stroke-opacity": 0.5, "stroke-dasharray": DASHES[index % DASHES.length] };
    for (const stretch of found) group.append(plot.line(stretch, line));
    for (const { call, deltas } of calls) {
      if (!deltas[index]) continue;
      const { colour, mark } = KINDS[deltas[index].evaluated ? "evaluated" : "reused"];
      mark(group, plot.x(call), plot.y(deltas[index].size), colour);
    }
    if (!named || !found.length) return;
    const [call, size] = found.at(-1).at(-1);
    label(group, plot.x(call) + 5, plot.y(size) + FONT / 3, `${index + 1}`, { "font-weight": "bold" });
  }

  drawLegend() {
    const { svg, size } = this.plot;
    label(svg, 8, 15, "delta size", { "font-weight": "bold" });
    const group = shape(svg, "g", { class: "legend" });
    // From the right, as wide as its text: beside the title there is little room on a narrow node.
    let x = size.width - 8;
    for (const [kind, { colour, mark }] of Object.entries(KINDS).reverse()) {
      x -= label(group, x, 15, kind, { "text-anchor": "end" }).getComputedTextLength() + 8;
      mark(group, x, 11, colour);
      x -= 14;
    }
  }
}

// The node that the server names, also within subgraphs: "3:7" is node 7 of the subgraph that node 3 stands for.
function nodeOf(execution) {
  const path = `${execution}`.split(":");
  const last = path.pop();
  let graph = app.rootGraph ?? app.graph;
  for (const id of path) graph = graph?.getNodeById(id)?.subgraph;
  return graph?.getNodeById(last);
}

app.registerExtension({
  name: "delta_sampling.live_chart",
  nodeCreated(node) {
    if (NODES.includes(node.comfyClass)) charts.set(node, new Chart(node));
  },
  setup() {
    // One listener for all nodes: one that is removed leaves nothing behind.
    api.addEventListener(EVENT, ({ detail }) => charts.get(nodeOf(detail.node))?.add(detail));
  },
});
