// Deciding with keys: 1, 2, ... choose in the first open case, w goes to its reason, Enter there decides.
"use strict";
(() => {
  const first = document.querySelector(".case");
  if (first) {
    first.classList.add("now");
    const choices = [...first.querySelectorAll("input[name=choice]")], why = first.querySelector("input[name=why]");
    choices.forEach((choice, number) => keys.add(String(number + 1), choice.parentElement.textContent.trim().replace(/\s*\d$/, ""), () => {
      choice.checked = true;
      why.focus();
    }));
    keys.add("w", "Write the reason", () => why.focus());
    why.addEventListener("keydown", (event) => { if (event.key === "Escape") why.blur(); });
  }
  const next = document.getElementById("next");
  if (next) keys.add("n", "Next disagreement", () => next.click());
  keys.add("a", "Go to agreement", () => { location.href = "/agreement"; });
})();
