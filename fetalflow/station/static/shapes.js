// Calipers, ellipses, outlines and masks on one frame: by mouse, and all of it by keys with a cross.
"use strict";
const shapes = (() => {
  const NEAR_PX = 8, MOST_CORNERS = 40;
  const TOOLS = {
    select: ["Select", "v", "Press a mark to select it; drag its points. Arrow keys move the white point by .25 px, with Shift by 10; k takes the next point."],
    caliper: ["Caliper", "c", "Press on the two ends."],
    ellipse: ["Ellipse", "e", "Press on four points of the outline: the ends of the two axes, in any order."],
    polygon: ["Outline", "p", "Press on the corners; press the first one again, or double-click, to close. Backspace takes the last corner back."],
    brush: ["Brush", "b", "Paint with the pressed mouse. [ and ] change the size, x erases, f fills the holes."],
  };
  const KEYS = " By keys: arrows move the cross by .25 px, with Shift by 10; Enter presses. Escape ends.";
  const { width, height } = player;
  let tool = "select", points = [], focus = null, cross = [width / 2, height / 2], hasCross = false;
  let fresh = null, dragged = null, near = null;

  const frame = () => player.frame;
  const onFrame = () => marks.all().filter((mark) => mark.kind !== "span" && mark.first_frame === frame());
  const chosen = () => onFrame().find((mark) => mark.id === marks.selected) ?? null;
  const rounded = (value) => Math.round(value * 100) / 100;
  const clamped = ([x, y]) => [rounded(Math.min(width - 0.5, Math.max(-0.5, x))), rounded(Math.min(height - 0.5, Math.max(-0.5, y)))];
  const isNear = (a, b) => geometry.distance(a, b) * player.scale <= NEAR_PX;

  // --- Points that can be moved.
  function handles(mark) {
    if (mark.kind === "caliper") return mark.ends;
    if (mark.kind === "ellipse") return [...geometry.axisEnds(mark), mark.centre];
    return mark.corners ?? [];
  }
  function withHandle(mark, place, point) {
    const at = clamped(point);
    if (mark.kind === "caliper") {
      const ends = mark.ends.map((end, k) => (k === place ? at : end));
      return geometry.distance(...ends) ? { ...mark, ends } : mark;
    }
    if (mark.kind === "polygon") return { ...mark, corners: mark.corners.map((corner, k) => (k === place ? at : corner)) };
    return place === 4 ? { ...mark, centre: at } : { ...mark, ...geometry.withAxisEnd(mark, place, at) };
  }
  function move(by) {
    const mark = chosen();
    if (!mark || focus === null) return;
    const [x, y] = handles(mark)[focus];
    marks.change([[mark.id, withHandle(mark, focus, [x + by[0], y + by[1]])]], { continues: `point ${mark.id} ${focus}` });
  }
  function nextHandle() {
    const mark = chosen() ?? onFrame()[0];
    if (!mark || !handles(mark).length) { marks.say("No mark of this frame has points to move."); return; }
    focus = marks.selected === mark.id && focus !== null ? (focus + 1) % handles(mark).length : 0;
    marks.select(mark.id);
  }
  function remove() {
    const mark = chosen();
    if (mark?.kind === "polygon" && focus !== null && mark.corners.length > 3) {
      if (marks.change([[mark.id, { ...mark, corners: mark.corners.filter((_, k) => k !== focus) }]])) focus = null;
    } else if (mark) marks.change([[mark.id, null]]);
    else marks.say("Select a mark of this frame first.");
  }

  // --- New marks.
  function use(name) {
    if (name !== "select") {
      const own = marks.labels.filter((label) => label !== "other");
      if (!marks.label && own.length !== 1) { marks.say("Press the key of a label first."); return; }
    }
    tool = name;
    points = [];
    focus = null;
    hasCross = false;
    if (name !== "select") { player.pause(); marks.select(null); }
    const group = document.getElementById("player");
    group.tabIndex = -1;
    group.focus({ preventScroll: true });
    shown();
  }
  const labelInUse = () => marks.label || marks.labels[0];
  function made(mark) {
    if (!marks.change([[mark.id, mark]])) { points = []; shown(); return; }
    use("select");
    fresh = mark.id;
    focus = handles(mark).length - (mark.kind === "ellipse" ? 2 : 1);
    marks.select(mark.id);
    marks.say(`${mark.label}: ${painting.value(mark)}.`);
  }
  function press(point) {
    const at = clamped(point), make = (values) => made(marks.make(tool, labelInUse(), [frame(), frame()], values));
    if (!marks.mayChange()) return;
    if (tool === "polygon" && points.length >= 3 && isNear(at, points[0])) { close(); return; }
    if (points.length && geometry.distance(at, points.at(-1)) === 0) return;
    points.push(at);
    if (tool === "caliper" && points.length === 2) make({ ends: points });
    else if (tool === "ellipse" && points.length === 4) {
      const found = geometry.ellipse(points);
      points = [];
      if (found) make(found); else marks.say("These four points enclose no area. Press on the ends of the two axes.", true);
    }
    player.redraw();
  }
  function close() {
    if (tool !== "polygon") return;
    if (points.length < 3 || geometry.area(points) < 0.5) { marks.say("An outline has three corners at least, and an area.", true); return; }
    made(marks.make("polygon", labelInUse(), [frame(), frame()], { corners: points }));
  }
  function back() {
    points.pop();
    player.redraw();
  }
  function leave() {
    if (points.length) { points = []; player.redraw(); } else if (tool !== "select") use("select");
    else { focus = null; marks.select(null); }
  }

  // --- The network's answer as a beginning: in the form of the tool in use, else as an ellipse or an outline.
  async function take() {
    if (!marks.mayChange()) return;
    player.pause();
    const at = frame(), form = tool;
    marks.say("The network is measuring this cine.");
    try {
      const found = await send("GET", `/overlays/${marks.facts.task}/${marks.facts.source}/measured`);
      if (frame() !== at) return;
      const answer = found.frames[at], values = answer && asMark(answer, form);
      if (!values) { marks.say(`The network has no ${form === "select" ? "outline" : TOOLS[form][0].toLowerCase()} on frame ${at}.`, true); return; }
      player.saw(`${found.model}: measurement`);
      const label = marks.label || (marks.labels.includes(found.label) ? found.label : labelInUse());
      made({ ...marks.make(values.kind, label, [at, at], values), started_from: found.model });
    } catch (error) {
      marks.say(error.message, true);
    }
  }
  function asMark({ outline, ellipse, calipers }, form) {
    if (form === "caliper") return calipers?.length ? { kind: "caliper", ends: calipers.slice(0, 2).map(clamped) } : null;
    if ((form === "ellipse" || form === "select") && ellipse) return { kind: "ellipse", ...ellipse };
    if (!(outline?.length >= 3)) return null;
    if (form === "brush") return { kind: "brush", size: [height, width], runs: geometry.toRuns(geometry.fromOutline(outline, width, height)) };
    return form === "ellipse" ? null : { kind: "polygon", corners: geometry.thinned(outline, MOST_CORNERS).map(clamped) };
  }

  function brushMark() {
    const mark = chosen();
    return mark?.kind === "brush" ? mark : onFrame().find((each) => each.kind === "brush" && each.label === labelInUse()) ?? null;
  }
  const beginStroke = (point) => brush.begin(brushMark(), labelInUse(), frame(), point);
  function endStroke() {
    fresh = brush.end();
    if (marks.get(fresh)) marks.select(fresh);
    player.redraw();
  }
  function size(by) {
    brush.resize(by);
    shown();
  }

  // --- The pointer.
  const canvas = player.overlayCanvas;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button || event.ctrlKey) return;
    const at = player.toImage(event);
    if (tool === "select") { pick(event, at); return; }
    event.preventDefault();
    player.pause();
    if (tool !== "brush") { press(at); return; }
    if (!beginStroke(at)) return;
    canvas.setPointerCapture(event.pointerId);
    const go = (next) => {
      const events = next.getCoalescedEvents?.() ?? [];
      brush.paint((events.length ? events : [next]).map(player.toImage));
    };
    canvas.addEventListener("pointermove", go);
    canvas.addEventListener("lostpointercapture", () => { canvas.removeEventListener("pointermove", go); endStroke(); }, { once: true });
  });
  canvas.addEventListener("dblclick", () => { if (tool === "polygon" && points.length >= 3) close(); });
  canvas.addEventListener("pointermove", (event) => { near = player.toImage(event); if (points.length || tool === "brush") player.redraw(); });
  canvas.addEventListener("pointerleave", () => { near = null; player.redraw(); });

  function isInside(mark, [x, y]) {
    if (mark.kind === "caliper") return geometry.nearestEdge(mark.ends, [x, y]).distance * player.scale <= NEAR_PX;
    if (mark.kind === "brush") {
      const column = Math.round(x), row = Math.round(y);
      return column >= 0 && column < width && geometry.fromRuns(mark.runs, width * height)[row * width + column] === 1;
    }
    const shape = new Path2D();
    if (mark.kind === "ellipse") shape.ellipse(...mark.centre, ...mark.axes, mark.angle * Math.PI / 180, 0, 2 * Math.PI);
    else mark.corners.forEach((corner, k) => (k ? shape.lineTo(...corner) : shape.moveTo(...corner)));
    return document.createElement("canvas").getContext("2d").isPointInPath(shape, x, y);
  }
  function pick(event, at) {
    let mark = chosen(), place = mark ? handles(mark).findIndex((point) => isNear(point, at)) : -1;
    if (mark && place < 0 && mark.kind === "polygon") {
      const edge = geometry.nearestEdge(mark.corners, at);
      if (edge.distance * player.scale <= NEAR_PX && marks.mayChange()) {  // a new corner on the line
        place = edge.after + 1;
        mark = { ...mark, corners: mark.corners.toSpliced(place, 0, clamped(at)) };
      }
    }
    if (place < 0) {
      const found = onFrame().findLast((each) => isInside(each, at) || handles(each).some((point) => isNear(point, at)));
      fresh = null;
      focus = null;
      marks.select(found?.id ?? null);
      return;
    }
    event.preventDefault();
    focus = place;
    if (!marks.mayChange()) return;
    canvas.setPointerCapture(event.pointerId);
    marks.busy = true;
    const start = marks.get(mark.id);
    const go = (next) => { dragged = withHandle(mark, place, player.toImage(next)); player.redraw(); };
    canvas.addEventListener("pointermove", go);
    canvas.addEventListener("lostpointercapture", () => {
      canvas.removeEventListener("pointermove", go);
      const changed = dragged ?? mark;
      dragged = null;
      marks.busy = false;
      if (changed !== start) marks.change([[changed.id, changed]]);
      player.redraw();
    }, { once: true });
    player.redraw();
  }

  // --- Keys that belong to the player while nothing is drawn.
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || document.querySelector("dialog[open]")) return;
    if (/^(input|select|textarea)$/i.test(event.target.tagName)) return;
    const isDrawing = tool !== "select", arrow = ARROWS[event.key];
    if (arrow && (isDrawing || (chosen() && focus !== null))) {
      const by = arrow.map((value) => value * (event.shiftKey ? 10 : 0.25));
      if (isDrawing) { cross = clamped([cross[0] + by[0], cross[1] + by[1]]); hasCross = true; player.redraw(); } else move(by);
    } else if (event.key === "Enter" && isDrawing && hasCross && !/^(button|a|summary)$/i.test(event.target.tagName)) {
      if (tool !== "brush") press(cross); else if (beginStroke(cross)) endStroke();
    } else if (event.key === "Backspace" && points.length) back();
    else if (event.key === "Delete" && chosen()) remove();
    else return;
    event.preventDefault();
    event.stopImmediatePropagation();
  }, true);

  // --- The layer and the buttons.
  const layer = player.layer("Your marks", (ctx, at, scale) => {
    for (const mark of onFrame()) {
      if (brush.stroke?.mark.id === mark.id) continue;
      const drawn = dragged?.id === mark.id ? dragged : mark;
      painting.shape(ctx, drawn, scale, { isSelected: mark.id === marks.selected, handles: handles(drawn), focus });
    }
    if (brush.stroke) ctx.drawImage(brush.stroke.canvas, -0.5, -0.5);
    ctx.strokeStyle = "#fff";
    ctx.lineWidth = 1.5 / scale;
    if (points.length) painting.path(ctx, [...points, ...(near && tool !== "ellipse" ? [near] : [])], false);
    points.forEach((point) => painting.cross(ctx, point, 6 / scale));
    if (tool !== "select" && hasCross) painting.cross(ctx, cross, 14 / scale);
    if (tool === "brush" && (near || hasCross)) {
      ctx.beginPath();
      ctx.arc(...(near ?? cross), brush.radius, 0, 2 * Math.PI);
      ctx.stroke();
    }
  });
  const host = document.getElementById("marks-drawing"), hint = document.getElementById("marks-hint"), tools = {};
  for (const [name, [text, key]] of Object.entries(TOOLS)) tools[name] = marks.button(text, key, () => use(name), host, `Tool: ${text.toLowerCase()}`);
  const smaller = marks.button("Smaller", "[", () => size(-1), host, "Smaller brush");
  const larger = marks.button("Larger", "]", () => size(1), host, "Larger brush");
  const eraser = marks.button("Erase", "x", () => { brush.turnOver(); shown(); }, host, "The brush erases, or paints");
  const filler = marks.button("Fill holes", "f", () => brush.fill(brushMark()), host, "Fill the holes of the painted mask");
  if (player.facts.may_see?.network) marks.button("From the network", "t", take, host, "Start from the network's answer, in the form of the tool in use");
  keys.add("k", "The next point of the selected mark", nextHandle);
  keys.add("Escape", "Leave the drawing or the selection", leave);
  keys.add("Enter", "With a drawing tool: press at the cross, which the arrow keys move", () => {});
  function shown() {
    for (const [name, button] of Object.entries(tools)) button.setAttribute("aria-pressed", String(name === tool));
    for (const button of [smaller, larger, eraser, filler]) button.hidden = tool !== "brush";
    eraser.setAttribute("aria-pressed", String(brush.isErasing));
    hint.textContent = TOOLS[tool][2] + (tool === "select" ? "" : KEYS) + (tool === "brush" ? ` Its radius is ${brush.radius.toFixed(1)} px.` : "");
    player.stage.classList.toggle("drawing", tool !== "select");
    player.redraw();
  }
  marks.onLabel((name) => {
    const mark = chosen();
    if (tool !== "select" || !mark || mark.id === fresh) { if (mark?.id === fresh) marks.select(null); marks.say(`${name} is the label in use.`); return; }
    if (mark.label !== name) marks.change([[mark.id, { ...mark, label: name }]]);
  });
  marks.on(() => {
    if (marks.selected !== fresh && fresh) fresh = null;
    if (focus !== null && (!chosen() || focus >= handles(chosen()).length)) focus = null;
    player.redraw();
  });
  let drawnOn = player.frame;
  marks.onLeave(() => (points.length ? "A shape is begun. Finish it, or press Escape to forget it." : ""));
  player.on("frame", (number) => { if (number !== drawnOn) points = []; drawnOn = number; });
  shown();
  return { value: painting.value, layer, use };
})();
