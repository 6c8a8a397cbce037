// The marks of this account on this cine: what the server has, with the changes that are on their way to it. spans.js and
// shapes.js draw and change them.
//   marks.all(), marks.get(id)         marks as the server knows them (fetalflow/annotation/annotation.py)
//   marks.make(kind, label, frames, values)   a new mark with all its fields; it holds once it is changed in
//   marks.change([[id, mark or null], …], {continues})   one step for undo; with the same `continues` as the step before,
//                                      both are one step. Returns false where nothing may be changed.
//   marks.selected, marks.select(id)   the mark that keys work on, or null
//   marks.label                        the label in use; marks.onLabel(callback) is called when a label's key is pressed
//   marks.onLeave(callback)            gives words about what is begun and not finished, or ""
//   marks.on(callback)                 called when marks, selection or label changed
//   marks.say(text, isProblem)         words for the person
"use strict";
const marks = (() => {
  const facts = JSON.parse(document.getElementById("facts").textContent);
  const url = `/marks/${facts.task}/${facts.source}`;
  const POLL_MS = 3000;
  const COLOURS = ["#ffd166", "#5ab4ff", "#7bd88f", "#ff9e80", "#d7a6ff", "#6fe0d8", "#ff8fb8", "#c3d063", "#e0e0e0", "#b0a0ff"];
  // Letters that other keys have; a label whose first letter is free and unlike the others' has this key, too.
  const TAKEN = { spans: "dnriowse", shapes: "dnrvcepbxftk" };
  const part = (id) => document.getElementById(id);
  let base = { marks: [], number: -1, submitted: false }, recent = [];
  let held = new Map(), submitted = false, labels = [], kinds = [], label = "", selected = null;
  let undone = [], done = [], isAsking = false, isBusy = false;
  const callbacks = [], labelCallbacks = [], unfinishedCallbacks = [];
  const channel = "BroadcastChannel" in window ? new BroadcastChannel("fetalflow-marks") : null;

  // --- What holds: the server's marks, then the changes that it has not shown yet.
  function recompute() {
    held = new Map(base.marks.map((mark) => [mark.id, mark]));
    submitted = base.submitted;
    for (const { event } of recent) {
      if (event.action === "mark") held.set(event.value.id, event.value);
      else if (event.action === "remove") held.delete(event.value.mark);
      else submitted = event.action === "submit";
    }
    if (selected && !held.has(selected)) selected = null;
  }
  const words = (mark) => JSON.stringify(mark ?? null, (key, value) =>
    value && typeof value === "object" && !Array.isArray(value) ? Object.fromEntries(Object.entries(value).sort()) : value);
  function differences(before, after) {
    return [...new Set([...before.keys(), ...after.keys()])].filter((id) => words(before.get(id)) !== words(after.get(id))).length;
  }
  async function ask() {
    if (isAsking || outbox.state.otherAccount) return;
    isAsking = true;
    const session = outbox.session;
    try {
      const answer = await send("GET", `${url}?after=${base.number}`);
      outbox.belongsTo(answer.account);
      // The answer may be older than a change that the server has acknowledged since; the next one is not.
      if (answer.marks && !recent.some((each) => each.number > answer.number)) take(answer);
    } catch (error) {
      if (error.status === 401) outbox.sessionEnded(session);
      else if (error.status && base.number < 0) say(error.message, true);
    } finally {
      isAsking = false;
    }
  }
  function take(answer) {
    const before = held, first = base.number < 0, wasSubmitted = submitted;
    base = answer;
    recent = recent.filter((each) => each.number === null);
    recompute();
    if (first) begin(answer);
    else {
      const count = differences(before, held);
      if (count) say(`${count === 1 ? "One mark was" : `${count} marks were`} changed in another tab or window. This page shows the change.`);
      else if (wasSubmitted !== submitted) say(`This cine was ${submitted ? "submitted" : "opened again"} in another tab or window.`);
    }
    changed();
  }

  // --- Changes.
  function write(action, value) {
    const event = { id: newId(), action, value };
    recent.push({ event, number: null });
    outbox.put(url, event);
  }
  const ofAnother = () => `This browser is now logged in as ${outbox.state.otherAccount}. The changes of ${outbox.account} stay in this browser and are sent when ${outbox.account} logs in here. Load the page again.`;
  function mayChange() {
    if (outbox.state.otherAccount) say(ofAnother(), true);
    else if (base.number < 0) say("The marks are still loading.", true);
    else if (submitted) say("You submitted this cine. Press r to open it again.", true);
    return base.number >= 0 && !submitted && !outbox.state.otherAccount;
  }
  function apply(changes) {
    for (const [id, mark] of changes) {
      if (mark) write("mark", mark);
      else if (held.has(id)) write("remove", { mark: id });
    }
    recompute();
  }
  function change(changes, { continues = null } = {}) {
    if (!mayChange()) return false;
    const step = changes.map(([id, mark]) => ({ id, before: held.get(id) ?? null, after: mark }));
    const last = done.at(-1);
    apply(changes);
    if (continues && last?.continues === continues && last.step.length === 1 && step.length === 1 && last.step[0].id === step[0].id)
      last.step[0].after = step[0].after;
    else done.push({ step, continues });
    undone = [];
    changed();
    return true;
  }
  function turnBack(from, to, side, other, name) {
    const last = from.pop();
    if (!last) { say(`There is nothing to ${name}.`); return; }
    if (!mayChange()) { from.push(last); return; }
    if (last.step.some((each) => words(held.get(each.id)) !== words(each[other]))) {
      say(`This step was not ${name === "undo" ? "undone" : "done again"}, because the mark was changed since then.`, true);
      return;
    }
    apply(last.step.map((each) => [each.id, each[side]]));
    to.push({ step: last.step, continues: null });
    say(name === "undo" ? "Undone." : "Done again.");
    changed();
  }
  const undo = () => turnBack(done, undone, "before", "after", "undo");
  const redo = () => turnBack(undone, done, "after", "before", "redo");
  function make(kind, named, [first, last], values = {}) {
    const shown = typeof player === "undefined" ? "" : player.shown?.() ?? "";
    return { id: newId(), label: named, first_frame: first, last_frame: last, shown, started_from: "", note: "", kind, ...values };
  }
  function remove() {
    if (!selected) { say("Select a mark first: click it, or press , or ."); return; }
    change([[selected, null]]);
  }
  // Drawing files say here what is begun and not finished, so that no key throws it away silently.
  const unfinished = () => unfinishedCallbacks.map((callback) => callback()).find(Boolean);
  function submit() {
    if (unfinished()) { say(unfinished(), true); return; }
    if (submitted || !mayChange()) { if (submitted) say("This cine is submitted already. Press n for the next one."); return; }
    write("submit", {});
    recompute();
    changed();
    say(`Submitted with ${counted(held.size)}. Press n for the next cine.`);
  }
  function reopen() {
    if (!submitted) { say("This cine is open; you can change it."); return; }
    if (outbox.state.otherAccount) { say(ofAnother(), true); return; }
    write("reopen", {});
    recompute();
    changed();
    say("This cine is open again.");
  }
  const counted = (n) => (n === 1 ? "one mark" : `${n} marks`);
  async function next() {
    if (unfinished()) { say(unfinished(), true); return; }
    try {
      // Who came from the list of what to look at next goes on in its order.
      const ordered = new URLSearchParams(location.search).get("from") === "next";
      const found = await send("GET", ordered ? `/next/after/${facts.source}` : `/labelling/${facts.task}/next?after=${facts.source}`);
      if (found.source) location.assign(`/cine/${found.source}?task=${facts.task}${ordered ? "&from=next" : ""}`);
      else say("You have submitted all cines of this list.");
    } catch (error) {
      say(error.status ? error.message : "The server does not answer. Your marks stay in this browser until it does.", true);
    }
  }

  // --- The page.
  function say(text, isProblem = false) {
    const line = part("marks-message");
    line.textContent = text;
    line.classList.toggle("problem", isProblem);
  }
  function select(id) { selected = id; changed(); }
  function step(by) {
    const all = [...held.values()].sort((a, b) => a.first_frame - b.first_frame);
    if (!all.length) { say("There is no mark yet."); return; }
    const at = all.findIndex((mark) => mark.id === selected);
    const found = all[at < 0 ? (by > 0 ? 0 : all.length - 1) : (at + by + all.length) % all.length];
    select(found.id);
    if (typeof player !== "undefined") player.seek(found.first_frame);
  }
  function choose(name) {
    label = name;
    labelCallbacks.forEach((callback) => callback(name));
    changed();
  }
  function keysOf(name, place) {
    if (name === "other") return ["0"];
    const letter = name[0].toLowerCase();
    const isFree = /[a-z]/.test(letter) && !TAKEN[kinds.length > 1 ? "shapes" : "spans"].includes(letter) && labels.filter((each) => each[0].toLowerCase() === letter).length === 1;
    return [...(place < 9 ? [String(place + 1)] : []), ...(isFree ? [letter] : [])];
  }
  function button(text, key, action, host, hint = text) {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = key ? `${text} (${key})` : text;
    if (key) { made.setAttribute("aria-keyshortcuts", key); keys.add(key, hint, action); }
    made.addEventListener("click", action);
    host.append(made);
    return made;
  }
  const buttons = new Map();
  function begin(answer) {
    labels = answer.labels;
    kinds = answer.kinds;
    labels.forEach((name, place) => {
      const [first = "", ...more] = keysOf(name, place);
      const made = button(name, first, () => choose(name), part("marks-labels"), `Label: ${name}`);
      more.forEach((key) => keys.add(key, `Label: ${name}`, () => choose(name)));
      if (more.length) made.textContent = `${name} (${[first, ...more].filter(Boolean).join(", ")})`;
      made.style.borderLeftColor = colour(name);
      buttons.set(name, made);
    });
    callbacks.forEach((callback) => callback());
  }
  const colour = (name) => COLOURS[Math.max(0, labels.indexOf(name)) % COLOURS.length];
  function frames(mark) {
    if (mark.kind !== "span") return `frame ${mark.first_frame}`;
    return mark.first_frame === mark.last_frame ? `frame ${mark.first_frame}` : `frames ${mark.first_frame} to ${mark.last_frame}`;
  }
  function list() {
    const rows = [...held.values()].sort((a, b) => a.first_frame - b.first_frame).map((mark) => {
      const row = document.createElement("li"), pick = document.createElement("button");
      pick.type = "button";
      pick.dataset.mark = mark.id;
      pick.setAttribute("aria-pressed", String(mark.id === selected));
      pick.textContent = [mark.label, frames(mark), ...(typeof painting === "undefined" ? [] : [painting.value(mark)])].filter(Boolean).join(" · ");
      pick.style.borderLeftColor = colour(mark.label);
      pick.addEventListener("click", () => { select(mark.id); if (typeof player !== "undefined") player.seek(mark.first_frame); });
      row.append(pick);
      return row;
    });
    const focused = document.activeElement?.dataset?.mark;
    part("marks-list").replaceChildren(...rows);
    if (focused) part("marks-list").querySelector(`[data-mark="${focused}"]`)?.focus();
    part("marks-none").hidden = rows.length > 0;
  }
  function changed() {
    for (const [name, made] of buttons) made.setAttribute("aria-pressed", String(name === label));
    list();
    part("marks-state").textContent = submitted ? "submitted" : "open";
    part("marks-submit").hidden = submitted;
    part("marks-reopen").hidden = !submitted;
    part("marks-counts").hidden = base.counts !== false;
    callbacks.forEach((callback) => callback());
  }

  // --- Saving, and the session.
  const saved = part("marks-saved"), dialog = part("marks-log-in");
  outbox.on((state, answer) => {
    if (answer?.url === url) acknowledged(answer);
    saved.textContent = state.problem || (state.waiting ? `not saved yet: ${state.waiting}` : "all saved");
    saved.className = state.problem ? "problem" : state.waiting ? "waiting" : "good";
    if (state.otherAccount) say(ofAnother(), true);
    part("marks-refused").hidden = !state.refused.length;
    part("marks-refused-words").textContent = [...new Set(state.refused.map((each) => `Cine ${each.url.split("/").at(-1).slice(0, 12)}: ${each.refused}`))].join(" ");
    part("marks-refused-count").textContent = `${state.refused.length} of your changes ${state.refused.length === 1 ? "was" : "were"} refused:`;
    if (state.loggedOut && !dialog.open && !isBusy) dialog.showModal();
    if (!state.loggedOut && dialog.open) dialog.close();
  });
  function acknowledged({ events, number, refused }) {
    const ids = new Set(events.map((event) => event.id));
    if (refused) {
      recent = recent.filter((each) => !ids.has(each.event.id));
      recompute();
      changed();
      return;
    }
    for (const each of recent) if (ids.has(each.event.id)) each.number = number;
    channel?.postMessage(url);
  }
  dialog.querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const line = dialog.querySelector(".problem"), form = new URLSearchParams(new FormData(event.target));
    try {
      const answer = await fetch("/log-in", { method: "POST", body: form, headers: { Accept: "application/json" }, redirect: "manual" });
      if (answer.status === 429) throw new Error((await answer.json()).detail);
      await outbox.loggedIn();
      line.textContent = "";
      event.target.reset();
      ask();
    } catch (error) {
      line.textContent = error.status === 401 ? "The name or the password is wrong." : `The log-in did not work. ${error.message}`;
    }
  });
  dialog.querySelector("[data-later]").addEventListener("click", () => dialog.close());
  part("marks-refused-again").addEventListener("click", () => outbox.sendRefused());
  part("marks-refused-forget").addEventListener("click", () => outbox.forgetRefused());

  const bar = part("marks-buttons");
  button("Undo", "Ctrl+z", undo, bar);
  button("Redo", "Ctrl+y", redo, bar);
  button("Remove", "Delete", remove, bar, "Remove the selected mark");
  keys.add(",", "Select the mark before", () => step(-1));
  keys.add(".", "Select the next mark", () => step(1));
  const submitButton = button("Submit", "d", submit, bar, "Submit: the work on this cine is done");
  submitButton.id = "marks-submit";
  submitButton.className = "main";
  button("Open again", "r", reopen, bar, "Open a submitted cine again").id = "marks-reopen";
  button("Next cine", "n", next, bar, "The next cine that you have not submitted");
  outbox.loaded.then(() => {
    recent = [...outbox.waiting(url).map((event) => ({ event, number: null })).filter(({ event }) => !recent.some((each) => each.event.id === event.id)), ...recent];
    recompute();
    ask();
  });
  setInterval(() => { if (!document.hidden) ask(); }, POLL_MS);
  addEventListener("focus", ask);
  if (channel) channel.onmessage = (message) => { if (message.data === url) ask(); };

  return {
    facts, make, change, select, undo, redo, say, button, colour, mayChange, submit, next,
    all: () => [...held.values()],
    get: (id) => held.get(id) ?? null,
    get selected() { return selected; },
    get label() { return label; },
    get labels() { return labels; },
    get kinds() { return kinds; },
    get isLoaded() { return base.number >= 0; },
    get submitted() { return submitted; },
    get stillId() { return base.still; },
    set busy(value) { isBusy = value; if (!value && outbox.state.loggedOut && !dialog.open) dialog.showModal(); },
    onLabel(callback) { labelCallbacks.push(callback); },
    onLeave(callback) { unfinishedCallbacks.push(callback); },
    on(callback) { callbacks.push(callback); },
  };
})();
