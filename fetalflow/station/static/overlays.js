// What can be switched on over the picture and the time line: the network's answer, where it looks, what it measures,
// the sector and the labels of the drop. Each is loaded when it is switched on for the first time.
//   overlays.toggle, asked, colour   for others.js
//   overlays.measured() -> the network's outlines, calipers and lengths (pages/overlays.py), and notes that they were seen
"use strict";
const overlays = (() => {
  const { facts } = player;
  const host = document.querySelector("#overlays .switches"), values = document.querySelector("#overlays .values");
  const address = (rest) => `/overlays/${facts.task}/${facts.source}/${rest}`;
  const PALETTE = ["#5ab4ff", "#ffcc66", "#58c98b", "#ff8f80", "#c9a2ff", "#7fe0e0", "#f5a3d0", "#c0d95e", "#ffa95c", "#9fb3c8"];
  // A label has the colour of its marks, where the page has marks.
  const colour = (label) => (typeof marks === "undefined" || !marks.colour ? PALETTE[Math.max(0, facts.labels.indexOf(label)) % PALETTE.length] : marks.colour(label));
  const { line, ellipse, caliper, words } = strokes;
  const percent = (value) => `${(100 * value).toFixed(0)} %`;
  const parts = [];  // of the values: {title, lines()}

  async function asked(rest) {
    const answer = await fetch(address(rest));
    if (answer.status === 401) throw new Error("The session has ended. Load the page again to log in.");
    const found = await answer.json().catch(() => ({}));
    if (!answer.ok) throw new Error(found.detail ?? `${answer.status} ${answer.statusText}`);
    return found;
  }
  const once = (make) => {
    let made = null;
    return () => (made ??= make().catch((error) => { made = null; throw error; }));
  };

  // --- Words beside the picture: a heading and lines for each overlay that is on.
  function element(name, text) { const made = document.createElement(name); made.textContent = text; return made; }
  function list(lines) {
    const made = document.createElement("ul");
    made.append(...lines.map((line) => element("li", line)));
    return made;
  }
  let written = "";
  function write() {
    const now = parts.filter((part) => part.isOn()).map((part) => [part.title, part.lines(player.frame)]);
    const text = JSON.stringify(now);
    if (text === written) return;
    written = text;
    values.replaceChildren(...now.flatMap(([title, lines]) => [element("h3", title), lines.length > 1 ? list(lines) : element("p", lines[0] ?? "")]));
  }
  const spoken = (title) => player.describe(() => {
    const part = parts.find((each) => each.title === title);
    return part?.isOn() ? `${title}: ${part.lines(player.frame).slice(0, 3).join(", ")}` : "";
  });

  // show(on): called after each switch, and may load something. It returns a promise.
  function toggle({ key, title, tint, begin = false, show, lines }) {
    const state = { on: false, problem: "", busy: false };
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-keyshortcuts", `Shift+${key}`);
    const square = element("span", "");
    square.className = "colour";
    square.style.background = tint;
    button.append(square, element("span", title), element("kbd", key));
    async function turn(on = !state.on) {
      state.on = on;
      button.setAttribute("aria-pressed", on);
      state.problem = "";
      state.busy = true;
      write();
      try { await show(on); } catch (error) { state.problem = error.message; }
      state.busy = false;
      player.redraw();
      timeline.redraw();
      write();
      player.tell();
    }
    parts.push({
      title, isOn: () => state.on,
      lines: (frame) => (state.problem ? [state.problem] : state.busy ? ["Please wait: this is computed now."] : lines(frame)),
    });
    spoken(title);
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => turn());
    keys.add(key, `Show or hide: ${title}`, () => turn());
    host.append(button);
    if (begin) turn(true);
    return state;
  }

  // --- The network's answer over time.
  let answer = null;
  const nearest = (windows, frame) => {
    let found = null, least = Infinity;
    for (const each of windows) {
      if (each.first_frame > frame || each.last_frame < frame) continue;
      const away = Math.abs((each.first_frame + each.last_frame) / 2 - frame);
      if (away < least) { least = away; found = each; }
    }
    return found;
  };
  const loadAnswer = once(async () => { answer = await asked("answer"); });
  const ends = (windows, i) => Math.min(windows[i].last_frame, (windows[i + 1]?.first_frame ?? Infinity) - 1) + 1;
  function drawProbabilities(ctx, box) {
    const rows = facts.network_labels, high = box.height / rows.length;
    answer.windows.forEach((each, i) => {
      const left = box.x(each.first_frame), wide = Math.max(1, box.x(ends(answer.windows, i)) - left);
      rows.forEach((label, row) => {
        ctx.globalAlpha = each.probabilities[label] ?? 0;
        ctx.fillStyle = colour(label);
        ctx.fillRect(left, row * high, wide, high - 1);
        ctx.globalAlpha = 1;
        if (each.label_set?.includes(label)) { ctx.strokeStyle = "#fff"; ctx.strokeRect(left + 1, row * high + 0.5, wide - 2, high - 2); }
      });
      ctx.fillStyle = "#14171a";
      ctx.fillRect(left, 0, 1, box.height);
    });
    ctx.font = `${high - 2}px system-ui, sans-serif`;
    ctx.lineWidth = 2;
    ctx.strokeStyle = "#000";
    ctx.fillStyle = "#fff";
    rows.forEach((label, row) => { ctx.strokeText(label, 3, (row + 1) * high - 3); ctx.fillText(label, 3, (row + 1) * high - 3); });
  }
  function drawUnfamiliarity(ctx, box) {
    const most = 2 * answer.limit;
    answer.windows.forEach((each, i) => {
      if (each.unfamiliarity === null) return;
      const left = box.x(each.first_frame), high = Math.min(1, each.unfamiliarity / most) * box.height;
      ctx.fillStyle = each.unfamiliarity > answer.limit ? "#ff8f80" : "#58c98b";
      ctx.fillRect(left, box.height - high, Math.max(1, box.x(ends(answer.windows, i)) - left - 1), high);
    });
    ctx.fillStyle = "#e8ecef";
    ctx.fillRect(0, box.height / 2, box.width, 1);
  }
  function answerLines(frame) {
    if (!answer) return [];
    const here = nearest(answer.windows, frame);
    if (!here) return ["No window of the network holds this frame.", ...answer.notes, `Model: ${answer.model}`];
    const p = Object.entries(here.probabilities).sort((a, b) => b[1] - a[1]);
    const set = here.label_set ? `set that holds the true label with ${percent(answer.level)}: ${here.label_set.join(", ")}` : "no set of labels is known";
    const score = here.unfamiliarity;
    const strange = score === null ? "unfamiliarity is not known" : `unfamiliarity ${score.toFixed(2)}, the limit is ${answer.limit}${score > answer.limit ? ": unlike the training data, do not trust the label" : ""}`;
    return [
      `frames ${here.first_frame} to ${here.last_frame}: ${here.label} ${percent(here.probabilities[here.label])}`,
      set, strange, p.map(([label, value]) => `${label} ${percent(value)}`).join(", "),
      ...answer.notes, `Model: ${answer.model}`,
    ];
  }
  const windowsInWords = () => answer.windows.map((each) => `${each.first_frame} to ${each.last_frame} ${each.label} ${percent(each.probabilities[each.label])}`).join("; ");
  const answerLanes = [];
  if (facts.may_see.network) {
    toggle({
      key: "P", title: "Network: labels over time", tint: PALETTE[0], lines: answerLines,
      async show(on) {
        answerLanes.splice(0).forEach((each) => each.remove());
        if (!on) return;
        await loadAnswer();
        player.saw(`${answer.model}: probabilities`);
        if (facts.frames < 2 || !answer.windows.length) return;
        answerLanes.push(timeline.lane("Network", drawProbabilities, { height: 13 * facts.network_labels.length, text: windowsInWords }));
        answerLanes.push(timeline.lane("Unfamiliarity", drawUnfamiliarity, { text: () => `the limit is ${answer.limit}; ${answer.windows.filter((each) => each.unfamiliarity > answer.limit).length} windows are above it` }));
      },
    });
  }

  // --- Where the network looks, for the window of the frame.
  const maps = new Map();
  let mapLayer = null, mapProblem = "";
  const mapKey = (frame) => maps.get(frame)?.images ? maps.get(frame) : null;
  async function loadMap(frame) {
    const known = maps.get(frame);
    if (known) return known.promise;
    const entry = { promise: null, images: null };
    maps.set(frame, entry);
    entry.promise = (async () => {
      const head = await player.pictures(address(`map/${frame}`), "image/png");
      entry.images = await Promise.all(head.pictures.map((each) => createImageBitmap(each)));
      entry.head = head;
      for (let n = head.first_frame; n <= head.last_frame; n++) if (!maps.get(n)?.images) maps.set(n, entry);
      player.saw(`${head.model}: ${head.method}`);
      mapProblem = "";
    })();
    try { await entry.promise; } catch (error) { maps.delete(frame); throw error; }
    return null;
  }
  function drawMap(ctx, frame) {
    const entry = mapKey(frame);
    if (!entry) return;
    const { numbers } = entry.head, at = numbers.findLastIndex((number) => number <= frame);
    ctx.drawImage(entry.images[Math.max(0, at)], -0.5, -0.5, player.width, player.height);
  }
  if (facts.may_see.network) {
    mapLayer = player.layer("Network: where it looks", drawMap, { visible: false });
    toggle({
      key: "G", title: mapLayer.name, tint: "#ff7a1a",
      async show(on) { mapLayer.visible = on; if (on) await loadMap(player.frame); },
      lines(frame) {
        if (mapProblem) return [mapProblem];
        const head = mapKey(frame)?.head;
        if (!head) return [player.playing ? "Stop the cine to see the map of its frames." : "The map is computed now."];
        return [`${head.method}${head.label ? ` for ${head.label}` : ""}, frames ${head.first_frame} to ${head.last_frame}`, "Red: the answer depends most on this place. It is no outline of the anatomy."];
      },
    });
    let later = 0;
    player.on("frame", (frame) => {
      clearTimeout(later);
      mapProblem = "";
      if (!mapLayer.visible || player.playing || mapKey(frame)) return;
      later = setTimeout(() => loadMap(frame).catch((error) => { mapProblem = error.message; }).finally(() => { player.redraw(); write(); }), 300);
    });
    player.on("view", () => { if (mapLayer.visible && !player.playing && !mapKey(player.frame)) loadMap(player.frame).catch((error) => { mapProblem = error.message; }).finally(() => { player.redraw(); write(); }); });
  }

  // --- What the network measures.
  let found = null;
  const loadMeasured = once(async () => {
    const answered = await asked("measured");
    player.saw(`${answered.model}: outline and lengths`);
    return (found = answered);
  });
  const length = (name, value) => `${name.toUpperCase()} ${value.toFixed(found.unit === "mm" ? 1 : 0)} ${found.unit}`;
  function drawMeasured(ctx, frame, scale) {
    const here = found?.frames[frame];
    if (!here) return;
    line(ctx, here.outline, scale, "#4cc9f0", { closed: true });
    if (here.ellipse) ellipse(ctx, here.ellipse, scale, "#ffd166");
    const names = Object.keys(here.lengths), ends = here.calipers ?? [];
    for (let i = 0; i + 1 < ends.length; i += 2) caliper(ctx, [ends[i], ends[i + 1]], scale, "#fff");
    // The long axis is OFD and the short one BPD; an abdomen and a femur have one length each.
    const shown = names.includes("bpd") ? [["ofd", 0], ["bpd", 2]] : names.slice(0, 1).map((name) => [name, 0]);
    for (const [name, at] of shown) if (ends[at + 1]) words(ctx, length(name, here.lengths[name]), ends[at + 1], scale, "#fff");
  }
  function measuredLines(frame) {
    if (!found) return [];
    const here = found.frames[frame];
    const whole = Object.entries(found.lengths).map(([name, each]) => `whole cine: ${length(name, each.value)}${each.low === null ? "" : ` [${each.low.toFixed(1)}, ${each.high.toFixed(1)}]`}`);
    const now = !here ? ["The network did not see this frame."]
      : here.refused ? [`this frame is not measured: ${here.warnings.join("; ")}`]
      : [`this frame: ${Object.entries(here.lengths).map(([name, value]) => length(name, value)).join(", ")}`, ...here.warnings];
    return [`called ${found.label}`, ...now, ...whole, ...found.warnings, `Model: ${found.model}`];
  }
  if (facts.may_see.network && facts.measures) {
    const layer = player.layer("Network: outline and lengths", drawMeasured, { visible: false });
    toggle({ key: "C", title: layer.name, tint: "#4cc9f0", lines: measuredLines, async show(on) { layer.visible = on; if (on) await loadMeasured(); } });
  }

  // --- The sector and the labels of the drop.
  if (facts.sector.length) {
    const layer = player.layer("Sector", (ctx, frame, scale) => line(ctx, facts.sector, scale, "#58c98b", { closed: true, dash: [8, 4] }), { visible: false });
    toggle({ key: "S", title: "Sector that is kept", tint: "#58c98b", async show(on) { layer.visible = on; }, lines: () => [`${(100 * facts.blanked).toFixed(1)} % of the pixels are blanked: what lies outside of the sector, and what the machine drew over the picture.`] });
  }
  const spans = facts.rows.map((row) => ({ ...row, text: `${row.label} (${row.annotators})` }));
  if (spans.length) {
    let lane = null;
    toggle({
      key: "T", title: "Labels of the drop", tint: "#aeb8c0", begin: true,
      async show(on) {
        lane?.remove();
        lane = !on || facts.frames < 2 ? null : timeline.lane("Labels of the drop", (ctx, box) => {
          for (const span of spans) { ctx.fillStyle = colour(span.label); ctx.fillRect(box.x(span.first_frame) + 0.5, 3, box.x(span.last_frame + 1) - box.x(span.first_frame) - 1, box.height - 6); }
        }, { text: () => spans.map((span) => `${span.text} ${span.first_frame} to ${span.last_frame}`).join("; ") });
      },
      lines: (frame) => {
        const here = [...new Set(spans.filter((span) => span.first_frame <= frame && frame <= span.last_frame).map((span) => span.text))];
        return here.length ? here : ["no label at this frame"];
      },
    });
  }
  // --- Why rows of this cine are in quarantine, and what was noted when it was read.
  const about = [
    ...facts.quarantined.map((row) => `in quarantine: ${row.kind}${row.label ? `, ${row.label}` : ""}${row.start_frame !== "" ? `, frames ${row.start_frame} to ${row.end_frame}` : ""}${row.annotator ? `, ${row.annotator}` : ""}`),
    ...facts.remarks,
  ];
  if (about.length) parts.push({ title: "About this cine", isOn: () => true, lines: () => about });
  if (!facts.may_see.network) parts.push({ title: "Network", isOn: () => true, lines: () => ["Its answer is hidden here, so that it leads nobody who labels this cine."] });
  player.on("words", write);
  write();
  return { measured: loadMeasured, toggle, asked, colour };
})();
