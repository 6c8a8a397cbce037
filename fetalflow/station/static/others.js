// The marks of other people, over the picture and on the time line, for who may see them.
"use strict";
(() => {
  const { facts } = player, { line, ellipse, caliper, box } = strokes, { toggle, asked, colour } = overlays;
  const OTHERS = ["#ff7ad9", "#8cff66", "#ffe14d", "#66d9ff"];
  if (!facts.may_see.marks) return;
  let others = [];
  const lanes = [], masks = new Map();
  const names = () => [...new Set(others.map((mark) => mark.account))].sort();
  const tint = (account) => OTHERS[names().indexOf(account) % OTHERS.length];
  function mask(mark) {
    if (masks.has(mark)) return masks.get(mark);
    const [height, width] = mark.size, canvas = new OffscreenCanvas(width, height), ctx = canvas.getContext("2d");
    let at = 0, isSet = false;
    ctx.fillStyle = tint(mark.account);
    for (const run of mark.runs) {
      for (let i = at; isSet && i < at + run;) {  // a run may go over several rows
        const x = i % width, wide = Math.min(width - x, at + run - i);
        ctx.fillRect(x, Math.floor(i / width), wide, 1);
        i += wide;
      }
      at += run;
      isSet = !isSet;
    }
    masks.set(mark, canvas);
    return canvas;
  }
  const layer = player.layer("Marks of others", (ctx, frame, scale) => {
    for (const mark of others) {
      if (mark.first_frame > frame || mark.last_frame < frame) continue;
      const paint = tint(mark.account);
      if (mark.kind === "caliper") caliper(ctx, mark.ends, scale, paint);
      if (mark.kind === "ellipse") ellipse(ctx, mark, scale, paint);
      if (mark.kind === "box") box(ctx, mark, scale, paint);
      if (mark.kind === "polygon") line(ctx, mark.corners, scale, paint, { closed: true });
      if (mark.kind === "brush") { ctx.globalAlpha = 0.4; ctx.drawImage(mask(mark), -0.5, -0.5); ctx.globalAlpha = 1; }
    }
  }, { visible: false });
  toggle({
    key: "A", title: layer.name, tint: OTHERS[0],
    async show(on) {
      layer.visible = on;
      lanes.splice(0).forEach((each) => each.remove());
      if (!on) return;
      others = await asked("marks");
      masks.clear();
      for (const account of facts.frames > 1 ? names() : []) {
        const own = others.filter((mark) => mark.account === account && mark.kind === "span");
        lanes.push(timeline.lane(account, (ctx, box) => {
          for (const span of own) { ctx.fillStyle = colour(span.label); ctx.fillRect(box.x(span.first_frame) + 0.5, 3, box.x(span.last_frame + 1) - box.x(span.first_frame) - 1, box.height - 6); }
        }, { text: () => own.map((span) => `${span.label} ${span.first_frame} to ${span.last_frame}`).join("; ") }));
      }
    },
    lines: (frame) => {
      const here = others.filter((mark) => mark.first_frame <= frame && frame <= mark.last_frame);
      return here.length ? here.map((mark) => `${mark.account}: ${mark.label}, ${mark.kind}${mark.note ? ` (${mark.note})` : ""}`) : [others.length ? "no mark at this frame" : "nobody else marked this cine"];
    },
  });
})();
