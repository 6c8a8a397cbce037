// Which cines the list shows, and in which order. The choice is in the page's URL, so that a link to it can be sent.
"use strict";
const cineFilters = (() => {
  const SELECTS = { task: "task", label: "labels", site: "site", device: "device", annotator: "annotators" };
  const form = document.getElementById("filters");
  const buttons = [...document.querySelectorAll("#states [data-state]")];
  const values = (row, column) => (Array.isArray(row[column]) ? row[column] : [row[column]]);

  function chosen() {
    const found = { search: form.elements.search.value.trim().toLowerCase(), states: [] };
    for (const name of Object.keys(SELECTS)) found[name] = form.elements[name].value;
    found.states = buttons.filter((b) => b.getAttribute("aria-pressed") === "true").map((b) => b.dataset.state);
    return found;
  }

  // Whether a row fits everything that is chosen, but for one filter: the counts on the buttons leave the states out.
  function fits(row, choice, without) {
    for (const [name, column] of Object.entries(SELECTS)) {
      if (choice[name] && !values(row, column).includes(choice[name])) return false;
    }
    if (choice.search && !`${row.patient} ${row.name} ${row.source}`.toLowerCase().includes(choice.search)) return false;
    return without === "states" || choice.states.every((state) => row.state.includes(state));
  }

  function fill(rows) {
    for (const [name, column] of Object.entries(SELECTS)) {
      const all = [...new Set(rows.flatMap((row) => values(row, column)))].filter(Boolean).sort(order);
      form.elements[name].append(...all.map((value) => new Option(value, value)));
    }
  }

  function count(rows) {
    const choice = chosen();
    const left = rows.filter((row) => fits(row, choice, "states"));
    for (const button of buttons) {
      const number = left.filter((row) => row.state.includes(button.dataset.state)).length;
      button.querySelector(".count").textContent = number;
      button.hidden = !rows.some((row) => row.state.includes(button.dataset.state));
    }
  }

  const collator = new Intl.Collator("en", { numeric: true });
  function order(a, b) {
    if (typeof a === "number" || typeof b === "number") return (a ?? -1) - (b ?? -1);
    return collator.compare(String(a ?? ""), String(b ?? ""));
  }

  function sorted(rows, column, down) {
    const text = (row) => (Array.isArray(row[column]) ? row[column].join(", ") : row[column]);
    const turn = down ? -1 : 1;
    return [...rows].sort((a, b) => turn * order(text(a), text(b)) || order(a.name, b.name) || order(a.source, b.source));
  }

  function toUrl(sort) {
    const choice = chosen(), query = new URLSearchParams();
    for (const name of ["search", ...Object.keys(SELECTS)]) if (form.elements[name].value) query.set(name, form.elements[name].value);
    for (const state of choice.states) query.append("state", state);
    if (sort.column !== "patient" || sort.down) query.set("sort", (sort.down ? "-" : "") + sort.column);
    history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
  }

  function fromUrl() {
    const query = new URLSearchParams(location.search);
    for (const name of ["search", ...Object.keys(SELECTS)]) {
      const field = form.elements[name], value = query.get(name) ?? "";
      // A link may name a value that no cine has any more: the list is then empty and says why.
      if (value && field.tagName === "SELECT" && ![...field.options].some((o) => o.value === value)) field.append(new Option(value, value));
      field.value = value;
    }
    const states = query.getAll("state");
    for (const button of buttons) button.setAttribute("aria-pressed", String(states.includes(button.dataset.state)));
    const sort = query.get("sort") ?? "patient";
    return { column: sort.replace(/^-/, ""), down: sort.startsWith("-") };
  }

  function clear() {
    form.reset();
    for (const button of buttons) button.setAttribute("aria-pressed", "false");
  }

  return { form, buttons, chosen, fits, fill, count, sorted, toUrl, fromUrl, clear };
})();
