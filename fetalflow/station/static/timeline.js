// The time line below the picture: one row (a lane) for each kind of thing that has a place in time.
//   timeline.lane(name, draw(ctx, box), {height, text}) -> {canvas, redraw(), remove(), frameAt(mouseEvent)}
//     box: {x(n): px of the left edge of frame n (x(n + 1) is its right edge), width, height, frames}
//     text(): what the lane shows, in words, for a screen reader
//   timeline.redraw()   draws all lanes again
// A press on a lane seeks; a script that uses the press calls event.preventDefault() on the lane's canvas.
"use strict";
const timeline = (() => {
  const host = document.getElementById("timeline");
  const rows = document.createElement("div");
  rows.className = "lanes";
  const cursor = document.createElement("div");
  cursor.className = "cursor";
  host.append(rows, cursor);
  const lanes = new Map();
  let left = 0, width = 1;

  const x = (n) => (n / player.frames) * width;
  function frameAt(event) {
    const box = rows.getBoundingClientRect();
    const at = (event.clientX - box.left - left) / width;
    return Math.min(player.frames - 1, Math.max(0, Math.floor(at * player.frames)));
  }
  function drawLane(lane) {
    const ratio = devicePixelRatio || 1, ctx = lane.canvas.getContext("2d");
    lane.canvas.width = Math.max(1, Math.round(width * ratio));
    lane.canvas.height = Math.round(lane.height * ratio);
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    lane.draw(ctx, { x, width, height: lane.height, frames: player.frames });
    const words = lane.text?.() ?? "";
    lane.canvas.setAttribute("aria-label", words ? `${lane.name}: ${words}` : lane.name);
  }
  function lane(name, draw, { height = 18, text = null } = {}) {
    lanes.get(name)?.remove();
    const row = document.createElement("div");
    row.className = "lane";
    const label = document.createElement("span");
    label.textContent = name;
    const canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    canvas.style.height = `${height}px`;
    row.append(label, canvas);
    rows.append(row);
    const made = {
      name, draw, height, text, canvas, row, frameAt,
      redraw: () => drawLane(made),
      remove: () => { row.remove(); lanes.delete(name); },
    };
    lanes.set(name, made);
    measure();
    return made;
  }
  function place() {
    cursor.style.transform = `translateX(${left + x(player.frame + 0.5)}px)`;
  }
  function measure() {
    const first = rows.querySelector("canvas");
    if (!first) return;
    left = first.offsetLeft;
    width = Math.max(1, first.clientWidth);
    lanes.forEach(drawLane);
    place();
  }
  rows.addEventListener("pointerdown", (event) => {
    if (event.defaultPrevented || event.button || event.target.tagName !== "CANVAS") return;
    const go = (next) => player.seek(frameAt(next));
    const end = () => { removeEventListener("pointermove", go); removeEventListener("pointerup", end); };
    addEventListener("pointermove", go);
    addEventListener("pointerup", end);
    go(event);
  });
  new ResizeObserver(measure).observe(rows);
  player.on("frame", place);
  return { lane, redraw: measure, frameAt, x };
})();
