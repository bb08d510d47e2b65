// The curve on a Delta Schedule: the strength over the run, drawn from the node's widgets, with handles that set them.
import { app } from "../../scripts/app.js";
import { factor } from "./curves.js";
import { Plot, TEXT, chain, label, shape } from "./plot.js";

const HEIGHT = 150;
const COLOUR = "#1f7ac4";
const POINTS = 60;
// How near to a handle, in pixels, a press takes it.
const REACH = 14;
const ENDS = {
  start: { percent: "start_percent", strength: "strength_start" },
  end: { percent: "end_percent", strength: "strength_end" },
};

class Editor {
  constructor(node) {
    this.node = node;
    this.widgets = Object.fromEntries(node.widgets.map((widget) => [widget.name, widget]));
    this.plot = new Plot(node, "strength_curve", HEIGHT, () => this.draw(), { grows: true });
    for (const widget of Object.values(this.widgets)) chain(widget, "callback", () => this.draw());
    chain(node, "onConfigure", () => this.draw());
    chain(node, "onConnectionsChange", () => this.draw());
    this.listen(this.plot.svg);
  }

  get schedule() {
    return Object.fromEntries(Object.entries(this.widgets).map(([name, widget]) => [name, widget.value]));
  }

  linked(name) {
    return this.node.inputs?.some((input) => input.widget?.name === name && input.link != null) ?? false;
  }

  // Where a handle is: [percent, strength]. A constant curve stays at strength_start.
  place(end) {
    const { schedule } = this;
    const flat = schedule.curve === "constant";
    return [schedule[ENDS[end].percent], schedule[ENDS[flat ? "start" : end].strength]];
  }

  draw() {
    const { plot, schedule } = this;
    const { start_percent: start, end_percent: end, curve } = schedule;
    const strengths = Object.keys(ENDS).map((which) => this.place(which)[1]);
    // While a handle is dragged the axis stays, so that the handle stays under the pointer.
    if (!this.dragged) this.bounds = [Math.min(0, ...strengths), Math.max(1, ...strengths)];
    const [least, greatest] = this.bounds;
    const room = 0.1 * (greatest - least);
    const links = Object.keys(this.widgets).filter((name) => this.linked(name));
    const described = `Strength over the run, ${curve}: ${strengths[0]} at ${start}, ${strengths[1]} at ${end}`;
    const title = links.length ? `${described}. Set by links: ${links.join(", ")}` : described;
    plot.clear(title, [0, 1], [least < 0 ? least - room : 0, greatest + room]);
    const ticks = [...new Set([least, 0, 1, greatest])].filter((value) => {
      return value === least || value === greatest || Math.min(value - least, greatest - value) > 2 * room;
    });
    plot.grid([[0, "start"], [1, "end"]], ticks.map((value) => [value, `${value}`]));
    label(plot.svg, 8, 15, "strength", { "font-weight": "bold" });
    if (links.length) {
      label(plot.svg, plot.size.width - 8, 15, "linked values are not known", { "text-anchor": "end" });
    }
    const inside = Array.from({ length: POINTS + 1 }, (_, i) => start + ((end - start) * i) / POINTS);
    inside[POINTS] = end;
    const window = end < start ? [] : [[start, 0], ...inside.map((x) => [x, factor(schedule, x)]), [end, 0]];
    plot.line([[0, 0], ...window, [1, 0]], {
      class: "curve",
      stroke: COLOUR,
      "stroke-width": 2,
      "stroke-dasharray": links.length ? "4 3" : "none",
      fill: COLOUR,
      "fill-opacity": 0.15,
    });
    for (const which of Object.keys(ENDS)) this.drawHandle(which);
  }

  drawHandle(which) {
    const { plot } = this;
    const [percent, strength] = this.place(which);
    const cx = plot.x(percent);
    const cy = plot.y(strength);
    const handle = { cx, cy, r: 6, fill: COLOUR, stroke: TEXT, "stroke-width": 1.5, class: `handle ${which}` };
    shape(plot.svg, "circle", handle).style.cursor = "grab";
  }

  listen(svg) {
    svg.addEventListener("pointerdown", (event) => {
      const which = this.handleAt(event);
      if (!which || event.button !== 0) return;
      event.stopPropagation();
      svg.setPointerCapture(event.pointerId);
      this.dragged = which;
    });
    svg.addEventListener("pointermove", (event) => {
      if (this.dragged) this.drag(this.dragged, this.plot.at(event));
    });
    svg.addEventListener("lostpointercapture", () => {
      this.dragged = undefined;
      this.draw();
    });
  }

  // Of handles that lie on one another the start is taken from the left, the end from the right.
  handleAt(event) {
    const { plot } = this;
    const pointer = plot.at(event);
    const distance = (which) => {
      const [percent, strength] = this.place(which);
      return Math.hypot(plot.x(percent) - plot.x(pointer.x), plot.y(strength) - plot.y(pointer.y));
    };
    const further = distance("start") - distance("end") || pointer.x - this.place("start")[0];
    const nearest = further < 0 ? "start" : "end";
    return distance(nearest) < REACH ? nearest : undefined;
  }

  drag(which, { x, y }) {
    const { start_percent: start, end_percent: end, curve } = this.schedule;
    // A window that ends before it starts is refused by the node.
    this.set(ENDS[which].percent, which === "start" ? Math.min(x, end) : Math.max(x, start));
    if (which === "start" || curve !== "constant") this.set(ENDS[which].strength, y);
  }

  set(name, value) {
    if (this.linked(name)) return;
    const widget = this.widgets[name];
    const { min, max, step2: step, precision } = widget.options;
    const rounded = Number((Math.round(value / step) * step).toFixed(precision));
    widget.value = Math.min(Math.max(rounded, min), max);
    widget.callback?.(widget.value, app.canvas, this.node);
  }
}

app.registerExtension({
  name: "delta_sampling.curve_editor",
  nodeCreated(node) {
    if (node.comfyClass === "DeltaSchedule") new Editor(node);
  },
});
