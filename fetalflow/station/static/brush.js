// The brush: a mask that is painted on one frame. A stroke is saved in pieces, so that no more than the last quarter of a
// second can be lost. shapes.js says where the pointer is and which mark is painted on.
"use strict";
const brush = (() => {
  const PIECE_MS = 250;
  const { width, height } = player, count = width * height;
  const paintedPx = (mask) => mask.reduce((sum, value) => sum + value, 0);
  let stroke = null, radius = 8, isErasing = false;

  // mark: the brush mark to go on with, or null for a new one with `label` on `frame`. Returns whether painting began.
  function begin(mark, label, frame, point) {
    if (!marks.mayChange()) return false;
    const mask = mark ? geometry.fromRuns(mark.runs, count) : new Uint8Array(count);
    mark ??= marks.make("brush", label, [frame, frame], { size: [height, width], runs: [] });
    stroke = { mark, mask, last: point, timer: 0, name: `stroke ${newId()}`, canvas: document.createElement("canvas") };
    marks.busy = true;
    paint([point]);
    return true;
  }
  function paint(points) {
    for (const point of points) {
      geometry.stroke(stroke.mask, width, height, stroke.last, point, radius, isErasing ? 0 : 1);
      stroke.last = point;
    }
    painting.tinted(stroke.mask, marks.colour(stroke.mark.label), stroke.canvas);
    stroke.timer ||= setTimeout(keep, PIECE_MS);
    player.redraw();
  }
  function keep() {
    clearTimeout(stroke.timer);
    stroke.timer = 0;
    const { id } = stroke.mark, isEmpty = !stroke.mask.includes(1);
    if (!isEmpty) marks.change([[id, { ...stroke.mark, runs: geometry.toRuns(stroke.mask) }]], { continues: stroke.name });
    else if (marks.get(id)) marks.change([[id, null]], { continues: stroke.name });
  }
  // Returns the id of the mark that was painted.
  function end() {
    keep();
    const { id } = stroke.mark;
    stroke = null;
    marks.busy = false;
    return id;
  }
  function fill(mark) {
    if (!mark) { marks.say("Paint a closed line first; then f fills what is inside it."); return; }
    const before = geometry.fromRuns(mark.runs, count), after = geometry.filled(before, width, height);
    const added = paintedPx(after) - paintedPx(before);
    if (!added) { marks.say("There is no hole to fill: the line is not closed."); return; }
    if (marks.change([[mark.id, { ...mark, runs: geometry.toRuns(after) }]])) marks.say(`${added} pixels were filled.`);
  }
  function resize(by) {
    const larger = Math.max(radius + 0.5, radius * 1.2), smaller = Math.min(radius - 0.5, radius / 1.2);
    radius = Math.min(100, Math.max(0.5, by > 0 ? larger : smaller));
  }
  return {
    begin, paint, end, fill, resize,
    turnOver() { isErasing = !isErasing; },
    get radius() { return radius; },
    get isErasing() { return isErasing; },
    get stroke() { return stroke; },
  };
})();
