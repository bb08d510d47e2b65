([subject, columns, width]) => {
  // Lays out the nodes of docs/wiring.py by the sizes they have, and returns where on the page they are.
  const MARGIN = 16, GAP = 16, COLUMN_GAP = 36, NARROWEST = 225;
  const { graph, canvas } = app, nodes = {}, boxes = columns.flat().filter(Boolean);
  // New ids: to the front end a node with the id of an earlier one has that one's values.
  const { last_node_id } = graph;
  graph.clear();
  Object.assign(graph, { last_node_id });
  Object.assign(canvas, { background_image: null, render_shadows: false });
  for (const { kind, title } of boxes) {
    const node = (nodes[title] = LiteGraph.createNode(kind));
    graph.add(node);
    node.setSize([Math.max(node.computeSize()[0], NARROWEST), node.size[1]]);
    if (title !== kind) node.title = title;
    if (kind === subject) node.color = node.bgcolor = "#2a4365";
    else node.collapse();
  }
  for (const { title, inputs } of boxes)
    for (const [input, value] of Object.entries(inputs)) {
      const node = nodes[title], slot = node.findInputSlot(input), origin = nodes[value];
      if (origin) {
        // Of several outputs of a type the one with the input's name.
        const named = origin.findOutputSlot(input), { type } = node.inputs[slot];
        const alike = origin.outputs[named]?.type === type;
        origin.connect(alike ? named : origin.findOutputSlotByType(type), node, slot);
      }
      else node.widgets.find((widget) => widget.name === input).value = value;
    }
  // The sizes of collapsed nodes are known once they were drawn.
  canvas.draw(true, true);
  let left = 0, bottom = 0;
  for (const column of columns) {
    let top = 0, right = left;
    for (const box of column) {
      let height = LiteGraph.NODE_TITLE_HEIGHT;
      if (box) {
        const node = nodes[box.title], bounds = node.getBounding();
        node.pos = [left + node.pos[0] - bounds[0], top + node.pos[1] - bounds[1]];
        right = Math.max(right, left + bounds[2]);
        height = bounds[3];
      }
      top += height + GAP;
    }
    left = right + COLUMN_GAP;
    bottom = Math.max(bottom, top - GAP);
  }
  const size = [left - COLUMN_GAP + 2 * MARGIN, bottom + 2 * MARGIN], scale = Math.min(width / size[0], 2);
  // Away from the menus.
  const x = 200, y = 200, area = canvas.canvas.getBoundingClientRect();
  canvas.ds.scale = scale;
  canvas.ds.offset = [x / scale + MARGIN, y / scale + MARGIN];
  canvas.setDirty(true, true);
  return { x: area.x + x, y: area.y + y, width: size[0] * scale, height: size[1] * scale };
}
