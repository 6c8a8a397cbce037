// Decide on rows in quarantine: choose rows, see the plan, confirm it.
"use strict";
(() => {
  const { element, short, drawRow, drawDetails, drawKinds } = quarantineView;
  const BLOCK = 300; // rows that are drawn at once
  const desk = document.getElementById("desk"), task = desk.dataset.task, base = `/quarantine/${encodeURIComponent(task)}`;
  const body = document.querySelector("#rows tbody"), panel = document.getElementById("details"), said = document.getElementById("said");
  const filters = document.getElementById("filters"), decision = document.getElementById("decision"), all = document.getElementById("all");
  const more = document.getElementById("more"), dialog = document.getElementById("plan");
  let rows = [], kinds = [], kind = "", active = 0, drawn = 0, asked = 0, begun = false;
  const chosen = new Set();

  const say = (text, isProblem = false) => { said.textContent = text; said.classList.toggle("problem", isProblem); };
  const waiting = () => rows.filter((row) => !row.decided);
  const targets = () => (chosen.size ? rows.filter((row) => chosen.has(row.row)) : rows.slice(active, active + 1));
  const query = () => {
    const found = new URLSearchParams();
    if (kind) found.set("kind", kind);
    for (const field of filters.elements) if (field.name && field.value) found.set(field.name, field.value);
    return found;
  };

  async function load(keepWords) {
    const number = ++asked, wanted = query();
    history.replaceState(null, "", `?${new URLSearchParams([["task", task], ...wanted])}`);
    try {
      const answer = await fetch(`${base}/rows?${wanted}`);
      const found = await answer.json();
      if (!answer.ok) throw new Error(found.detail ?? answer.statusText);
      if (number !== asked) return; // a newer question is on its way
      ({ rows, kinds } = found);
    } catch (error) {
      return say(error.message, true);
    }
    const there = new Set(rows.map((row) => row.row));
    for (const name of chosen) if (!there.has(name)) chosen.delete(name);
    if (!begun) { fill(); begun = true; }
    drawKinds(document.getElementById("kinds"), kinds, kind, pick);
    document.getElementById("advice").textContent = kinds.find((each) => each.kind === kind)?.to_do ? `What to do: ${kinds.find((each) => each.kind === kind).to_do}.` : "";
    draw();
    if (!keepWords) say(rows.length ? `${rows.length} rows. Move with j and k, choose with c, decide with r or e.` : "No row is in quarantine with these filters.");
  }

  function fill() {
    for (const name of ["label", "patient", "annotator", "site"]) {
      const field = filters.elements[name], before = new URLSearchParams(location.search).get(name) ?? "";
      const values = [...new Set([...rows.map((row) => row[name]), before])].filter(Boolean).sort();
      field.replaceChildren(new Option("all", ""), ...values.map((value) => new Option(value, value)));
      field.value = before;
    }
  }

  function draw() {
    body.replaceChildren();
    drawn = 0;
    document.getElementById("rows").hidden = !rows.length;
    active = Math.max(0, Math.min(active, rows.length - 1));
    drawMore();
    move(active, false);
    count();
  }

  function drawMore() {
    for (const [at, row] of rows.slice(drawn, drawn + BLOCK).entries()) {
      const number = drawn + at;
      const made = drawRow(row, chosen.has(row.row), (isOn) => { isOn ? chosen.add(row.row) : chosen.delete(row.row); count(); });
      made.addEventListener("click", () => move(number));
      body.append(made);
    }
    drawn = Math.min(rows.length, drawn + BLOCK);
    more.hidden = drawn >= rows.length;
  }

  function count() {
    document.getElementById("chosen").textContent = chosen.size ? `${chosen.size} rows chosen` : "The marked row";
    all.checked = chosen.size > 0 && chosen.size >= waiting().length;
    all.indeterminate = chosen.size > 0 && !all.checked;
  }

  async function move(number, scroll = true) {
    if (!rows.length) return panel.replaceChildren(element("p", { className: "soft", textContent: "Nothing is chosen." }));
    active = Math.max(0, Math.min(rows.length - 1, number));
    while (active >= drawn && drawn < rows.length) drawMore();
    for (const row of body.querySelectorAll(".active, [aria-current]")) { row.classList.remove("active"); row.removeAttribute("aria-current"); }
    const made = body.children[active], name = rows[active].row;
    made.classList.add("active");
    made.setAttribute("aria-current", "true");
    if (scroll) made.scrollIntoView({ block: "nearest" });
    try {
      const answer = await fetch(`${base}/rows/${name}`);
      const found = await answer.json();
      if (!answer.ok) throw new Error(found.detail ?? answer.statusText);
      if (rows[active]?.row === name) drawDetails(panel, found, task);
    } catch (error) {
      panel.replaceChildren(element("p", { className: "problem", textContent: error.message }));
    }
  }

  function atRow(name, text) {
    const place = body.querySelector(`[data-row="${name}"] .result`);
    if (place) place.textContent = text;
  }

  async function decide(what) {
    const names = targets().map((row) => row.row), label = what === "release" ? decision.elements.label.value : "";
    const why = decision.elements.why.value.trim();
    if (!names.length) return say("No row is in quarantine.", true);
    if (!why) {
      say("Write the reason first: it is kept with the decision.", true);
      return decision.elements.why.focus();
    }
    for (const place of body.querySelectorAll(".result")) place.textContent = "";
    try {
      const plan = await send("POST", `${base}/plan`, { decision: what, rows: names, label });
      for (const [name, reason] of Object.entries(plan.refused)) atRow(name, reason);
      if (!plan.rows.length) return say(Object.keys(plan.refused).length === 1 ? Object.values(plan.refused)[0] : `None of these ${names.length} rows can be decided so; each row says why.`, true);
      if (!(await confirmed(what, plan, label, why))) return say("Nothing was changed.");
      const done = await send("POST", `${base}/decide`, { decision: what, rows: plan.rows, label, why });
      say(`${done.rows.length} ${done.rows.length === 1 ? "row is" : "rows are"} ${what === "release" ? "released" : "rejected"}. The next fetalflow run ${what === "release" ? "uses them" : "leaves them out"}.`);
      for (const name of done.rows) chosen.delete(name);
      decision.elements.why.value = "";
      await load(true);
      for (const [name, reason] of Object.entries(plan.refused)) atRow(name, reason);
    } catch (error) {
      say(error.message, true);
    }
  }

  function confirmed(what, plan, label, why) {
    const by = new Map(rows.map((row) => [row.row, row])), refused = Object.entries(plan.refused);
    const verb = what === "release" ? "Release" : "Reject";
    dialog.querySelector("h2").textContent = `${verb} ${plan.rows.length} of ${plan.rows.length + refused.length} rows${label ? ` as ${label}` : ""}?`;
    const before = (name) => (plan.decided[name] ? ` (decided before: ${plan.decided[name]})` : "");
    dialog.querySelector(".rows").replaceChildren(...plan.rows.map((name) => element("li", { textContent: short(by.get(name)) + before(name) })));
    dialog.querySelector(".refused").hidden = !refused.length;
    dialog.querySelector(".refused ul").replaceChildren(...refused.map(([name, reason]) => element("li", { textContent: `${short(by.get(name))}: ${reason}` })));
    dialog.querySelector(".note").textContent = `Reason: ${why}. The decision is kept for ever with your name; a later decision on the same row counts instead of it.`;
    const yes = document.getElementById("yes"), no = document.getElementById("no");
    yes.textContent = `${verb} ${plan.rows.length}`;
    dialog.returnValue = "";
    dialog.showModal();
    yes.focus();
    return new Promise((done) => {
      yes.onclick = () => dialog.close("yes");
      no.onclick = () => dialog.close("");
      dialog.onclose = () => done(dialog.returnValue === "yes");
    });
  }

  const pick = (name) => { kind = name; active = 0; chosen.clear(); load(); };
  const clear = () => { filters.reset(); pick(""); };
  const chooseAll = (isOn) => {
    chosen.clear();
    if (isOn) for (const row of waiting()) chosen.add(row.row);
    for (const row of body.children) row.querySelector("input").checked = chosen.has(row.dataset.row);
    count();
  };
  const choose = () => {
    const box = body.children[active]?.querySelector("input");
    if (!box) return;
    box.checked = !box.checked;
    box.dispatchEvent(new Event("change"));
    move(active + 1);
  };
  let typed;
  filters.addEventListener("input", () => { clearTimeout(typed); typed = setTimeout(() => { active = 0; chosen.clear(); load(); }, 200); });
  filters.addEventListener("submit", (event) => { event.preventDefault(); document.activeElement.blur(); });
  decision.addEventListener("submit", (event) => { event.preventDefault(); document.activeElement.blur(); });
  for (const button of decision.querySelectorAll("[data-decision]")) button.addEventListener("click", () => decide(button.dataset.decision));
  for (const field of document.querySelectorAll("input:not([type=checkbox])")) field.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.preventDefault(); // which would empty a field of the kind search
    field.blur();
  });
  document.getElementById("clear").addEventListener("click", clear);
  all.addEventListener("change", () => chooseAll(all.checked));
  more.addEventListener("click", drawMore);
  for (const key of ["j", "ArrowDown"]) keys.add(key, "Next row", () => move(active + 1));
  for (const key of ["k", "ArrowUp"]) keys.add(key, "Row before", () => move(active - 1));
  keys.add("c", "Choose the row, or leave it out again", choose);
  keys.add("a", "Choose all rows that nobody decided on, or none", () => chooseAll(!chosen.size));
  keys.add("w", "Write the reason", () => decision.elements.why.focus());
  keys.add("l", "Go to the correct label", () => decision.elements.label.focus());
  keys.add("r", "Release: the rows are used", () => decide("release"));
  keys.add("e", "Reject: the rows are never used", () => decide("reject"));
  keys.add("Enter", "Open the cine", () => { if (rows[active]?.source) location.href = `/cine/${rows[active].source}`; });
  keys.add("/", "Go to the filters", () => (filters.elements.video ?? filters.elements.label).focus());
  keys.add("x", "Show all: clear the filters", clear);
  for (let at = 0; at < 10; at++) keys.add(String(at), at ? `Only kind ${at}` : "All kinds", () => document.querySelectorAll("#kinds button")[at]?.click());

  const start = new URLSearchParams(location.search);
  if (filters.elements.video) filters.elements.video.value = start.get("video") ?? "";
  kind = "";
  const first = start.get("kind") ?? "";
  // The filters offer the values of all rows, so these are read first.
  const later = Object.fromEntries(["label", "patient", "annotator", "site"].map((name) => [name, start.get(name)]));
  load().then(() => {
    if (!first && !Object.values(later).some(Boolean)) return;
    kind = first;
    for (const [name, value] of Object.entries(later)) {
      const field = filters.elements[name];
      if (value && ![...field.options].some((option) => option.value === value)) field.append(new Option(value, value));
      field.value = value ?? "";
    }
    load();
  });
})();
