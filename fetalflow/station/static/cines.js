// The list of cines: only the rows that are in view are in the page, so that ten thousand scroll as fast as ten.
"use strict";
(() => {
  const HEIGHT = 60, SPARE = 6, REMEMBERED = "fetalflow-last-cine";
  const COLUMNS = [["still", "Still"], ["name", "Name"], ["patient", "Patient"], ["labels", "Labels"], ["site", "Site"],
    ["device", "Device"], ["annotators", "Annotators"], ["frames", "Frames"], ["state", "Why to look"]];
  const BAD = new Set(["mistake", "disagreement"]), WARN = new Set(["quarantine", "unfamiliar", "unlabelled", "arrived"]);
  const [grid, said, inbox] = ["grid", "said", "inbox"].map((id) => document.getElementById(id));
  const titles = grid.querySelector(".titles .row"), body = grid.querySelector(".rows");
  const { form, buttons } = cineFilters;
  const words = Object.fromEntries(buttons.map((b) => [b.dataset.state, b.dataset.words]));
  let all = [], shown = [], active = 0, sort = { column: "patient", down: false }, drawn = new Map();

  const element = (tag, properties, ...inner) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...inner);
    return made;
  };
  const cell = (...inner) => {
    const made = element("div", {}, ...inner);
    made.setAttribute("role", "gridcell");
    return made;
  };
  const address = (row) => `/cine/${row.source}?task=${encodeURIComponent(row.task)}`;

  // The still of a row, if the row is still in view. A cine that is not decoded yet has it a little later.
  const stills = new Map();
  async function still(picture, row) {
    if (!picture.isConnected) return;
    const url = `/cines/${row.task}/${row.source}/still`;
    if (!stills.has(url)) {
      const answer = await fetch(url).catch(() => undefined);
      if (!answer) return; // the server is away; the row is drawn without a still
      if (answer.status === 503) return setTimeout(() => still(picture, row), 2000);
      stills.set(url, answer.ok ? URL.createObjectURL(await answer.blob()) : "");
      if (stills.size > 1000) {
        const [oldest, kept] = stills.entries().next().value;
        URL.revokeObjectURL(kept);
        stills.delete(oldest);
      }
    }
    if (stills.get(url)) picture.src = stills.get(url);
  }

  function drawRow(number) {
    const row = shown[number], made = element("div", { className: "row", id: `row-${number}` });
    made.setAttribute("role", "row");
    made.setAttribute("aria-rowindex", number + 2);
    made.style.transform = `translateY(${number * HEIGHT}px)`;
    const picture = element("img", { alt: "", width: 76, height: 54 });
    setTimeout(() => still(picture, row), 80); // a row that only passes by while scrolling asks for nothing
    const link = element("a", { href: address(row), textContent: row.name, tabIndex: -1 });
    const states = row.state.map((state) => element("span", { className: `tag ${BAD.has(state) ? "bad" : WARN.has(state) ? "warn" : ""}`, textContent: words[state] }));
    const last = cell(...states);
    last.classList.add("state");
    made.append(cell(picture), cell(link), ...["patient", "labels", "site", "device", "annotators"].map((c) => cell([row[c]].flat().join(", "))),
      cell(row.frames || "?"), last);
    made.title = `${row.name} · ${row.patient} · ${row.site} · ${row.device}`;
    made.addEventListener("click", (event) => { move(number); if (!event.target.closest("a") && !getSelection().toString()) open(); });
    return made;
  }

  function draw() {
    const first = Math.max(0, Math.floor(grid.scrollTop / HEIGHT) - SPARE);
    const last = Math.min(shown.length, Math.ceil((grid.scrollTop + grid.clientHeight) / HEIGHT) + SPARE);
    for (const [number, row] of drawn) if (number < first || number >= last) { row.remove(); drawn.delete(number); }
    let before = null; // rows are in the page in their order, as a screen reader reads them
    for (let number = last - 1; number >= first; number--) {
      if (!drawn.has(number)) {
        drawn.set(number, drawRow(number));
        body.insertBefore(drawn.get(number), before);
      }
      before = drawn.get(number);
    }
    for (const [number, row] of drawn) {
      row.classList.toggle("active", number === active);
      row.setAttribute("aria-selected", String(number === active));
    }
    if (drawn.has(active)) grid.setAttribute("aria-activedescendant", `row-${active}`);
    else grid.removeAttribute("aria-activedescendant");
  }

  function move(number) {
    if (!shown.length) return;
    active = Math.max(0, Math.min(shown.length - 1, number));
    const top = active * HEIGHT, title = titles.offsetHeight, room = grid.clientHeight - title;
    if (top < grid.scrollTop) grid.scrollTop = top;
    else if (top + HEIGHT > grid.scrollTop + room) grid.scrollTop = top + HEIGHT - room;
    draw();
  }

  function open() {
    if (!shown[active]) return;
    sessionStorage.setItem(REMEMBERED, shown[active].source);
    location.href = address(shown[active]);
  }

  function apply(keep) {
    const before = keep ?? shown[active]?.source, choice = cineFilters.chosen();
    shown = cineFilters.sorted(all.filter((row) => cineFilters.fits(row, choice)), sort.column, sort.down);
    cineFilters.count(all);
    cineFilters.toUrl(sort);
    for (const row of drawn.values()) row.remove();
    drawn = new Map();
    body.style.height = `${shown.length * HEIGHT}px`;
    grid.setAttribute("aria-rowcount", shown.length + 1);
    said.textContent = !all.length ? "This workspace has no cines yet." : shown.length
      ? `${shown.length} of ${all.length} cines. Move with j and k, open with Enter.`
      : `No cine of ${all.length} fits these filters. Press x to show all.`;
    for (const title of titles.children) title.setAttribute("aria-sort", title.dataset.column === sort.column ? (sort.down ? "descending" : "ascending") : "none");
    const found = shown.findIndex((row) => row.source === before);
    active = 0;
    move(found < 0 ? 0 : found);
  }

  function drawTitles() {
    for (const [column, text] of COLUMNS) {
      const title = element("div", {});
      title.setAttribute("role", "columnheader");
      if (column === "still") title.append(element("span", { className: "unseen", textContent: text }));
      else {
        title.dataset.column = column;
        const button = element("button", { type: "button", textContent: text, title: "Sort by this column" });
        button.addEventListener("click", () => {
          sort = { column, down: sort.column === column && !sort.down };
          apply(""); // from the top of the new order
        });
        title.append(button);
      }
      titles.append(title);
    }
  }

  async function begin() {
    drawTitles();
    try {
      const answer = await fetch("/cines/list");
      const found = await answer.json();
      if (!answer.ok) throw new Error(found.detail ?? answer.statusText);
      inbox.textContent = found.note ?? "";
      inbox.hidden = !found.note;
      all = found.rows.map((row) => Object.fromEntries(found.columns.map((column, at) => [column, row[at]])));
    } catch (error) {
      said.textContent = `The list could not be read: ${error.message}`;
      said.classList.add("problem");
      return;
    }
    cineFilters.fill(all);
    sort = cineFilters.fromUrl();
    if (!COLUMNS.some(([column]) => column === sort.column)) sort = { column: "patient", down: false };
    buttons.filter((button) => all.some((row) => row.state.includes(button.dataset.state))).forEach((button, at) => {
      button.append(" ", element("kbd", { textContent: at + 1 }));
      button.setAttribute("aria-keyshortcuts", at + 1);
      keys.add(String(at + 1), `Only: ${button.dataset.words}, or all again`, () => button.click());
    });
    grid.hidden = false;
    apply(sessionStorage.getItem(REMEMBERED));
    grid.focus({ preventScroll: true });
  }

  grid.addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
  addEventListener("resize", () => draw());
  form.addEventListener("input", () => apply());
  form.addEventListener("submit", (event) => { event.preventDefault(); grid.focus(); });
  form.elements.search.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.preventDefault(); // which would empty the field
    grid.focus();
  });
  for (const button of buttons) button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
    apply();
  });
  const showAll = () => { cineFilters.clear(); apply(); };
  document.getElementById("clear").addEventListener("click", showAll);
  const page = () => Math.max(1, Math.floor(grid.clientHeight / HEIGHT) - 1);
  for (const key of ["j", "ArrowDown"]) keys.add(key, "Next cine", () => move(active + 1));
  for (const key of ["k", "ArrowUp"]) keys.add(key, "Cine before", () => move(active - 1));
  keys.add("PageDown", "A page on", () => move(active + page()));
  keys.add("PageUp", "A page back", () => move(active - page()));
  keys.add("Home", "First cine", () => move(0));
  keys.add("End", "Last cine", () => move(shown.length - 1));
  keys.add("Enter", "Open the cine", open);
  keys.add("/", "Go to the filter of patient or name", () => form.elements.search.focus());
  keys.add("x", "Show all: clear the filters", showAll);
  begin();
})();
