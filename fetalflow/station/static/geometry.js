// Geometry of marks, in px of the frames. No function here reads or changes the page.
"use strict";
const geometry = {
  distance: ([x0, y0], [x1, y1]) => Math.hypot(x1 - x0, y1 - y0),

  // The ellipse through four points that are a quarter of a turn apart, such as the ends of the two axes, in any order;
  // for other points the one with the least sum of squared distances to them. null for points without an area.
  ellipse(points) {
    const [cx, cy] = [0, 1].map((k) => points.reduce((sum, point) => sum + point[k], 0) / 4);
    const turned = [...points].sort((p, q) => Math.atan2(p[1] - cy, p[0] - cx) - Math.atan2(q[1] - cy, q[0] - cx));
    const a = [0, 1].map((k) => (turned[0][k] - turned[2][k]) / 2), b = [0, 1].map((k) => (turned[1][k] - turned[3][k]) / 2);
    // The half axes are the singular values of the matrix with the columns a and b.
    const xx = a[0] ** 2 + b[0] ** 2, xy = a[0] * a[1] + b[0] * b[1], yy = a[1] ** 2 + b[1] ** 2;
    const mean = (xx + yy) / 2, spread = Math.hypot((xx - yy) / 2, xy);
    const axes = [Math.sqrt(mean + spread), Math.sqrt(Math.max(0, mean - spread))];
    if (axes[1] < 0.5) return null;
    return { centre: [cx, cy], axes, angle: (Math.atan2(2 * xy, xx - yy) / 2) * 180 / Math.PI };
  },
  // The ends of the first axis, then those of the second one.
  axisEnds({ centre: [x, y], axes: [long, short], angle }) {
    const c = Math.cos(angle * Math.PI / 180), s = Math.sin(angle * Math.PI / 180);
    return [[x + long * c, y + long * s], [x - long * c, y - long * s], [x - short * s, y + short * c], [x + short * s, y - short * c]];
  },
  // One end of an axis goes to `point`; its other end and the length of the other axis stay.
  withAxisEnd(ellipse, place, point) {
    const other = geometry.axisEnds(ellipse)[place ^ 1], half = geometry.distance(point, other) / 2;
    if (half < 0.5) return ellipse;
    const [from, to] = place % 2 ? [point, other] : [other, point];  // the angle is that of the axis' first end
    const turn = Math.atan2(to[1] - from[1], to[0] - from[0]) * 180 / Math.PI - (place < 2 ? 0 : 90);
    const axes = place < 2 ? [half, ellipse.axes[1]] : [ellipse.axes[0], half];
    return { centre: [(point[0] + other[0]) / 2, (point[1] + other[1]) / 2], axes, angle: ((turn + 540) % 360) - 180 };
  },
  // Ramanujan's second formula, as fetalflow/biometry/calipers.py has it.
  ellipseLength([a, b]) {
    const h = ((a - b) / (a + b)) ** 2;
    return Math.PI * (a + b) * (1 + 3 * h / (10 + Math.sqrt(4 - 3 * h)));
  },
  perimeter: (corners) => corners.reduce((sum, point, k) => sum + geometry.distance(point, corners[(k + 1) % corners.length]), 0),
  area: (corners) => Math.abs(corners.reduce((sum, [x, y], k) => {
    const [nextX, nextY] = corners[(k + 1) % corners.length];
    return sum + x * nextY - nextX * y;
  }, 0)) / 2,
  // Where a point is nearest to an outline: the corner after which a new one would come, and the distance.
  nearestEdge(corners, [x, y]) {
    return corners.map(([x0, y0], k) => {
      const [x1, y1] = corners[(k + 1) % corners.length], squared = (x1 - x0) ** 2 + (y1 - y0) ** 2;
      const t = squared ? Math.min(1, Math.max(0, ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / squared)) : 0;
      return { after: k, distance: Math.hypot(x - x0 - t * (x1 - x0), y - y0 - t * (y1 - y0)) };
    }).sort((p, q) => p.distance - q.distance)[0];
  },

  // Masks: Uint8Array of height x width, row by row. Run lengths begin with a run of 0.
  fromRuns(runs, count) {
    const mask = new Uint8Array(count);
    let at = 0;
    runs.forEach((run, k) => { if (k % 2) mask.fill(1, at, at + run); at += run; });
    return mask;
  },
  toRuns(mask) {
    const runs = [];
    let value = 0, from = 0;
    for (let at = 0; at < mask.length; at++) {
      if (mask[at] === value) continue;
      runs.push(at - from);
      value = mask[at];
      from = at;
    }
    runs.push(mask.length - from);
    return runs;
  },
  // The mask of a closed outline: 1 for every pixel whose middle lies inside.
  fromOutline(corners, width, height) {
    const mask = new Uint8Array(width * height);
    for (let y = 0; y < height; y++) {
      const crossings = corners.flatMap(([x0, y0], k) => {
        const [x1, y1] = corners[(k + 1) % corners.length];
        return (y0 <= y) === (y1 <= y) ? [] : [x0 + (y - y0) / (y1 - y0) * (x1 - x0)];
      }).sort((a, b) => a - b);
      for (let k = 0; k + 1 < crossings.length; k += 2)
        mask.fill(1, y * width + Math.max(0, Math.ceil(crossings[k])), y * width + Math.max(0, Math.min(width, Math.floor(crossings[k + 1]) + 1)));
    }
    return mask;
  },
  // The same outline with at most `most` corners, evenly spread.
  thinned: (corners, most) => corners.filter((_, k) => Math.floor(k * most / corners.length) !== Math.floor((k - 1) * most / corners.length)),
  // Sets to `value` every pixel whose middle is at most `radius` px from the line between two points.
  stroke(mask, width, height, [x0, y0], [x1, y1], radius, value) {
    const squared = (x1 - x0) ** 2 + (y1 - y0) ** 2;
    const left = Math.max(0, Math.ceil(Math.min(x0, x1) - radius)), right = Math.min(width - 1, Math.floor(Math.max(x0, x1) + radius));
    const top = Math.max(0, Math.ceil(Math.min(y0, y1) - radius)), bottom = Math.min(height - 1, Math.floor(Math.max(y0, y1) + radius));
    for (let y = top; y <= bottom; y++)
      for (let x = left; x <= right; x++) {
        const t = squared ? Math.min(1, Math.max(0, ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / squared)) : 0;
        if ((x - x0 - t * (x1 - x0)) ** 2 + (y - y0 - t * (y1 - y0)) ** 2 <= radius ** 2) mask[y * width + x] = value;
      }
  },
  // Fills the holes: what cannot be reached from the border without crossing the mask.
  filled(mask, width, height) {
    const outside = new Uint8Array(mask.length), open = [];
    const visit = (at) => { if (!mask[at] && !outside[at]) { outside[at] = 1; open.push(at); } };
    for (let x = 0; x < width; x++) { visit(x); visit((height - 1) * width + x); }
    for (let y = 0; y < height; y++) { visit(y * width); visit(y * width + width - 1); }
    while (open.length) {
      const at = open.pop(), x = at % width;
      if (x) visit(at - 1);
      if (x < width - 1) visit(at + 1);
      if (at >= width) visit(at - width);
      if (at < mask.length - width) visit(at + width);
    }
    return outside.map((value) => 1 - value);
  },
};
