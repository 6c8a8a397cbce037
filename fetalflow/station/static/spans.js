// Spans of frames with a label: by keys, and by dragging their edges on the time line.
"use strict";
const spans = (() => {
  const ROW = 16, EDGE_PX = 7;
  const last = player.frames - 1, isStill = player.frames === 1;
  // `made` is the span that was made last: keys move its edges, but only a selected span gets another label.
  let from = null, to = null, dragged = null, made = null;

  const all = () => marks.all().filter((mark) => mark.kind === "span").map((mark) => (dragged?.id === mark.id ? dragged : mark));
  const used = () => marks.labels.filter((label) => all().some((span) => span.label === label));
  const meet = (a, b) => a.first_frame <= b.last_frame && b.first_frame <= a.last_frame;

  // A span with the spans of the same label that it overlaps becomes one span; the others are removed in the same step.
  function put(span, options) {
    let whole = span, others = marks.all().filter((each) => each.kind === "span" && each.label === span.label && each.id !== span.id);
    const gone = [];
    for (let found; (found = others.find((each) => meet(each, whole))); others = others.filter((each) => each !== found)) {
      gone.push(found);
      whole = { ...whole, first_frame: Math.min(whole.first_frame, found.first_frame), last_frame: Math.max(whole.last_frame, found.last_frame) };
    }
    const isDone = marks.change([[whole.id, whole], ...gone.map((each) => [each.id, null])], options);
    if (isDone) {
      made = whole.id;
      marks.say(`${whole.label}: frames ${whole.first_frame} to ${whole.last_frame}${gone.length ? ", joined with what it overlaps" : ""}.`);
    }
    return isDone;
  }
  function begin() {
    if (!marks.mayChange()) return;
    from = player.wanted;
    if (to !== null && to < from) to = null;
    pending();
  }
  function end() {
    if (!marks.mayChange()) return;
    to = player.wanted;
    from ??= 0;
    if (from > to) [from, to] = [to, from];
    pending();
  }
  function pending() {
    lane?.redraw();
    if (from !== null) marks.say(to === null ? `The span begins at frame ${from}. Go to its last frame and press o or the key of a label.` : `Frames ${from} to ${to}: press the key of a label.`);
  }
  function whole() {
    if (!marks.mayChange()) return;
    from = 0;
    to = last;
    if (marks.label) label(marks.label); else pending();
  }
  function label(name) {
    if (!marks.mayChange()) return;
    if (isStill) { still(name); return; }
    if (from !== null) {
      const end = to ?? player.wanted;
      if (put(marks.make("span", name, [Math.min(from, end), Math.max(from, end)]))) forget();
    } else if (marks.selected) {
      const span = marks.get(marks.selected);
      if (span.label !== name) put({ ...span, label: name });
    } else marks.say(`${name} is the label in use. Press i at the first frame and o at the last one, or w for the whole cine.`);
  }
  // A still has one label; the next key replaces it.
  function still(name) {
    const [old, ...more] = all();
    const span = old ? { ...old, label: name } : { ...marks.make("span", name, [0, 0]), id: marks.stillId };
    if (marks.change([[span.id, span], ...more.map((each) => [each.id, null])])) { marks.submit(); marks.next(); }
  }
  function forget() {
    from = to = null;
    lane?.redraw();
  }
  function leave() {
    if (from !== null) { forget(); marks.say("The span that was begun is forgotten."); } else marks.select(null);
  }
  function inHand() {
    const span = marks.get(marks.selected ?? made);
    if (!span) marks.say("Select a span first: click it, or press , or .");
    return span;
  }
  function edge(side) {
    const span = inHand();
    if (span) move(span, side, player.wanted);
  }
  function moved(span, side, frame) {
    const at = Math.min(last, Math.max(0, frame));
    return side === "first_frame" ? { ...span, first_frame: Math.min(at, span.last_frame) } : { ...span, last_frame: Math.max(at, span.first_frame) };
  }
  function move(span, side, frame) {
    const changed = moved(span, side, frame);
    if (changed[side] !== span[side]) put(changed, { continues: `${side} ${span.id}` });
  }
  function nudge(side, by) {
    const span = inHand();
    if (!span) return;
    move(span, side, span[side] + by);
    player.seek((marks.get(span.id) ?? span)[side]);
  }

  // --- The lane: one row for each label that is used.
  function draw(ctx, box) {
    used().forEach((name, row) => {
      for (const span of all().filter((each) => each.label === name)) {
        const left = box.x(span.first_frame), width = Math.max(2, box.x(span.last_frame + 1) - left);
        ctx.fillStyle = marks.colour(name);
        ctx.fillRect(left, row * ROW + 1, width, ROW - 2);
        if (span.id === marks.selected) {
          ctx.strokeStyle = "#fff";
          ctx.lineWidth = 2;
          ctx.strokeRect(left + 1, row * ROW + 1, width - 2, ROW - 2);
        }
        ctx.fillStyle = "#000";
        ctx.font = "11px system-ui, sans-serif";
        if (width > 30) ctx.fillText(name, left + 4, row * ROW + 12, width - 8);
      }
    });
    if (from !== null) {
      const end = to ?? Math.max(from, player.frame);
      ctx.fillStyle = "rgba(255, 255, 255, .35)";
      ctx.fillRect(box.x(from), 0, Math.max(2, box.x(end + 1) - box.x(from)), box.height);
    }
  }
  const text = () => all().map((span) => `${span.label} frames ${span.first_frame} to ${span.last_frame}`).join(", ") || "none";
  const lane = isStill ? null : timeline.lane("Your marks", draw, { height: ROW, text });
  function refresh() {
    if (!lane) return;
    lane.height = Math.max(1, used().length) * ROW;
    lane.canvas.style.height = `${lane.height}px`;
    lane.redraw();
  }
  function found(event) {
    const box = lane.canvas.getBoundingClientRect(), at = event.clientX - box.left;
    const name = used()[Math.floor((event.clientY - box.top) / ROW)];
    const distances = all().filter((span) => span.label === name).flatMap((span) => {
      const left = timeline.x(span.first_frame), right = timeline.x(span.last_frame + 1);
      return [
        { span, side: "first_frame", px: Math.abs(at - left) }, { span, side: "last_frame", px: Math.abs(at - right) },
        { span, side: null, px: at >= left && at <= right ? EDGE_PX : Infinity },
      ];
    });
    return distances.filter((each) => each.px <= EDGE_PX).sort((a, b) => a.px - b.px)[0];
  }
  lane?.canvas.addEventListener("pointermove", (event) => { lane.canvas.style.cursor = found(event)?.side ? "ew-resize" : ""; });
  lane?.canvas.addEventListener("pointerdown", (event) => {
    const hit = event.button ? null : found(event);
    if (!hit) return;
    marks.select(hit.span.id);
    if (!hit.side || !marks.mayChange()) return;
    event.preventDefault();
    lane.canvas.setPointerCapture(event.pointerId);
    marks.busy = true;
    player.pause();
    const go = (next) => {
      dragged = moved(hit.span, hit.side, lane.frameAt(next));
      player.seek(dragged[hit.side]);
      marks.say(`${dragged.label}: frames ${dragged.first_frame} to ${dragged.last_frame}.`);
      lane.redraw();
    };
    const end = () => {
      lane.canvas.removeEventListener("pointermove", go);
      const span = dragged;
      dragged = null;
      marks.busy = false;
      if (span && span[hit.side] !== hit.span[hit.side]) put(span); else lane.redraw();
    };
    lane.canvas.addEventListener("pointermove", go);
    lane.canvas.addEventListener("lostpointercapture", end, { once: true });
  });

  const host = document.getElementById("marks-drawing"), hint = document.getElementById("marks-hint");
  if (isStill) hint.textContent = "Press the key of the plane: the picture is labelled and submitted, and the next one comes.";
  else {
    hint.textContent = "Press i at the first frame, o at the last frame, then the key of a label. Edges can be dragged on the time line.";
    marks.button("In", "i", begin, host, "The span begins at this frame");
    marks.button("Out", "o", end, host, "The span ends at this frame");
    marks.button("Whole cine", "w", whole, host, "The span is the whole cine, with the label in use");
    marks.button("Start here", "s", () => edge("first_frame"), host, "The span starts at this frame");
    marks.button("End here", "e", () => edge("last_frame"), host, "The span ends at this frame");
    keys.add("[", "The span starts one frame earlier", () => nudge("first_frame", -1));
    keys.add("]", "The span starts one frame later", () => nudge("first_frame", 1));
    keys.add("{", "The span ends one frame earlier", () => nudge("last_frame", -1));
    keys.add("}", "The span ends one frame later", () => nudge("last_frame", 1));
    keys.add("Escape", "Forget the begun span, or select nothing", leave);
  }
  marks.onLabel(label);
  marks.onLeave(() => (from === null ? "" : "A span is begun. Press the key of its label, or Escape to forget it."));
  marks.on(refresh);
  player.on("frame", () => { if (from !== null && to === null) lane?.redraw(); });
  return { all, get begun() { return from === null ? null : [from, to]; } };
})();
