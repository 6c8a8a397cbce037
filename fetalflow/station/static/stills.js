// One key for each picture: its label is written, the picture is submitted, and the next one is there at once.
"use strict";
(() => {
  const { task, labels } = JSON.parse(document.getElementById("facts").textContent);
  const ENOUGH = 6;
  const part = (id) => document.getElementById(id);
  const shown = [], buttons = new Map();
  let at = 0, left = 0, isAsking = false, isOver = false;

  const address = (still) => `/frames/${still.source}/${still.digest}/masked/0.png`;
  const say = (text, isProblem = false) => {
    part("marks-message").textContent = text;
    part("marks-message").classList.toggle("problem", isProblem);
  };
  const ofAnother = () => `This browser is now logged in as ${outbox.state.otherAccount}. Load the page again.`;
  const write = (still, action, value) => outbox.put(`/marks/${task}/${still.source}`, { id: newId(), action, value });

  async function more() {
    if (isAsking || isOver || shown.length - at > ENOUGH) return;
    isAsking = true;
    try {
      const answer = await send("GET", `/labelling/${task}/stills?after=${shown.at(-1)?.source ?? ""}`);
      outbox.belongsTo(answer.account);
      const fresh = answer.stills.filter((still) => !shown.some((known) => known.source === still.source));
      // What is on its way to the server waits there still, and is no picture to label.
      shown.push(...fresh.map((still) => ({ ...still, submitted: false })));
      left = answer.left;
      isOver = !fresh.length;
      if (answer.cine) { part("still-cine").href = `/cine/${answer.cine}?task=${task}`; part("still-cine").hidden = false; }
      fresh.forEach((still) => { new Image().src = address(still); });
      show();
    } catch (error) {
      if (error.status === 401) location.assign("/log-in");
      if (outbox.state.otherAccount) return;
      say(error.status ? error.message : "The server does not answer. Your labels stay in this browser until it does.", true);
      setTimeout(more, 3000);
    } finally {
      isAsking = false;
    }
  }
  function show() {
    const still = shown[at];
    part("still").hidden = !still;
    part("still-end").hidden = Boolean(still) || !isOver;
    if (still && part("still").dataset.source !== still.source) {
      part("still").src = address(still);
      part("still").dataset.source = still.source;
    }
    part("still-name").textContent = still ? `${still.name} · picture ${at + 1} of this session · ${Math.max(0, left - shown.slice(0, at).filter((each) => each.submitted).length)} wait` : "";
    if (!still && isOver) say("All stills are labelled.");
    for (const [name, button] of buttons) button.setAttribute("aria-pressed", String(still?.mark?.label === name));
  }
  function label(name) {
    const still = shown[at];
    if (!still) return;
    if (outbox.state.otherAccount) { say(ofAnother(), true); return; }
    if (still.submitted) write(still, "reopen", {});
    const mark = { id: still.mark?.id ?? still.id, label: name, first_frame: 0, last_frame: 0, shown: "", started_from: "", note: "", kind: "span" };
    write(still, "mark", mark);
    write(still, "submit", {});
    Object.assign(still, { mark, submitted: true });
    say(`${still.name}: ${name}.`);
    at += 1;
    show();
    more();
  }
  function back() {
    if (!at) { say("This is the first picture."); return; }
    at -= 1;
    say(`${shown[at].name}: ${shown[at].mark?.label ?? "not labelled"}. Press a key to change it.`);
    show();
  }
  function forward() {
    if (at >= shown.length) return;
    if (!shown[at].submitted) say(`${shown[at].name} is left without a label.`);
    at += 1;
    show();
    more();
  }
  function takeBack() {
    const still = shown[at - 1];
    if (!still?.submitted) { back(); return; }
    if (outbox.state.otherAccount) { say(ofAnother(), true); return; }
    write(still, "reopen", {});
    write(still, "remove", { mark: still.mark.id });
    Object.assign(still, { mark: null, submitted: false });
    back();
  }
  function button(text, key, action, host) {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = `${text} (${key})`;
    made.setAttribute("aria-keyshortcuts", key);
    made.addEventListener("click", action);
    keys.add(key, text, action);
    host.append(made);
    return made;
  }
  labels.forEach((name, place) => {
    const key = name === "other" ? "0" : place < 9 ? String(place + 1) : String.fromCharCode(97 + place - 9);
    buttons.set(name, button(name, key, () => label(name), part("marks-labels")));
  });
  button("Back", "ArrowLeft", back, part("marks-buttons"));
  button("Without a label", "ArrowRight", forward, part("marks-buttons"));
  button("Undo", "Ctrl+z", takeBack, part("marks-buttons"));
  outbox.on((state) => {
    part("marks-saved").textContent = state.problem || (state.waiting ? `not saved yet: ${state.waiting}` : "all saved");
    part("marks-saved").className = state.problem ? "problem" : state.waiting ? "waiting" : "good";
    if (state.refused.length) say(state.refused.map((each) => each.refused).join(" "), true);
    if (state.loggedOut) say("Your session has ended. Log in again in another tab; your labels stay in this browser and are sent then.", true);
    if (state.otherAccount) say(ofAnother(), true);
  });
  outbox.loaded.then(more);
})();
