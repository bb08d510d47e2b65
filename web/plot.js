// A small SVG plot as a widget at the end of a node, for both renderers of the front end.

const NAMESPACE = "http://www.w3.org/2000/svg";

// The front end's pair for inputs: readable on one another in every theme.
export const TEXT = "var(--input-text, #ddd)";
const GROUND = "var(--comfy-input-bg, #222)";

export const FONT = 11;
const MARGIN = { left: 34, right: 12, top: 24, bottom: 18 };

// Calls `after` behind the callback `name` of one object, a node or a widget.
export function chain(object, name, after) {
  const before = object[name];
  object[name] = function (...values) {
    const result = before?.apply(this, values);
    after.apply(this, values);
    return result;
  };
}

export function shape(parent, tag, attributes = {}, text) {
  const made = parent.appendChild(document.createElementNS(NAMESPACE, tag));
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

export function label(parent, x, y, text, attributes = {}) {
  return shape(parent, "text", { x, y, fill: TEXT, "font-size": FONT, ...attributes }, text);
}

export class Plot {
  // `draw` fills the plot; it is called again when its size changes. One that grows takes the node's spare room.
  constructor(node, name, height, draw, { grows = false } = {}) {
    this.node = node;
    this.element = document.createElement("div");
    this.element.style.cssText = `background: ${GROUND}; border-radius: 6px; overflow: hidden; width: 100%;`;
    this.svg = shape(this.element, "svg", { role: "img", "font-family": "sans-serif" });
    this.svg.style.cssText = "position: absolute; width: 100%; height: 100%; user-select: none;";
    this.element.style.position = "relative";
    this.widget = node.addDOMWidget(name, name, this.element, {
      serialize: false,
      hideOnZoom: false,
      getMinHeight: () => this.height,
      getMaxHeight: () => (grows ? undefined : this.height),
    });
    // `options.serialize` keeps it out of the prompt, this out of the saved workflow.
    this.widget.serialize = false;
    this.setHeight(height);
    new ResizeObserver(draw).observe(this.element);
  }

  setHeight(height) {
    if (this.height === height) return;
    this.height = height;
    this.element.style.minHeight = `${height}px`;
    const [width, least] = this.node.computeSize();
    if (this.node.size[1] < least) this.node.setSize([Math.max(width, this.node.size[0]), least]);
  }

  // Empties the plot and sets its axes: `x` and `y` are the [least, greatest] values that it shows.
  clear(title, x = [0, 1], y = [0, 1]) {
    this.size = { width: this.element.clientWidth, height: this.element.clientHeight };
    this.range = { x, y };
    this.svg.replaceChildren();
    this.svg.setAttribute("viewBox", `0 0 ${this.size.width} ${this.size.height}`);
    this.svg.setAttribute("aria-label", title);
    shape(this.svg, "title", {}, title);
  }

  x(value) {
    const [least, greatest] = this.range.x;
    const share = (value - least) / (greatest - least || 1);
    return MARGIN.left + share * (this.size.width - MARGIN.left - MARGIN.right);
  }

  y(value) {
    const [least, greatest] = this.range.y;
    const share = (value - least) / (greatest - least || 1);
    return this.size.height - MARGIN.bottom - share * (this.size.height - MARGIN.top - MARGIN.bottom);
  }

  // The values at a place of the screen, on a canvas of any zoom; places outside the axes have values too.
  at({ clientX, clientY }) {
    const place = new DOMPoint(clientX, clientY).matrixTransform(this.svg.getScreenCTM().inverse());
    const value = (position, scale, [least, greatest]) => {
      const from = scale.call(this, least);
      return least + ((position - from) / (scale.call(this, greatest) - from)) * (greatest - least);
    };
    return { x: value(place.x, this.x, this.range.x), y: value(place.y, this.y, this.range.y) };
  }

  line(points, attributes) {
    const d = points.map(([x, y], i) => `${i ? "L" : "M"}${this.x(x).toFixed(2)} ${this.y(y).toFixed(2)}`).join("");
    return shape(this.svg, "path", { d, fill: "none", ...attributes });
  }

  // Grid lines with their values: `x` and `y` are lists of [value, text].
  grid(x, y) {
    const faint = { stroke: TEXT, "stroke-opacity": 0.2 };
    for (const [value, text] of y) {
      this.line([[this.range.x[0], value], [this.range.x[1], value]], faint);
      label(this.svg, MARGIN.left - 5, this.y(value) + FONT / 3, text, { "text-anchor": "end" });
    }
    const bottom = this.size.height - 5;
    for (const [value, text] of x) label(this.svg, this.x(value), bottom, text, { "text-anchor": "middle" });
  }
}
