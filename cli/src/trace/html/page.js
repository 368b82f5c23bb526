// What keys, pointer and search do; the list and the details.

const $ = id => document.getElementById(id);
const list = $("list"), rows = $("rows"), details = $("details"), tip = $("tip"), search = $("search");
const ROW = 20;
/** A browser's elements are no taller than this; the list's places are scaled to it. */
const TALLEST = 8e6;

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function show(from, to) {
  const span = clamp(to - from, 50, Math.max(1000, (end - begin) * 1.1));
  const middle = (from + to) / 2, slack = span * 0.05;
  from = clamp(middle - span / 2, begin - slack, Math.max(begin - slack, end + slack - span));
  state.from = from;
  state.to = from + span;
  remember();
  draw();
}

function zoom(factor, at = (state.from + state.to) / 2) {
  show(at - (at - state.from) * factor, at + (state.to - at) * factor);
}
const pan = part => show(state.from + part * (state.to - state.from), state.to + part * (state.to - state.from));
const fitAll = () => show(begin, end);

/** The records of the list: all, those found, those of a range. */
let listed = { length: count, at: n => n, place: i => i };
function relist() {
  const { hits, range } = state;
  if (hits) {
    const from = range ? firstAt(hits, range[0]) : 0, to = range ? firstAt(hits, range[1]) : hits.length;
    listed = {
      length: to - from,
      at: n => hits[from + n],
      place: i => lowerBound(n => hits[from + n], to - from, i),
    };
  } else {
    const from = range ? firstAtTime(range[0]) : 0, to = range ? firstAtTime(range[1]) : count;
    listed = { length: to - from, at: n => from + n, place: i => clamp(i - from, 0, Math.max(0, to - from - 1)) };
  }
  $("extent").style.height = Math.min(listed.length * ROW, TALLEST) + "px";
  drawList();
}
function lowerBound(at, length, i) {
  let low = 0, high = length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (at(middle) < i) low = middle + 1;
    else high = middle;
  }
  return Math.min(low, Math.max(0, length - 1));
}

const visibleRows = () => Math.ceil(list.clientHeight / ROW);
const scrollable = () => Math.max(1, Math.min(listed.length * ROW, TALLEST) - list.clientHeight);
const furthest = () => Math.max(0, listed.length - Math.floor(list.clientHeight / ROW));
let topRow = 0;

function drawList() {
  const exact = listed.length * ROW <= TALLEST;
  topRow = exact ? Math.floor(list.scrollTop / ROW) : Math.round(list.scrollTop / scrollable() * furthest());
  topRow = clamp(topRow, 0, furthest());
  rows.style.transform = `translateY(${exact ? -(list.scrollTop % ROW) : 0}px)`;
  const fresh = [];
  for (let n = topRow; n < Math.min(listed.length, topRow + visibleRows() + 1); n++) fresh.push(row(listed.at(n)));
  rows.replaceChildren(...fresh);
}

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function row(i) {
  const { kind, bad } = shapes[shape[i]];
  const line = element("div", "row");
  if (bad) line.classList.add("bad");
  if (inside[i] >= 0) line.classList.add("sub");
  if (i === state.selected) line.classList.add("sel");
  if (!lane[i]) line.classList.add("console");
  line.dataset.record = i;
  const what = element("span", "what", nameOf(i));
  const rest = fieldsOf(i).filter(([name]) => name !== "name" && name !== "text");
  const words = rest.map(([name, value]) => `${name}=${meta.places[value] || value}`);
  if (exitOf[i] >= 0) words.unshift(duration(exitTook[exitOf[i]]));
  if (words.length) what.append(element("i", "", "  " + words.join(" ")));
  line.append(element("span", "time", seconds(time[i])), element("span", "vp", lane[i] ? laneName(lane[i]) : ""),
    element("span", "kind", kind), what);
  return line;
}

function scrollTo(i) {
  const n = listed.place(i);
  if (n > topRow && n < topRow + visibleRows() - 2) return drawList();
  const first = clamp(n - Math.floor(visibleRows() / 3), 0, furthest());
  list.scrollTop = listed.length * ROW <= TALLEST ? first * ROW : first / Math.max(1, furthest()) * scrollable();
  drawList();
}

/** Selects a record; `reveal` moves the timeline there. */
function select(i, reveal = true) {
  state.selected = i;
  state.chain = i >= 0 ? chain(i) : new Set();
  if (i >= 0) {
    if (reveal && (time[i] < state.from || time[i] > state.to)) {
      const half = (state.to - state.from) / 2;
      show(time[i] - half, time[i] + half);
    }
    const top = laneTop(lane[i]);
    if (lane[i] && (top < RULER + CONSOLE || top + laneHeight() > view.clientHeight)) scrollLanes(top - RULER - CONSOLE - GAP);
    scrollTo(i);
  } else drawList();
  explain();
  remember();
  draw();
}

function scrollLanes(by) {
  const most = RULER + CONSOLE + GAP + meta.vps * laneHeight() - view.clientHeight;
  state.scroll = clamp(state.scroll + by, 0, Math.max(0, most));
  draw();
}

/** Shows everything about the selected record. */
function explain() {
  const i = state.selected;
  details.replaceChildren();
  if (i < 0) return overall();
  const { kind, bad } = shapes[shape[i]];
  details.append(element("h2", bad ? "bad" : "", nameOf(i)));
  details.append(element("p", "", `${kind} · ${laneName(lane[i])} · ${seconds(time[i])} s`));
  const table = element("table");
  const add = (name, value, place) => {
    const line = element("tr"), cell = element("td", "", value);
    if (place) cell.append(element("span", "name", place));
    line.append(element("td", "", name), cell);
    table.append(line);
  };
  if (exitOf[i] >= 0) add("took", duration(exitTook[exitOf[i]]));
  for (const [name, value] of fieldsOf(i)) add(name, value, meta.places[value]);
  details.append(table);
  const go = (title, list) => {
    if (list.length) details.append(element("p", "", title));
    for (const other of list.slice(0, 40)) {
      const button = element("button", shapes[shape[other]].bad ? "bad" : "",
        `${laneName(lane[other])}  ${signed(time[other] - time[i])}  ${shapes[shape[other]].kind}  ${nameOf(other)}`);
      button.dataset.record = other;
      details.append(button);
    }
  };
  go("caused by", arrowsTo(i).map(n => arrowFrom[n]));
  go("leads to", arrowsFrom(i).map(n => arrowTo[n]));
  if (inside[i] >= 0) go("in the exit", [inside[i]]);
  if (exitOf[i] >= 0) {
    const within = [];
    for (let n = i + 1; n < Math.min(count, i + 5000) && within.length < 40; n++) {
      if (inside[n] === i) within.push(n);
      if (lane[n] === lane[i] && exitOf[n] >= 0) break;
    }
    go("in this exit", within);
  }
}
const signed = ns => (ns < 0 ? "−" : "+") + duration(Math.abs(ns));

/** With nothing selected: what there is. */
function overall() {
  const kinds = new Map();
  for (let i = 0; i < count; i++) kinds.set(shapes[shape[i]].kind, (kinds.get(shapes[shape[i]].kind) || 0) + 1);
  details.append(element("h2", "", meta.title), element("p", "", "Click a record, or press ? for the keys."));
  const table = element("table");
  for (const [kind, many] of [...kinds].sort((a, b) => b[1] - a[1])) {
    const line = element("tr");
    line.append(element("td", BAD.has(kind) ? "bad" : "", kind), element("td", "", many.toLocaleString("en")));
    table.append(line);
  }
  details.append(table);
  for (const [rule, fired] of meta.faults) details.append(element("p", "bad", `injected: ${rule}, fired ${fired} times`));
}

// The search.

let searching = 0;
/** Finds the records that have all words of the search; long lists in pieces, so that the page stays alive. */
function find() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const turn = ++searching;
  if (!words.length) {
    state.hits = null;
    $("hits").textContent = "";
    relist();
    remember();
    return draw();
  }
  const found = [];
  let i = 0;
  (function piece() {
    if (turn !== searching) return;
    const until = performance.now() + 25;
    while (i < count && performance.now() < until) {
      for (const stop = Math.min(count, i + 500); i < stop; i++) {
        const text = textOf(i);
        if (words.every(word => text.includes(word))) found.push(i);
      }
    }
    state.hits = found;
    $("hits").textContent = `${found.length.toLocaleString("en")} found${i < count ? " …" : ""}`;
    if (i < count) return setTimeout(piece);
    document.body.dataset.found = found.length;
    relist();
    remember();
    draw();
  })();
}

/** The next record of a list, or the one before. */
function step(records, back) {
  if (!records || !records.length) return;
  const i = state.selected;
  const n = lowerBound(n => records[n], records.length, Math.max(i, 0));
  let next = back ? (records[n] < i ? n : n - 1) : (i < 0 || records[n] > i ? n : n + 1);
  next = (next + records.length) % records.length;
  select(records[next]);
}

function stepList(by) {
  if (!listed.length) return;
  const i = state.selected;
  if (i < 0) return select(listed.at(by > 0 ? topRow : listed.length - 1));
  const n = listed.place(i);
  const next = clamp(listed.at(n) === i ? n + by : n + (by < 0 ? -1 : 0), 0, listed.length - 1);
  select(listed.at(next));
}

function zoomToSelected() {
  const i = state.selected;
  if (i < 0) return;
  const took = exitOf[i] >= 0 ? exitTook[exitOf[i]] : 0;
  const around = Math.max(took, 2000);
  show(time[i] - around * 0.6, time[i] + took + around * 0.6);
}

function clear() {
  state.range = null;
  if (search.value) {
    search.value = "";
    find();
  } else relist();
  select(-1);
}

const follow = (arrowsOf, other) => {
  const [n] = state.selected >= 0 ? arrowsOf(state.selected) : [];
  if (n !== undefined) select(other[n]);
};

const KEYS = {
  w: () => zoom(0.6), "+": () => zoom(0.6), "=": () => zoom(0.6), s: () => zoom(1 / 0.6), "-": () => zoom(1 / 0.6),
  a: () => pan(-0.2), d: () => pan(0.2), ArrowLeft: () => pan(-0.2), ArrowRight: () => pan(0.2), 0: fitAll, Home: fitAll,
  f: zoomToSelected, j: () => stepList(1), k: () => stepList(-1), ArrowDown: () => stepList(1), ArrowUp: () => stepList(-1),
  "[": () => follow(arrowsTo, arrowFrom), "]": () => follow(arrowsFrom, arrowTo), e: () => step(problems), E: () => step(problems, true),
  n: () => step(state.hits), N: () => step(state.hits, true), "/": () => search.focus(), "?": () => $("help").showModal(), Escape: clear,
};

addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  if (event.target === search) {
    if (event.key === "Escape") {
      search.value = "";
      find();
      search.blur();
    } else if (event.key === "Enter") step(state.hits, event.shiftKey);
    return;
  }
  const action = KEYS[event.key];
  if (action) {
    event.preventDefault();
    action();
  }
});

// The pointer.

view.addEventListener("wheel", event => {
  event.preventDefault();
  const unit = event.deltaMode ? 30 : 1;
  if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
    return pan((event.deltaX || event.deltaY) * unit / widthOfView());
  }
  if (event.altKey) return scrollLanes(event.deltaY * unit);
  zoom(Math.exp(clamp(event.deltaY * unit, -200, 200) * 0.0022), timeAt(event.offsetX));
}, { passive: false });

let drag = null;
view.addEventListener("pointerdown", event => {
  view.setPointerCapture(event.pointerId);
  drag = { px: event.offsetX, py: event.offsetY, from: state.from, to: state.to, scroll: state.scroll, range: event.shiftKey, moved: false };
});
view.addEventListener("pointermove", event => {
  if (!drag) return hover(event);
  const dx = event.offsetX - drag.px, dy = event.offsetY - drag.py;
  if (Math.abs(dx) + Math.abs(dy) > 4) drag.moved = true;
  if (!drag.moved) return;
  tip.hidden = true;
  view.classList.add("moving");
  if (drag.range) {
    state.range = [timeAt(Math.min(drag.px, event.offsetX)), timeAt(Math.max(drag.px, event.offsetX))];
    draw();
  } else {
    const by = -dx / widthOfView() * (drag.to - drag.from);
    show(drag.from + by, drag.to + by);
    state.scroll = drag.scroll;
    scrollLanes(-dy);
  }
});
view.addEventListener("pointerup", event => {
  view.classList.remove("moving");
  if (drag && !drag.moved) select(recordAt(event.offsetX, event.offsetY), false);
  else if (drag && drag.range) relist();
  drag = null;
});
view.addEventListener("pointercancel", () => (drag = null));
view.addEventListener("dblclick", zoomToSelected);
view.addEventListener("pointerleave", () => (tip.hidden = true));

function hover(event) {
  const i = recordAt(event.offsetX, event.offsetY);
  tip.hidden = i < 0;
  if (i < 0) return;
  const took = exitOf[i] >= 0 ? " · " + duration(exitTook[exitOf[i]]) : "";
  const fields = fieldsOf(i).filter(([name]) => name !== "text").map(([name, value]) => `${name}=${meta.places[value] || value}`);
  tip.replaceChildren(element("b", "", nameOf(i)),
    `${shapes[shape[i]].kind} · ${laneName(lane[i])} · ${seconds(time[i])} s${took}\n${fields.join("  ")}`);
  tip.style.left = clamp(event.offsetX + 14, 0, Math.max(0, view.clientWidth - tip.offsetWidth - 8)) + "px";
  const below = event.offsetY + 18;
  tip.style.top = (below + tip.offsetHeight > view.clientHeight ? Math.max(0, event.offsetY - tip.offsetHeight - 10) : below) + "px";
}

let over = null;
const overTime = px => begin + px / Math.max(1, overview.clientWidth) * (end - begin);
overview.addEventListener("pointerdown", event => {
  overview.setPointerCapture(event.pointerId);
  const a = overX(state.from, overview.clientWidth), b = overX(state.to, overview.clientWidth);
  const held = event.offsetX >= a - 3 && event.offsetX <= Math.max(b, a + 6) + 3 && state.to - state.from < (end - begin) * 0.95;
  over = { px: event.offsetX, held, from: state.from, to: state.to };
});
overview.addEventListener("pointermove", event => {
  if (!over) return;
  if (over.held) {
    const by = overTime(event.offsetX) - overTime(over.px);
    show(over.from + by, over.to + by);
  } else if (Math.abs(event.offsetX - over.px) > 3) {
    show(overTime(Math.min(over.px, event.offsetX)), overTime(Math.max(over.px, event.offsetX)));
  }
});
overview.addEventListener("pointerup", event => {
  if (over && !over.held && Math.abs(event.offsetX - over.px) <= 3) {
    const half = (state.to - state.from) / 2, at = overTime(event.offsetX);
    show(at - half, at + half);
  }
  over = null;
});
overview.addEventListener("wheel", event => {
  event.preventDefault();
  zoom(Math.exp(clamp(event.deltaY, -200, 200) * 0.0022), overTime(event.offsetX));
}, { passive: false });

let sizing = false;
$("split").addEventListener("pointerdown", event => {
  sizing = true;
  $("split").setPointerCapture(event.pointerId);
});
$("split").addEventListener("pointermove", event => {
  if (!sizing) return;
  const top = document.querySelector("main").getBoundingClientRect().top;
  const part = clamp((event.clientY - top) / (innerHeight - top), 0.15, 0.85);
  document.querySelector("main").style.flex = `${part} 1 0`;
  document.querySelector("section").style.flex = `${1 - part} 1 0`;
  resized();
});
$("split").addEventListener("pointerup", () => (sizing = false));

list.addEventListener("scroll", drawList);
list.addEventListener("wheel", event => {
  if (listed.length * ROW <= TALLEST) return;
  // Scaled places are too coarse for the wheel.
  event.preventDefault();
  const first = clamp(topRow + Math.sign(event.deltaY) * 3, 0, furthest());
  list.scrollTop = first / Math.max(1, furthest()) * scrollable();
}, { passive: false });
const picked = event => {
  const held = event.target.closest("[data-record]");
  if (held) select(Number(held.dataset.record));
};
list.addEventListener("click", picked);
details.addEventListener("click", picked);
search.addEventListener("input", () => {
  clearTimeout(search.timer);
  search.timer = setTimeout(find, 120);
});
const BUTTONS = {
  in: KEYS.w, out: KEYS.s, fit: fitAll, next: KEYS.n, prev: KEYS.N, problem: KEYS.e, helpkey: KEYS["?"],
};
for (const [id, action] of Object.entries(BUTTONS)) $(id).addEventListener("click", action);

function resized() {
  scrollLanes(0);
  drawList();
}
addEventListener("resize", resized);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  readColours();
  draw();
});

// What is shown stands in the address: from, to, selected record, search.

let noted = 0;
function remember() {
  clearTimeout(noted);
  noted = setTimeout(() => {
    const parts = new URLSearchParams({ from: Math.round(state.from), to: Math.round(state.to) });
    if (state.selected >= 0) parts.set("record", state.selected);
    if (search.value) parts.set("q", search.value);
    try {
      history.replaceState(null, "", "#" + parts);
    } catch {
      // A page without an address of its own has nothing to keep.
    }
  }, 200);
}

(function start() {
  readColours();
  document.title = meta.title + " · hv trace";
  $("title").textContent = meta.title;
  const plural = (many, one) => `${many.toLocaleString("en")} ${one}${many === 1 ? "" : "s"}`;
  $("stats").textContent = `${plural(meta.vps, "VP")} · ${plural(count, "record")} · ${duration(end - begin)}`;
  const lacking = [];
  if (meta.dropped) lacking.push(`${plural(meta.dropped, "record")} dropped`);
  if (meta.left_out) lacking.push(`${plural(meta.left_out, "record")} beyond the trace's limit`);
  if (meta.cut) lacking.push(`${plural(meta.cut, "record")} more than a page shows: narrow with --from, --to, --vp, --kind`);
  $("warn").textContent = lacking.join(" · ");
  $("problem").textContent = problems.length ? "⚠ " + problems.length.toLocaleString("en") : "no problems";
  $("problem").disabled = !problems.length;
  if (problems.length) $("problem").classList.add("bad");
  // Few VPs leave more room to the list.
  const needed = RULER + CONSOLE + GAP * 2 + meta.vps * 64;
  const main = document.querySelector("main");
  if (main.clientHeight > needed) main.style.flex = `0 0 ${needed}px`;
  const given = new URLSearchParams(location.hash.slice(1));
  const number = name => (given.has(name) ? Number(given.get(name)) : NaN);
  relist();
  if (number("to") > number("from")) show(number("from"), number("to"));
  else fitAll();
  if (given.get("q")) {
    search.value = given.get("q");
    find();
  }
  if (number("record") >= 0 && number("record") < count) select(Math.floor(number("record")));
  else explain();
  drawView();
  drawOverview();
  Object.assign(document.body.dataset, { records: count, exits: meta.exits, arrows: meta.arrows, problems: problems.length, ready: "yes" });
})();
