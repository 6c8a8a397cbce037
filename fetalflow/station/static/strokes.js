// Lines over the picture, in px of the frame; `scale` (screen px per px of the frame) keeps them equally thin.
"use strict";
const strokes = (() => {
  function line(ctx, points, scale, tint, { closed = false, dash = [], wide = 1.5 } = {}) {
    if (points.length < 2) return;
    ctx.beginPath();
    points.forEach(([x, y], i) => (i ? ctx.lineTo(x, y) : ctx.moveTo(x, y)));
    if (closed) ctx.closePath();
    ctx.setLineDash(dash.map((px) => px / scale));
    for (const [paint, width] of [["rgba(0, 0, 0, .6)", wide + 2], [tint, wide]]) {
      ctx.strokeStyle = paint;
      ctx.lineWidth = width / scale;
      ctx.stroke();
    }
    ctx.setLineDash([]);
  }
  function ellipse(ctx, { centre, axes, angle }, scale, tint) {
    const turn = (angle * Math.PI) / 180, points = [];
    for (let i = 0; i < 96; i++) {
      const t = (2 * Math.PI * i) / 96, u = axes[0] * Math.cos(t), v = axes[1] * Math.sin(t);
      points.push([centre[0] + u * Math.cos(turn) - v * Math.sin(turn), centre[1] + u * Math.sin(turn) + v * Math.cos(turn)]);
    }
    line(ctx, points, scale, tint, { closed: true, dash: [6, 4] });
  }
  // A rectangle that is turned about its corner.
  function box(ctx, { corner: [x, y], size: [wide, high], angle }, scale, tint) {
    const turn = (angle * Math.PI) / 180, right = [wide * Math.cos(turn), wide * Math.sin(turn)], down = [-high * Math.sin(turn), high * Math.cos(turn)];
    line(ctx, [[x, y], [x + right[0], y + right[1]], [x + right[0] + down[0], y + right[1] + down[1]], [x + down[0], y + down[1]]], scale, tint, { closed: true });
  }
  function caliper(ctx, [a, b], scale, tint) {
    line(ctx, [a, b], scale, tint, { dash: [2, 3], wide: 1 });
    for (const [x, y] of [a, b]) {
      const arm = 6 / scale;
      line(ctx, [[x - arm, y], [x + arm, y]], scale, tint);
      line(ctx, [[x, y - arm], [x, y + arm]], scale, tint);
    }
  }
  function words(ctx, text, [x, y], scale, tint) {
    ctx.font = `${13 / scale}px system-ui, sans-serif`;
    ctx.lineWidth = 3 / scale;
    ctx.strokeStyle = "rgba(0, 0, 0, .8)";
    ctx.strokeText(text, x + 8 / scale, y - 6 / scale);
    ctx.fillStyle = tint;
    ctx.fillText(text, x + 8 / scale, y - 6 / scale);
  }
  return { line, ellipse, box, caliper, words };
})();
