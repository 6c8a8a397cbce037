// The player of one cine. Other scripts of the page use the global `player`:
//   source, frames, width, height, fps, mmPerPx   facts of the cine; fps is 25 where the file states no rate
//   frame        the frame that is drawn now; `wanted` is the one that was sought last
//   seek(n)      show frame n; a promise that resolves when it is drawn
//   play(), pause(), playing
//   on("frame" | "words" | "layout" | "view", callback)   words: as frame, but at most eight times a second while the
//                cine plays; more cannot be read, and takes time from the picture
//   layer(name, draw(ctx, frame, scale), {visible})   draws over the picture in px of the frame: (0, 0) is the middle of
//                the first pixel; scale: screen px per frame px, so a line of 2 / scale is always equally thin.
//                Returns an object with `visible`; call redraw() after a change.
//   toImage(mouseEvent) -> [x, y]   px of the frame
//   overlayCanvas   takes the pointer. A script that uses a press calls event.preventDefault(), else it moves the picture.
//   saw(words), shown()   what of a network's answer this account has seen on this cine, for Mark.shown
// Keys: this file and overlays.js use capital letters, signs and named keys; small letters and digits are for labelling.
"use strict";
const player = (() => {
  const facts = JSON.parse(document.getElementById("facts").textContent);
  const BLOCK = facts.block, SCREEN_RATE = 60, STILL_MS = 80, WORDS_MS = 125;
  // Pictures are kept decoded for about a second, and compressed for the rest of the cine, within some 120 MB each.
  const area = facts.width * facts.height, within = (value, low, high) => Math.floor(Math.min(high, Math.max(low, value)));
  const AHEAD = within(3e7 / area, 4, 24), KEPT_BLOCKS = within(3e7 / area, 4, 400);
  const fps = facts.fps || 25;
  const times = facts.times ?? null;
  const host = document.getElementById("player");
  const listeners = { frame: [], words: [], layout: [], view: [] };
  const layers = new Map();
  const blocks = new Map();
  const bitmaps = new Map();
  const statistics = { drawn: 0, dropped: 0, stalled: 0, since: 0, seconds: 0 };
  let frame = 0, wanted = 0, view = "masked", drawn = false, lossless = false, failed = "";
  let playing = false, position = 0, last = 0, speed = 1, looping = false, loopIn = null, loopOut = null;
  let zoom = 1, panX = 0, panY = 0, fit = 1;

  const stage = host.querySelector(".stage");
  const picture = stage.querySelector("canvas.picture");
  const overlayCanvas = stage.querySelector("canvas.overlay");
  picture.width = facts.width;
  picture.height = facts.height;
  // Its pixels are read for brightness and gamma. In memory that takes 2 ms a frame; a filter of CSS took 20.
  const brush = picture.getContext("2d", { alpha: false, willReadFrequently: true });
  const pen = overlayCanvas.getContext("2d");

  const emit = (event, ...values) => listeners[event].forEach((callback) => callback(...values));
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const seconds = (n) => (times ? times[n] : n / fps);
  const usual = times && times.length > 1 ? (times.at(-1) - times[0]) / (times.length - 1) : 1 / fps;
  const range = () => {
    const first = loopIn ?? 0, end = loopOut ?? facts.frames - 1;
    return looping && first <= end ? [first, end] : [0, facts.frames - 1];
  };
  function atTime(time) {
    if (!times) return clamp(Math.floor(time * fps + 1e-6), 0, facts.frames - 1);
    let low = 0, high = facts.frames - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (times[middle] <= time + 1e-6) low = middle; else high = middle - 1;
    }
    return low;
  }

  // --- Frames: blocks of JPEG for playing, one PNG (the true pixels) for a frame at rest.
  const address = (rest) => `/frames/${facts.source}/${facts.digest}/${view}/${rest}`;
  async function fetched(url) {
    const answer = await fetch(url);
    if (answer.ok) return answer;
    if (answer.status === 401) throw new Error("The session has ended. Load the page again to log in.");
    throw new Error((await answer.json().catch(() => ({}))).detail ?? `${answer.status} ${answer.statusText}`);
  }
  // A block is: the length of its head as uint32 (little-endian), the head as JSON with `sizes`, then the pictures.
  async function pictures(url, type) {
    const bytes = await (await fetched(url)).arrayBuffer();
    const length = new DataView(bytes).getUint32(0, true);
    const head = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, length)));
    let at = 4 + length;
    head.pictures = head.sizes.map((size) => new Blob([new Uint8Array(bytes, (at += size) - size, size)], { type }));
    return head;
  }
  function block(k) {
    const key = `${view}/${k}`;
    let found = blocks.get(key);
    blocks.delete(key);
    if (!found) {
      found = pictures(address(`block/${k}`), "image/jpeg").then((head) => head.pictures);
      found.catch(() => blocks.delete(key));
    }
    blocks.set(key, found);  // the last in the map is the one that was used last
    if (blocks.size > KEPT_BLOCKS) blocks.delete(blocks.keys().next().value);
    return found;
  }
  function bitmap(n) {
    if (bitmaps.has(n)) return bitmaps.get(n);
    const held = { image: null, promise: null };
    held.promise = block(Math.floor(n / BLOCK))
      .then((found) => createImageBitmap(found[n % BLOCK]))
      .then((image) => {
        if (bitmaps.get(n) !== held) image.close(); else held.image = image;
        return held.image;
      });
    held.promise.catch(() => { if (bitmaps.get(n) === held) bitmaps.delete(n); });
    bitmaps.set(n, held);
    return held;
  }
  function forget(keep) {
    for (const [n, held] of bitmaps) {
      if (keep?.(n)) continue;
      bitmaps.delete(n);
      if (held.image !== painted) held.image?.close();
    }
  }
  let table = null, painted = null, still = null, wordsAt = 0;
  function paint(image) {
    painted = image;
    brush.drawImage(image, 0, 0);
    if (!table) return;
    const pixels = brush.getImageData(0, 0, facts.width, facts.height), words = new Uint32Array(pixels.data.buffer);
    if (view === "difference") {
      for (let i = 0; i < words.length; i++) {
        const word = words[i];
        words[i] = (table[word & 255] & 0xff) | (table[(word >> 8) & 255] & 0xff00) | (table[(word >> 16) & 255] & 0xff0000) | 0xff000000;
      }
    } else for (let i = 0; i < words.length; i++) words[i] = table[words[i] & 255];  // grey: one look-up for a pixel
    brush.putImageData(pixels, 0, 0);
  }
  // brightness: factor; gamma: above 1 dark tissue is lighter. Both 1: the pixels as they are.
  function tone(brightness, gamma) {
    const plain = brightness === 1 && gamma === 1;
    table = plain ? null : Uint32Array.from({ length: 256 }, (_, value) => {
      const grey = Math.min(255, Math.round(255 * brightness * (value / 255) ** (1 / gamma)));
      return 0xff000000 | (grey << 16) | (grey << 8) | grey;
    });
    if (painted) paint(painted);
  }
  function draw(n, image) {
    paint(image);
    frame = n;
    drawn = true;
    lossless = false;
    delete stage.dataset.lossless;
    stage.dataset.frame = n;
    stage.classList.remove("waiting");
    problem("");
    redraw();
    emit("frame", n);
    const now = performance.now();
    if (playing && now - wordsAt < WORDS_MS) return;
    wordsAt = now;
    emit("words", n);
  }
  function problem(words) {
    if (words === failed) return;
    failed = words;
    const line = host.querySelector(".problem");
    line.textContent = words;
    line.hidden = !words;
    if (words) pause();
  }

  async function seek(n) {
    wanted = clamp(Math.round(n), 0, facts.frames - 1);
    position = seconds(wanted);
    const target = wanted, from = view;
    const late = setTimeout(() => stage.classList.add("waiting"), 250);
    try {
      const image = bitmap(target).image ?? await bitmap(target).promise;
      if (image && wanted === target && from === view) draw(target, image);
    } catch (error) {
      if (wanted === target && from === view) problem(`Frame ${target} could not be loaded. ${error.message}`);
    } finally {
      clearTimeout(late);
    }
    if (!playing && wanted === target) {
      forget((other) => Math.abs(other - target) <= AHEAD);
      for (const near of [target + 1, target - 1, target + 2, target + 10, target - 10])
        if (near >= 0 && near < facts.frames) bitmap(near).promise.catch(() => {});
      await rest(target);
    }
  }
  let resting = 0;
  function rest(n) {
    clearTimeout(resting);
    return new Promise((resolve) => {
      const done = async () => {
        try {
          const from = view, image = await createImageBitmap(await (await fetched(address(`${n}.png`))).blob());
          if (playing || frame !== n || wanted !== n || view !== from) { image.close(); return; }
          still?.close();
          still = image;
          paint(still);
          lossless = true;
          stage.dataset.lossless = n;
          emit("view");
        } catch { /* the JPEG picture stays, and the page says that it is no true-pixel picture */ }
      };
      resting = setTimeout(done, STILL_MS);
      resolve();
    });
  }

  // --- Playing: the clock is that of the cine. A frame that is not there yet holds the clock, so none is skipped for
  // that; frames that the browser was too busy to draw in time are counted as dropped.
  function play() {
    if (playing || facts.frames < 2) return;
    const [first, end] = range();
    if (frame >= end || frame < first) { frame = wanted = first; }
    playing = true;
    position = seconds(frame);
    last = 0;
    Object.assign(statistics, { drawn: 0, dropped: 0, stalled: 0, since: performance.now(), seconds: 0 });
    emit("view");
    requestAnimationFrame(tick);
  }
  function pause() {
    if (!playing) return;
    playing = false;
    statistics.seconds = (performance.now() - statistics.since) / 1000;
    emit("view");
    seek(frame);
  }
  function tick(now) {
    if (!playing) return;
    requestAnimationFrame(tick);
    const elapsed = last ? Math.min(now - last, 250) / 1000 : 0;
    last = now;
    const [first, end] = range();
    const stride = Math.max(1, Math.ceil((speed / usual) / SCREEN_RATE));
    let next = position + elapsed * speed, wrapped = false;
    if (next >= seconds(end) + usual) {
      if (!looping) { seek(end); pause(); return; }
      next = seconds(first) + ((next - seconds(first)) % (seconds(end) + usual - seconds(first)));
      wrapped = true;
    }
    const target = clamp(atTime(next), first, end); // a rounded time may lie on the frame after the end
    for (let ahead = target, count = 0; count < AHEAD; ahead += stride, count++) {
      const n = ahead <= end ? ahead : looping ? first + ((ahead - first) % (end - first + 1)) : -1;
      if (n >= 0) bitmap(n).promise.catch((error) => problem(`The cine stopped at frame ${n}. ${error.message}`));
    }
    if (target === frame && drawn && !wrapped) { position = next; return; }
    const image = bitmaps.get(target)?.image;
    if (!image) { statistics.stalled += elapsed; return; }
    const ahead = target - frame;
    if (!wrapped && ahead > stride) statistics.dropped += Math.ceil(ahead / stride) - 1;
    statistics.drawn += 1;
    position = next;
    wanted = target;
    const behind = frame;
    draw(target, image);
    if (bitmaps.size > 2 * AHEAD + 8) forget((n) => (n >= target && n <= target + AHEAD * stride) || n === behind || (looping && n < first + AHEAD));
  }

  // --- Layout: zoom and pan move the canvas by CSS; its pixels stay those of the frame.
  function layout() {
    const box = overlayCanvas.getBoundingClientRect();  // that of the stage has a border
    fit = Math.min(box.width / facts.width, box.height / facts.height);
    const scale = fit * zoom, ratio = devicePixelRatio || 1;
    const roomX = box.width - facts.width * scale, roomY = box.height - facts.height * scale;
    panX = roomX >= 0 ? roomX / 2 : clamp(panX, roomX, 0);
    panY = roomY >= 0 ? roomY / 2 : clamp(panY, roomY, 0);
    picture.style.transform = `translate(${panX}px, ${panY}px) scale(${scale})`;
    picture.classList.toggle("pixels", scale >= 3);
    overlayCanvas.width = Math.round(box.width * ratio);
    overlayCanvas.height = Math.round(box.height * ratio);
    redraw();
    emit("layout");
  }
  function redraw() {
    const ratio = devicePixelRatio || 1, scale = fit * zoom;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, overlayCanvas.width, overlayCanvas.height);
    for (const each of layers.values()) {
      if (!each.visible) continue;
      pen.save();
      pen.setTransform(ratio * scale, 0, 0, ratio * scale, ratio * (panX + scale / 2), ratio * (panY + scale / 2));
      each.draw(pen, frame, scale);
      pen.restore();
    }
  }
  function zoomTo(value, x, y) {
    const box = overlayCanvas.getBoundingClientRect(), before = zoom;
    zoom = clamp(value, 1, 16);
    const middleX = x ?? box.width / 2, middleY = y ?? box.height / 2;
    panX = middleX - (middleX - panX) * zoom / before;
    panY = middleY - (middleY - panY) * zoom / before;
    layout();
  }
  function panBy(x, y) { panX += x; panY += y; layout(); }
  function toImage(event) {
    const box = overlayCanvas.getBoundingClientRect(), scale = fit * zoom;
    return [(event.clientX - box.left - panX) / scale - 0.5, (event.clientY - box.top - panY) / scale - 0.5];
  }
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = overlayCanvas.getBoundingClientRect();
    if (event.shiftKey) panBy(-(event.deltaX || event.deltaY), 0);
    else if (event.altKey) panBy(0, -event.deltaY);
    else zoomTo(zoom * Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  stage.addEventListener("pointerdown", (event) => {
    if (event.defaultPrevented || event.button > 1) return;
    let x = event.clientX, y = event.clientY;
    const move = (next) => { panBy(next.clientX - x, next.clientY - y); x = next.clientX; y = next.clientY; };
    const end = () => { removeEventListener("pointermove", move); removeEventListener("pointerup", end); };
    addEventListener("pointermove", move);
    addEventListener("pointerup", end);
  });
  new ResizeObserver(layout).observe(stage);

  // --- What of a network's answer was seen. It is kept in the browser: what was seen once was seen.
  const memory = `seen ${facts.account} ${facts.source}`;
  const seen = new Set(JSON.parse(localStorage.getItem(memory) ?? "[]"));
  function saw(words) {
    if (seen.has(words)) return;
    seen.add(words);
    localStorage.setItem(memory, JSON.stringify([...seen]));
  }

  return {
    facts, source: facts.source, frames: facts.frames, width: facts.width, height: facts.height, fps,
    mmPerPx: facts.mm_per_px, stage, picture, overlayCanvas, statistics, pictures, seconds,
    get frame() { return frame; },
    get wanted() { return wanted; },
    get playing() { return playing; },
    get lossless() { return lossless; },
    get scale() { return fit * zoom; },
    get zoom() { return zoom; },
    get speed() { return speed; },
    set speed(value) { speed = clamp(value, 0.25, 4); emit("view"); },
    get looping() { return looping; },
    set looping(value) { looping = value; emit("view"); },
    get loop() { return [loopIn, loopOut]; },
    setLoop(first, end) { loopIn = first; loopOut = end; emit("view"); },
    get view() { return view; },
    set view(value) {
      view = value;
      forget();
      lossless = false;
      delete stage.dataset.lossless;
      emit("view");
      seek(wanted);
    },
    seek, play, pause, tone, toImage, redraw, layout, zoomTo, panBy, saw,
    toggle() { if (playing) pause(); else play(); },
    reset() { zoom = 1; layout(); },
    shown: () => [...seen].join("; ").slice(0, 300),
    on(event, callback) { listeners[event].push(callback); },
    layer(name, draw, { visible = true } = {}) {
      const made = { name, draw, visible };
      layers.set(name, made);
      redraw();
      return made;
    },
  };
})();
