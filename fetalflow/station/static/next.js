// What to look at next: keys for the list, and the networks' answers to the cines that have none yet.
"use strict";
(() => {
  const said = document.getElementById("said"), RETRIES = 5;
  let active = 0, moved = false;
  const rows = () => [...document.querySelectorAll("#queue tbody tr")];

  function move(number, byKey = true) {
    const all = rows();
    if (!all.length) return;
    moved ||= byKey;
    active = Math.max(0, Math.min(all.length - 1, number));
    all.forEach((row, at) => row.classList.toggle("active", at === active));
    if (!byKey) return;
    all[active].querySelector("a").focus({ preventScroll: true }); // a screen reader reads the row
    all[active].scrollIntoView({ block: "nearest" });
  }

  // A cine that is not decoded yet has its still a little later.
  function stills() {
    for (const picture of document.querySelectorAll("#queue img")) {
      let tries = 0;
      picture.addEventListener("load", () => picture.classList.remove("waits"));
      picture.addEventListener("error", () => {
        picture.classList.add("waits");
        tries += 1;
        if (tries <= RETRIES) setTimeout(() => { picture.src = `${picture.getAttribute("src").split("#")[0]}#${tries}`; }, 2000 * tries);
      });
    }
  }

  async function show() {
    const source = rows()[active]?.dataset.source, had = document.activeElement?.closest?.("#queue") !== null;
    const page = new DOMParser().parseFromString(await (await fetch(location.href, { headers: { Accept: "text/html" } })).text(), "text/html");
    const fresh = page.getElementById("queue");
    if (!fresh) return location.reload(); // the session has ended
    document.getElementById("queue").replaceWith(fresh);
    stills();
    move(moved ? Math.max(0, rows().findIndex((row) => row.dataset.source === source)) : 0, moved && had);
  }

  async function ask() {
    let asked = 0;
    try {
      for (;;) {
        const found = await send("POST", "/next/ask");
        asked += found.asked;
        if (!found.left) break;
        said.textContent = `The networks answer the cines without a label: ${found.answered} have an answer, ${found.left} answers are missing. The order follows.`;
        await new Promise((done) => setTimeout(done, 300));
      }
      if (asked) await show();
      said.textContent = asked ? "The order is complete." : "";
    } catch (error) {
      said.textContent = `The networks could not be asked: ${error.message}`;
    }
  }

  const open = (selector) => { const link = rows()[active]?.querySelector(selector); if (link) location.href = link.href; };
  for (const key of ["j", "ArrowDown"]) keys.add(key, "Next cine", () => move(active + 1));
  for (const key of ["k", "ArrowUp"]) keys.add(key, "Cine before", () => move(active - 1));
  keys.add("Home", "First cine", () => move(0));
  keys.add("End", "Last cine", () => move(rows().length - 1));
  keys.add("Enter", "Open the cine", () => open("a"));
  keys.add("c", "Check the label", () => open("a.check"));
  document.querySelectorAll("[data-only]").forEach((link, at) => keys.add(String(at + 1), `Show: ${link.firstChild.textContent.trim()}`, () => { location.href = link.href; }));
  stills();
  move(0, false);
  ask();
})();
