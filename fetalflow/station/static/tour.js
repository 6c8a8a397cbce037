// The tour: one sentence above the picture says what to do next, until the person has submitted enough cines. It lives in
// the session of one tab, and begins at the link of /tour.
"use strict";
(() => {
  const NAME = "fetalflow-tour";
  const read = () => JSON.parse(sessionStorage.getItem(NAME) ?? "null");
  const begin = document.getElementById("begin-tour");
  if (begin) {
    const { goal, done } = begin.dataset;
    begin.addEventListener("click", () => sessionStorage.setItem(NAME, JSON.stringify({ goal: +goal, done: +done })));
    begin.focus();
    return;
  }
  const tour = read();
  if (!tour || typeof marks === "undefined") return;

  const drawing = typeof spans === "undefined";
  const pressed = new Set();
  document.addEventListener("keydown", (event) => pressed.add(event.key));
  const isStill = player.frames === 1;
  const made = () => marks.all().length > 0;
  const isSubmitted = () => document.getElementById("marks-state").textContent.trim() === "submitted";
  const steps = [
    { text: "Press the space bar: the cine plays. Press it again: it stops.", done: () => isStill || tour.done > 0 || pressed.has(" ") || made() },
    ...(drawing
      ? [
          { text: "Press the key of a structure that you see, such as 1, and then c for a length or e for an ellipse.", done: () => made() || [..."cepb"].some((key) => pressed.has(key)) },
          { text: "Press with the mouse on the ends of what you measure.", done: made },
        ]
      : [
          { text: "Go with the arrow keys ← and → to the first frame on which it moves. Press i there; w takes the whole cine.", done: () => made() || pressed.has("i") || pressed.has("w") },
          { text: "Go to the last frame on which it moves. Press o there.", done: () => made() || pressed.has("o") || pressed.has("w") },
          { text: "Press the key of what moves: the buttons on the right have the keys, such as head (1).", done: made },
        ]),
    { text: "Press d to submit this cine. Before that, Ctrl+Z takes back what is wrong.", done: isSubmitted },
  ];
  const line = document.createElement("p");
  line.className = "tour";
  line.setAttribute("role", "status");
  const close = document.createElement("button");
  close.type = "button";
  close.textContent = "End the tour";
  const words = document.createElement("span");
  line.append(words, close);
  document.getElementById("main").prepend(line);
  close.addEventListener("click", () => { sessionStorage.removeItem(NAME); line.remove(); });

  let counted = false;
  function show() {
    const next = steps.find((step) => !step.done());
    if (!next && !counted) {
      counted = true;
      tour.done += 1;
      sessionStorage.setItem(NAME, JSON.stringify(tour));
    }
    const over = tour.done >= tour.goal;
    if (over) sessionStorage.removeItem(NAME);
    const count = `${Math.min(tour.done + (next ? 1 : 0), tour.goal)} of ${tour.goal}`;
    const text = next ? next.text : over ? "That was the last one. You know all that you need; ? shows more keys." : "Press n for the next cine.";
    const all = `Tour, cine ${count}. ${text}`;
    if (words.textContent !== all) words.textContent = all;
  }
  marks.on(show);
  document.addEventListener("keyup", show);
  new MutationObserver(show).observe(document.getElementById("marks-state"), { childList: true, characterData: true, subtree: true });
  show();
})();
