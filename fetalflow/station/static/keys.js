// Keys of a page, and the overlay that shows them. A page calls keys.add("i", "Begin a span", begin).
"use strict";
const keys = (() => {
  const known = new Map();
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-labelledby", "keys-title");
  function show() {
    dialog.replaceChildren();
    const title = document.createElement("h2");
    title.id = "keys-title";
    title.textContent = "Keys of this page";
    const table = document.createElement("table");
    for (const [key, { text }] of known) {
      const row = table.insertRow();
      const kbd = document.createElement("kbd");
      kbd.textContent = key === " " ? "space" : key;
      row.insertCell().append(kbd);
      row.insertCell().textContent = text;
    }
    const close = document.createElement("button");
    close.textContent = "Close";
    close.addEventListener("click", () => dialog.close());
    dialog.append(title, table, close);
    dialog.showModal();
    dialog.scrollTop = 0;  // the focus is on the button at the end
  }
  function add(key, text, action) { known.set(key, { text, action }); }
  document.addEventListener("keydown", (event) => {
    const typing = /^(input|textarea|select)$/i.test(event.target.tagName) && !/^(range|checkbox|radio|button)$/.test(event.target.type);
    // Arrows, Home, End and the page keys move a slider and a group of choices that has the focus.
    const adjusting = /^(range|radio)$/.test(event.target.type) && /^(Arrow|Home|End|Page)/.test(event.key);
    if (typing || adjusting || dialog.open || event.altKey) return;
    const name = (event.ctrlKey || event.metaKey ? "Ctrl+" : "") + event.key;
    const found = known.get(name);
    // Space and Enter on a button or a link press it.
    if (!found || ((event.key === " " || event.key === "Enter") && /^(button|a|summary)$/i.test(event.target.tagName))) return;
    event.preventDefault();
    found.action(event);
  });
  add("?", "Show these keys", show);
  document.addEventListener("DOMContentLoaded", () => {
    document.body.append(dialog);
    document.querySelector("[data-help]")?.addEventListener("click", show);
  });
  return { add, show };
})();

// A request that changes something: JSON to the server with the session's token. Raises an Error with the server's words.
async function send(method, url, body) {
  const token = document.querySelector("meta[name=csrf]").content;
  const headers = { "X-CSRF": token, "Content-Type": "application/json" };
  const answer = await fetch(url, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Error(found.detail ?? `${answer.status} ${answer.statusText}`), { status: answer.status });
  return found;
}
