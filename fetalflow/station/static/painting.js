// How shapes look on the picture, and what their values are in mm (or in px where no scale is known).
"use strict";
const painting = (() => {
  const canvases = new WeakMap();

  // The mask of a brush as a canvas of the frame's size.
  function tinted(mask, colour, canvas = document.createElement("canvas")) {
    canvas.width = player.width;
    canvas.height = player.height;
    const ctx = canvas.getContext("2d"), image = ctx.createImageData(player.width, player.height);
    const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
    const pixels = new Uint32Array(image.data.buffer), tint = new Uint32Array(new Uint8Array([red, green, blue, 120]).buffer)[0];
    for (let at = 0; at < mask.length; at++) if (mask[at]) pixels[at] = tint;
    ctx.putImageData(image, 0, 0);
    return canvas;
  }
  function canvasOf(mark) {
    if (!canvases.has(mark)) canvases.set(mark, tinted(geometry.fromRuns(mark.runs, player.width * player.height), marks.colour(mark.label)));
    return canvases.get(mark);
  }

  // --- Values.
  function mmPerPx(points) {
    if (player.mmPerPx) return player.mmPerPx;
    const found = (player.facts.regions ?? []).find(({ box: [top, left, bottom, right] }) =>
      points.every(([x, y]) => x >= left - 0.5 && x < right && y >= top - 0.5 && y < bottom));
    return found?.mm_per_px ?? null;
  }
  function length(px, points) {
    const scale = mmPerPx(points);
    return scale ? `${(px * scale).toFixed(1)} mm` : `${px.toFixed(1)} px`;
  }
  function area(px, points) {
    const scale = mmPerPx(points);
    return scale ? `${(px * scale * scale).toFixed(0)} mm²` : `${px.toFixed(0)} px²`;
  }
  function pointsOf(mark) {
    if (mark.kind === "caliper") return mark.ends;
    if (mark.kind === "ellipse") return [...geometry.axisEnds(mark), mark.centre];
    return mark.corners ?? [];
  }
  function value(mark) {
    const points = pointsOf(mark);
    if (mark.kind === "caliper") return length(geometry.distance(...mark.ends), points);
    if (mark.kind === "ellipse")
      return `circumference ${length(geometry.ellipseLength(mark.axes), points)}, axes ${mark.axes.map((half) => length(2 * half, points)).join(" × ")}`;
    if (mark.kind === "polygon") return `outline ${length(geometry.perimeter(mark.corners), points)}, area ${area(geometry.area(mark.corners), points)}`;
    if (mark.kind === "brush") {
      const painted = mark.runs.reduce((sum, run, k) => sum + (k % 2 ? run : 0), 0);
      return `area ${area(painted, [[0, 0], [player.width - 1, player.height - 1]])}`;
    }
    return "";
  }

  // The same beside the shape, where the room is small: without words.
  const shortValue = (mark) => value(mark).replace(/circumference |outline |area /g, "").replace(", axes ", " (").replace(/( × .*)$/, "$1)");

  // --- Drawing.
  function path(ctx, points, isClosed) {
    ctx.beginPath();
    points.forEach(([x, y], k) => (k ? ctx.lineTo(x, y) : ctx.moveTo(x, y)));
    if (isClosed) ctx.closePath();
    ctx.stroke();
  }
  function cross(ctx, [x, y], size) {
    ctx.beginPath();
    ctx.moveTo(x - size, y); ctx.lineTo(x + size, y); ctx.moveTo(x, y - size); ctx.lineTo(x, y + size);
    ctx.stroke();
  }
  function dot(ctx, [x, y], radius, isFocused) {
    ctx.beginPath();
    ctx.arc(x, y, radius, 0, 2 * Math.PI);
    ctx.fillStyle = isFocused ? "#fff" : "rgba(0, 0, 0, .6)";
    ctx.fill();
    ctx.stroke();
  }
  function write(ctx, text, [x, y], scale) {
    ctx.font = `${13 / scale}px system-ui, sans-serif`;
    ctx.lineWidth = 4 / scale;
    ctx.strokeStyle = "rgba(0, 0, 0, .75)";
    // The words may lie beside the picture, but not outside the canvas.
    const box = player.stage.getBoundingClientRect(), right = player.toImage({ clientX: box.right, clientY: box.top })[0];
    const left = Math.min(x, right - ctx.measureText(text).width - 4 / scale);
    const top = Math.max(14 / scale, Math.min(y, player.height - 4 / scale));
    ctx.strokeText(text, left, top);
    ctx.fillText(text, left, top);
  }
  function shape(ctx, mark, scale, { isSelected, handles, focus, canvas }) {
    const colour = marks.colour(mark.label);
    ctx.strokeStyle = colour;
    ctx.lineWidth = (isSelected ? 2.5 : 1.5) / scale;
    if (mark.kind === "brush") {
      ctx.drawImage(canvas ?? canvasOf(mark), -0.5, -0.5);
    } else if (mark.kind === "ellipse") {
      ctx.beginPath();
      ctx.ellipse(...mark.centre, ...mark.axes, mark.angle * Math.PI / 180, 0, 2 * Math.PI);
      ctx.stroke();
    } else path(ctx, pointsOf(mark), mark.kind === "polygon");
    if (mark.kind === "caliper") mark.ends.forEach((end) => cross(ctx, end, 7 / scale));
    if (isSelected) handles.forEach((point, k) => dot(ctx, point, 4 / scale, k === focus));
    const corner = pointsOf(mark).reduce((most, point) => (!most || point[0] > most[0] ? point : most), null);
    ctx.fillStyle = colour;
    write(ctx, `${mark.label} ${shortValue(mark)}`, corner ? [corner[0] + 10 / scale, corner[1]] : [4 / scale, 16 / scale], scale);
  }
  return { tinted, value, length, shape, path, cross };
})();
