// The keys, buttons and words of the player, and the first lanes of the time line.
"use strict";
(() => {
  const { facts } = player;
  const find = (name) => document.getElementById(name);
  const now = find("now"), said = find("said"), bar = document.querySelector(".scale-bar");
  const fields = { speed: find("speed"), view: find("view"), brightness: find("brightness"), gamma: find("gamma"), zoom: find("zoom"), position: find("position") };
  const VIEWS = [...fields.view.options].map((option) => option.value);
  const BARS = [0.5, 1, 2, 5, 10, 20, 50, 100];  // mm
  const number = (value, digits) => value.toFixed(digits);

  // --- What is shown, in words.
  function words() {
    const parts = [facts.frames > 1 ? `Frame ${player.frame} of 0 to ${facts.frames - 1}` : "A still"];
    if (facts.frames > 1) parts.push(`${number(player.seconds(player.frame), 2)} s`);
    if (facts.mm_per_px) parts.push(`${number(facts.mm_per_px, 3)} mm per pixel`);
    else if (facts.regions.length) parts.push("its regions have different scales, so lengths are in pixels");
    else parts.push("no scale is known, so lengths are in pixels");
    if (player.zoom > 1) parts.push(`zoom ${number(player.zoom, 1)}`);
    return parts;
  }
  function tell() {
    const parts = words();
    if (facts.frames > 1) parts.push(facts.fps ? `${number(facts.fps, 1)} frames per second` : "the file states no rate; it plays at 25 frames per second");
    if (player.speed !== 1) parts.push(`speed ${player.speed} ×`);
    if (player.view === "masked" && facts.blanked > 0) parts.push(`${number(100 * facts.blanked, 1)} % of the pixels are blanked`);
    if (player.view !== "masked") parts.push(player.view === "recorded" ? "as recorded" : "what was blanked is red");
    if (!player.playing) parts.push(player.lossless ? "true pixels" : "compressed picture");
    now.textContent = parts.join(" · ");
  }
  let later = 0;
  function tellRest() {
    clearTimeout(later);
    if (player.playing) return;
    later = setTimeout(() => { said.textContent = [...words(), ...answers.map((answer) => answer())].filter(Boolean).join(", "); }, 500);
  }
  const answers = [];
  player.describe = (answer) => answers.push(answer);
  player.tell = tellRest;

  function scaleBar() {
    bar.hidden = !facts.mm_per_px;
    if (!facts.mm_per_px) return;
    const px = player.scale / facts.mm_per_px;  // screen px per mm
    const mm = BARS.findLast((length) => length * px <= 0.25 * player.stage.clientWidth) ?? BARS[0];
    bar.style.width = `${mm * px}px`;
    bar.firstElementChild.textContent = `${mm} mm`;
  }

  // --- Brightness and gamma: a look-up in the browser; the pixels stay as they are.
  const tone = () => player.tone(Number(fields.brightness.value), Number(fields.gamma.value));
  const step = (field, by) => { field.value = Number(field.value) + by; field.dispatchEvent(new Event("input")); };
  fields.brightness.addEventListener("input", tone);
  fields.gamma.addEventListener("input", tone);
  fields.zoom.addEventListener("input", () => player.zoomTo(Number(fields.zoom.value)));
  fields.position.addEventListener("input", () => player.seek(Number(fields.position.value)));
  fields.speed.addEventListener("change", () => { player.speed = Number(fields.speed.value); });
  fields.view.addEventListener("change", () => { player.view = fields.view.value; });
  function reset() {
    fields.brightness.value = fields.gamma.value = 1;
    tone();
    player.speed = 1;
    player.reset();
  }
  function faster(direction) {
    const speeds = [...fields.speed.options].map((option) => Number(option.value));
    player.speed = speeds[Math.min(speeds.length - 1, Math.max(0, speeds.indexOf(player.speed) + direction))];
  }
  function turnView() {
    player.view = VIEWS[(VIEWS.indexOf(player.view) + 1) % VIEWS.length];
  }
  function loopHere(end) {
    // The frame that was sought, which a slow server has perhaps not sent yet; spans take the same one.
    const [first, last] = player.loop, here = player.wanted;
    if (end) player.setLoop(first !== null && first > here ? null : first, here);
    else player.setLoop(here, last !== null && last < here ? null : last);
    player.looping = true;
  }
  function whole() { player.setLoop(null, null); }

  const doings = {
    previous: () => player.seek(player.wanted - 1),
    next: () => player.seek(player.wanted + 1),
    play: player.toggle,
    loop: () => { player.looping = !player.looping; },
    "loop-in": () => loopHere(false),
    "loop-out": () => loopHere(true),
    whole, reset,
  };
  const buttons = Object.fromEntries([...document.querySelectorAll("#player [data-do]")].map((button) => [button.dataset.do, button]));
  for (const [name, button] of Object.entries(buttons)) button.addEventListener("click", doings[name]);

  const by = (event) => (event.shiftKey ? 10 : 1);
  const stepped = (direction) => (event) => { player.pause(); player.seek(player.wanted + direction * by(event)); };
  keys.add("ArrowLeft", "One frame back; with Shift ten", stepped(-1));
  keys.add("ArrowRight", "One frame on; with Shift ten", stepped(1));
  keys.add("Home", "First frame", () => player.seek(0));
  keys.add("End", "Last frame", () => player.seek(facts.frames - 1));
  keys.add(" ", "Play or stop", player.toggle);
  keys.add("<", "Slower", () => faster(-1));
  keys.add(">", "Faster", () => faster(1));
  keys.add("L", "Loop", doings.loop);
  keys.add("I", "The loop begins here", doings["loop-in"]);
  keys.add("O", "The loop ends here", doings["loop-out"]);
  keys.add("W", "Loop over the whole cine", whole);
  keys.add("B", "Brighter", () => step(fields.brightness, 0.1));
  keys.add("D", "Darker", () => step(fields.brightness, -0.1));
  keys.add("M", "More gamma: dark tissue is lighter", () => step(fields.gamma, 0.1));
  keys.add("N", "Less gamma", () => step(fields.gamma, -0.1));
  keys.add("+", "Zoom in", () => player.zoomTo(player.zoom * 1.25));
  keys.add("-", "Zoom out", () => player.zoomTo(player.zoom / 1.25));
  for (const [key, x, y] of [["ArrowLeft", 60, 0], ["ArrowRight", -60, 0], ["ArrowUp", 0, 60], ["ArrowDown", 0, -60]])
    keys.add(`Ctrl+${key}`, "Move the enlarged picture", () => player.panBy(x, y));
  if (VIEWS.length > 1) keys.add("V", "Masked, as recorded, or the difference", turnView);
  keys.add("R", "Reset brightness, gamma, zoom and speed", reset);

  function shown() {
    tell();
    buttons.play.textContent = player.playing ? "Stop" : "Play";
    buttons.loop.setAttribute("aria-pressed", player.looping);
    fields.speed.value = String(player.speed);
    fields.view.value = player.view;
    lanes.loop?.redraw();
    tellRest();
  }
  player.on("words", () => {
    tell();
    fields.position.value = player.frame;
    fields.position.setAttribute("aria-valuetext", `frame ${player.frame}, ${number(player.seconds(player.frame), 2)} s`);
    tellRest();
  });
  player.on("view", shown);
  player.on("layout", () => { fields.zoom.value = player.zoom; scaleBar(); tell(); });

  // --- Lanes: cuts, windows and the loop.
  const lanes = {};
  if (facts.frames > 1) {
    lanes.scenes = timeline.lane("Cuts and windows", (ctx, box) => {
      ctx.fillStyle = "#33414d";
      for (const [first, last] of facts.windows) ctx.fillRect(box.x(first) + 0.5, 4, Math.max(1, box.x(last + 1) - box.x(first) - 1), box.height - 8);
      ctx.fillStyle = "#ff8f80";
      for (const cut of facts.cuts) ctx.fillRect(box.x(cut) - 1, 0, 2, box.height);
    }, { text: () => `${facts.cuts.length ? `scenes begin at the frames ${facts.cuts.join(", ")}` : "no cut"}; ${facts.windows.length} windows of the network` });
    lanes.loop = timeline.lane("Loop", (ctx, box) => {
      const [first, last] = player.loop;
      ctx.fillStyle = player.looping ? "#ffcc66" : "#5c5030";
      ctx.fillRect(box.x(first ?? 0), 3, box.x((last ?? facts.frames - 1) + 1) - box.x(first ?? 0), box.height - 6);
    }, { height: 10, text: () => (player.looping ? `frames ${player.loop[0] ?? 0} to ${player.loop[1] ?? facts.frames - 1}` : "off") });
  }
  player.seek(Number(new URLSearchParams(location.search).get("frame") ?? 0) || 0);
  player.layout();
  shown();
})();
