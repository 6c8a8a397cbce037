// Changes on their way to the server. Each is in this browser's database before it is sent, and it leaves the database
// only when the server has acknowledged it. So a closed tab, a server that is down or a session that ended lose nothing:
// the next page of the same account sends what is left. The server writes an event that arrives twice once.
//   outbox.put(url, {id, action, value})   a change; `url` takes it by POST
//   outbox.waiting(url)                    the events for a url that are not acknowledged, oldest first
//   outbox.state                           {waiting, refused, problem, loggedOut, otherAccount}
//   outbox.session                         how often this page began a session again; an answer 401 to a request of an
//                                          earlier session says nothing about the one of now
//   outbox.on((state, answer) => …)        called at each change, and at once where the database was read already: it may
//                                          be read before the next script runs. answer: {url, events, number}, the number
//                                          of the last event that the server wrote, or {url, events, refused: its words}
"use strict";
const newId = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const outbox = (() => {
  const account = document.querySelector("meta[name=account]")?.content ?? "";
  const token = document.querySelector("meta[name=csrf]");
  const MOST_EVENTS = 50, MOST_CHARACTERS = 2_000_000, LONGEST_WAIT_S = 15;
  const state = { waiting: 0, refused: [], problem: "", loggedOut: false, otherAccount: "" };
  const callbacks = [];
  let queue = [], sending = false, timer = 0, failures = 0, isLoaded = false, session = 0;

  // --- The database of the browser.
  const database = new Promise((resolve, reject) => {
    const request = indexedDB.open("fetalflow-outbox", 1);
    request.onupgradeneeded = () => request.result.createObjectStore("events", { keyPath: "key", autoIncrement: true });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  async function inStore(work) {
    const transaction = (await database).transaction("events", "readwrite", { durability: "strict" });
    const request = work(transaction.objectStore("events"));
    transaction.commit();
    return new Promise((resolve, reject) => {
      transaction.oncomplete = () => resolve(request.result);
      transaction.onerror = transaction.onabort = () => reject(transaction.error);
    });
  }
  // Another tab may have been closed before it could send: its changes are in the database, too.
  async function read() {
    const kept = (await inStore((store) => store.getAll())).filter((each) => each.account === account);
    const known = new Set(queue.map((each) => each.event.id));
    state.refused = kept.filter((each) => each.refused);
    queue = [...kept.filter((each) => !each.refused && !known.has(each.event.id)), ...queue];
  }
  const loaded = read()
    .catch(() => { state.problem = "This browser keeps nothing on its disk. Do not close the page before all is saved."; })
    .finally(() => { isLoaded = true; changed(); flush(); });

  function changed(answer) {
    state.waiting = queue.length;
    callbacks.forEach((callback) => callback(state, answer));
  }
  function put(url, event) {
    const entry = { account, url, event };
    entry.kept = inStore((store) => store.add({ account, url, event }))
      .then((key) => { entry.key = key; })
      .catch(() => { state.problem = "This browser could not keep a change on its disk. Do not close the page before all is saved."; });
    queue.push(entry);
    changed();
    flush();
  }
  async function drop(entries) {
    queue = queue.filter((each) => !entries.includes(each));
    for (const entry of entries) await inStore((store) => store.delete(entry.key)).catch(() => {});
  }

  // --- The server.
  function batch() {
    const first = queue[0], taken = [];
    let characters = 0;
    for (const entry of queue) {
      characters += JSON.stringify(entry.event).length;
      if (entry.url !== first.url || taken.length === MOST_EVENTS || (taken.length && characters > MOST_CHARACTERS)) break;
      taken.push(entry);
    }
    return taken;
  }
  async function flush() {
    if (sending || !isLoaded || state.otherAccount) return;
    clearTimeout(timer);
    sending = true;
    try {
      while (queue.length) await sendBatch(batch());
      failures = 0;
    } catch (error) {
      failures += 1;
      if (!state.loggedOut) timer = setTimeout(flush, 1000 * Math.min(LONGEST_WAIT_S, 2 ** (failures - 1)));
    } finally {
      sending = false;
      changed();
    }
  }
  async function sendBatch(entries) {
    await Promise.all(entries.map((each) => each.kept));
    const before = session;
    try {
      const answer = await send("POST", entries[0].url, { events: entries.map((each) => each.event) });
      await drop(entries);
      state.loggedOut = false;
      failures = 0;
      changed({ url: entries[0].url, events: entries.map((each) => each.event), number: answer.number });
    } catch (error) {
      if (error.status === 401) { state.loggedOut ||= before === session; throw error; }
      if (error.status === 403) { if (await renewed()) return; throw error; }
      // 404, 413 and 422 are about the change; anything else, such as no answer, may pass.
      if (![400, 404, 413, 422].includes(error.status)) throw error;
      if (entries.length > 1) { for (const entry of entries) await sendBatch([entry]); return; }
      await refuse(entries[0], error.message);
    }
  }
  async function refuse(entry, reason) {
    const kept = { key: entry.key, account, url: entry.url, event: entry.event, refused: reason };
    queue = queue.filter((each) => each !== entry);
    state.refused = [...state.refused, kept];
    await inStore((store) => store.put(kept)).catch(() => {});
    changed({ url: entry.url, events: [entry.event], refused: reason });
  }
  async function forgetRefused() {
    const entries = state.refused;
    state.refused = [];
    await drop(entries);
    changed();
  }
  async function sendRefused() {
    queue = [...queue, ...state.refused.map(({ refused, ...entry }) => entry)];
    state.refused = [];
    changed();
    await flush();
  }
  // Another log-in of the same account gives a new token; the page of another account sends nothing.
  async function renewed() {
    const before = token.content, found = await send("GET", "/marks/who");
    belongsTo(found.account);
    token.content = found.csrf;
    return token.content !== before;
  }
  // Raises where an answer of the server is about another account than that of this page.
  function belongsTo(name) {
    if (name === account) return;
    state.otherAccount = name;
    changed();
    throw new Error(`This browser is now logged in as ${name}.`);
  }
  async function loggedIn() {
    await renewed();
    session += 1;
    state.loggedOut = false;
    failures = 0;
    changed();
    await flush();
  }
  function sessionEnded(before) {
    state.loggedOut ||= before === session;
    changed();
  }
  async function again() {
    failures = 0;
    await read().catch(() => {});
    if (state.loggedOut) await loggedIn().catch(() => {}); else await flush();
  }
  // A page without marks of its own says here what waits.
  const line = document.getElementById("unsaved");
  if (line && !document.getElementById("marks-saved"))
    callbacks.push(() => { line.textContent = state.waiting ? `not saved yet: ${state.waiting}` : ""; });
  addEventListener("online", again);
  addEventListener("focus", again);

  return {
    account, state, put, flush, again, loggedIn, sessionEnded, belongsTo, forgetRefused, sendRefused, loaded,
    get session() { return session; },
    waiting: (url) => queue.filter((each) => each.url === url).map((each) => each.event),
    on(callback) { callbacks.push(callback); if (isLoaded) callback(state); },
  };
})();
