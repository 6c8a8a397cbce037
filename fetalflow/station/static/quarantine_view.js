// What the page of the quarantine draws: the kinds, the rows, and what is known of one row.
"use strict";
const quarantineView = (() => {
  const DONE = { release: "is released", reject: "is rejected" };
  const element = (tag, properties, ...inner) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...inner);
    return made;
  };
  const frames = (row) => (row.start_frame || row.end_frame ? `${row.start_frame || "0"} to ${row.end_frame || "the end"}` : "all");
  const short = (row) => `${row.name}, ${row.label || "no label"}, ${frames(row) === "all" ? "all frames" : `frames ${frames(row)}`}${row.annotator ? `, ${row.annotator}` : ""}`;

  function decidedTag(row) {
    const as = row.decided.as_label ? ` as ${row.decided.as_label}` : "";
    return element("span", { className: "tag good", textContent: `${DONE[row.decided.decision]}${as} by ${row.decided.who}; the next run applies it` });
  }

  function drawRow(row, isChosen, choose) {
    const box = element("input", { type: "checkbox", checked: isChosen });
    box.setAttribute("aria-label", `Choose ${short(row)}`);
    box.addEventListener("change", () => choose(box.checked));
    const cine = element("td", {}, element("span", { textContent: row.name }));
    if (row.video) cine.append(element("span", { className: "path", textContent: row.video }));
    const fault = element("td", {}, element("strong", { textContent: row.kind }), element("span", { className: "reason", textContent: row.reason }));
    if (row.decided) fault.append(decidedTag(row));
    fault.append(element("span", { className: "result problem" }));
    const made = element("tr", {}, element("td", {}, box), cine, fault, ...[row.label, frames(row), row.annotator, row.patient].map((text) => element("td", { textContent: text })));
    made.dataset.row = row.row;
    return made;
  }

  function facts(found) {
    const list = element("dl", {});
    const words = { promised: "frames in the header", decoded: "frames decoded", blanked: "blanked", mm_per_px: "mm per pixel", fps: "frames per second", source: "SHA-256" };
    for (const [name, value] of Object.entries(found)) {
      const text = value === null ? "not known" : name === "blanked" ? `${Math.round(value * 100)} %` : name === "source" ? `${value.slice(0, 12)} …`
        : Array.isArray(value) ? value.join(", ") || "none" : typeof value === "number" ? String(Math.round(value * 1000) / 1000) : value;
      list.append(element("dt", { textContent: words[name] ?? name }), element("dd", { textContent: text }));
    }
    return list;
  }

  function drawDetails(panel, found, task) {
    const row = found.row;
    panel.replaceChildren(element("h2", { textContent: `${row.name} · ${row.kind}` }), element("p", { textContent: row.reason }));
    if (row.source) {
      const picture = element("img", { alt: "The middle frame", src: `/cines/${task}/${row.source}/still` });
      picture.addEventListener("error", () => picture.remove());
      panel.append(picture, element("p", {}, element("a", { href: `/cine/${row.source}`, textContent: "Open the cine (Enter)" })));
    }
    const what = element("dl", {});
    for (const [name, text] of [["What to do", found.to_do], ["If released", found.release], ["Patient", row.patient], ["Site", row.site], ["Row", row.row]]) {
      if (text) what.append(element("dt", { textContent: name }), element("dd", { textContent: text }));
    }
    panel.append(what, element("h2", { textContent: "The file" }), facts(found.facts));
    panel.append(element("h2", { textContent: "Other rows of this cine" }));
    panel.append(found.same_cine.length ? element("ul", {}, ...found.same_cine.map((other) => element("li", { textContent: `${short(other)}: ${other.kind}` }))) : element("p", { className: "soft", textContent: "none" }));
    panel.append(element("h2", { textContent: "Decisions until now" }));
    panel.append(found.decisions.length ? element("ul", {}, ...found.decisions.map((d) => element("li", { textContent: `${d.time.slice(0, 16).replace("T", " ")} UTC, ${d.who}: ${d.decision}${d.as_label ? ` as ${d.as_label}` : ""}. ${d.why}` }))) : element("p", { className: "soft", textContent: "none" }));
  }

  function drawKinds(box, kinds, chosen, choose) {
    const total = kinds.reduce((sum, kind) => sum + kind.rows, 0);
    const made = [{ kind: "", rows: total, waiting: 0 }, ...kinds].map((kind, at) => {
      const button = element("button", { type: "button" }, `${kind.kind || "All kinds"} ${kind.rows}`, ...(kind.waiting ? [element("span", { className: "soft", textContent: ` (${kind.waiting} decided)` })] : []));
      if (at < 10) button.append(" ", element("kbd", { textContent: at }));
      button.setAttribute("aria-pressed", String(kind.kind === chosen));
      button.addEventListener("click", () => choose(kind.kind));
      return button;
    });
    box.replaceChildren(...made);
  }

  return { element, short, drawRow, drawDetails, drawKinds };
})();
