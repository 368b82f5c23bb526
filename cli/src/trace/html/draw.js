// The timeline and the overview.

const view = document.getElementById("view");
const overview = document.getElementById("overview");
const RULER = 26, CONSOLE = 30, GUTTER = 64, GAP = 6;
const SLICE = 22, MARK = 15;

/** What is shown, and what is picked. */
const state = {
  from: begin, to: end, selected: -1, hits: null, hitShapes: null, range: null, scroll: 0, hover: -1,
};

const SLICES = {
  light: { hvc: "#2f6fdb", smccc: "#0f8f8c", irq: "#8a94a3", gic: "#8256d0", sys: "#b7791f", abort: "#c2410c", other: "#64748b" },
  dark: { hvc: "#4f8cf0", smccc: "#2bb5b0", irq: "#6b7687", gic: "#a37ff0", sys: "#d69e3a", abort: "#ee7440", other: "#7c8799" },
};
const MARKS = {
  light: { message: "#0a7f4f", vmbus: "#0a7f4f", interrupt: "#59636f", timer: "#b7791f", register: "#2f6fdb", other: "#7b8593" },
  dark: { message: "#3ecf8e", vmbus: "#3ecf8e", interrupt: "#9aa5b4", timer: "#e0b050", register: "#79a8ff", other: "#8a95a5" },
};
let colours = {};

function readColours() {
  const style = getComputedStyle(document.documentElement);
  const dark = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  colours = { slice: SLICES[dark], mark: MARKS[dark] };
  for (const name of ["bg", "panel", "line", "text", "dim", "lane", "accent", "bad", "hit", "arrow", "sel"])
    colours[name] = style.getPropertyValue("--" + name).trim();
}

const CAUSES = {
  "hvc #1": "hvc", "hvc #0": "smccc", smc: "smccc", interrupt: "irq", "GIC access": "gic", "system register": "sys", abort: "abort",
};
function sliceColour(i) {
  const { name } = shapes[shape[i]];
  if (CAUSES[name] === "smccc" && nameOf(i).startsWith("HVCALL_")) return colours.slice.hvc;
  return colours.slice[CAUSES[name] || "other"];
}
function markColour(i) {
  const { kind, bad } = shapes[shape[i]];
  if (bad) return colours.bad;
  return colours.mark[kind.split("-")[0]] || colours.mark.other;
}

/** Fits a canvas to its place, and gives what draws on it. */
function fit(canvas) {
  const ratio = devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const g = canvas.getContext("2d");
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.clearRect(0, 0, width, height);
  return { g, width, height };
}

const widthOfView = () => Math.max(view.clientWidth - GUTTER, 50);
const x = t => GUTTER + (t - state.from) / (state.to - state.from) * widthOfView();
const timeAt = px => state.from + (px - GUTTER) / widthOfView() * (state.to - state.from);

function laneHeight() {
  const room = view.clientHeight - RULER - CONSOLE - GAP;
  return Math.max(SLICE + MARK * 2 + GAP, Math.min(64, Math.floor(room / Math.max(1, meta.vps))));
}
function laneTop(n) {
  if (n === 0) return RULER;
  return RULER + CONSOLE + GAP + (n - 1) * laneHeight() - state.scroll;
}

/** Distance of two marks of a ruler, in nanoseconds: 1, 2 or 5 times a power of ten. */
function stepFor(span, width) {
  const least = span / Math.max(1, width / 110);
  const power = 10 ** Math.floor(Math.log10(Math.max(least, 1)));
  return [1, 2, 5, 10].map(n => n * power).find(step => step >= least);
}

function ruler(g, width, height) {
  const step = stepFor(state.to - state.from, width - GUTTER);
  g.font = "11px system-ui, sans-serif";
  g.textBaseline = "middle";
  for (let t = Math.ceil(state.from / step) * step; t <= state.to; t += step) {
    const at = Math.round(x(t)) + 0.5;
    g.strokeStyle = colours.line;
    g.beginPath();
    g.moveTo(at, RULER - 6);
    g.lineTo(at, height);
    g.stroke();
    g.fillStyle = colours.dim;
    g.fillText(seconds(t, step) + " s", at + 4, RULER / 2);
  }
}

/** Widths of texts that were measured, by font. */
const widths = new Map();
function widthOf(g, text) {
  const key = g.font + text;
  let width = widths.get(key);
  if (width === undefined) {
    if (widths.size > 20000) widths.clear();
    widths.set(key, (width = g.measureText(text).width));
  }
  return width;
}

/** A text that ends where its room does. */
function label(g, text, left, middle, room, colour) {
  if (room < 14) return;
  const width = widthOf(g, text);
  g.fillStyle = colour;
  if (width > room) text = text.slice(0, Math.max(1, Math.floor(text.length * room / width) - 1)) + "…";
  g.fillText(text, left, middle);
}

/** Calls `each` for what is seen of a list, once for each `apart` pixels: what lies closer is not told apart. */
function seen(list, apart, each) {
  const from = firstAt(list, state.from);
  for (let n = from; n < list.length;) {
    const i = list[n], left = x(time[i]);
    if (time[i] > state.to) break;
    const next = firstAt2(list, n + 1, timeAt(left + apart));
    each(i, left, n + 1 < list.length ? x(time[list[n + 1]]) : Infinity, next - n);
    n = next;
  }
}
function firstAt2(list, start, t) {
  // Most often it is the next one.
  if (start >= list.length || time[list[start]] >= t) return start;
  let low = start, high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (time[list[middle]] < t) low = middle + 1;
    else high = middle;
  }
  return low;
}

const exitLists = byLane.map(list => list.filter(i => exitOf[i] >= 0));
const markLists = byLane.map(list => list.filter(i => exitOf[i] < 0));

function slices(g, n, top) {
  const list = exitLists[n], height = SLICE;
  const first = firstAt(list, state.from);
  // The one before may reach into the picture.
  const draw = (i, left, next) => {
    const right = x(time[i] + exitTook[exitOf[i]]);
    const width = Math.max(right - left, 1);
    if (right < GUTTER) return;
    const start = Math.max(left, GUTTER);
    g.fillStyle = sliceColour(i);
    g.fillRect(start, top, Math.max(right - start, 1), height);
    if (width > 26) label(g, nameOf(i), start + 4, top + height / 2 + 0.5, right - start - 6, "#fff");
    else if (next - left > 60) label(g, nameOf(i), right + 3, top + height / 2 + 0.5, next - right - 8, colours.dim);
  };
  if (first > 0) draw(list[first - 1], x(time[list[first - 1]]), first < list.length ? x(time[list[first]]) : Infinity);
  seen(list, 1, (i, left, next) => draw(i, left, next));
}

function marks(g, n, top) {
  seen(markLists[n], 3, (i, left, next, many) => {
    const low = top + SLICE + 3;
    g.fillStyle = markColour(i);
    g.beginPath();
    g.moveTo(left, low);
    g.lineTo(left + 3.5, low + 7);
    g.lineTo(left - 3.5, low + 7);
    g.fill();
    if (many === 1 && next - left > 34) {
      label(g, nameOf(i), left + 6, low + 5, next - left - 10, shapes[shape[i]].bad ? colours.bad : colours.dim);
    }
  });
}

function consoleLane(g) {
  const middle = RULER + CONSOLE / 2;
  seen(byLane[0], 3, (i, left, next) => {
    g.fillStyle = colours.accent;
    g.fillRect(left, RULER + 4, 1.5, CONSOLE - 8);
    const room = Math.min(next, view.clientWidth) - left - 8;
    if (room > 40) label(g, nameOf(i), left + 4, middle, room, colours.text);
  });
}

const problemLists = byLane.map((_, n) => problems.filter(i => lane[i] === n));

function problemMarks(g) {
  for (let n = 1; n < lanes; n++) {
    const top = laneTop(n), height = laneHeight() - GAP;
    seen(problemLists[n], 2, (i, left) => {
      g.fillStyle = colours.bad;
      g.globalAlpha = 0.25;
      g.fillRect(left - 1, top, 2, height);
      g.globalAlpha = 1;
      g.beginPath();
      g.moveTo(left - 5, top - 5);
      g.lineTo(left + 5, top - 5);
      g.lineTo(left, top + 4);
      g.fill();
    });
  }
}

function hitMarks(g) {
  if (!state.hits) return;
  g.fillStyle = colours.hit;
  const last = new Float64Array(lanes).fill(-9);
  for (let n = firstAt(state.hits, state.from); n < state.hits.length; n++) {
    const i = state.hits[n], left = x(time[i]);
    if (time[i] > state.to) break;
    if (left - last[lane[i]] < 1.5) continue;
    last[lane[i]] = left;
    const top = laneTop(lane[i]);
    g.fillRect(left - 1, top + (lane[i] ? SLICE + 11 : CONSOLE - 4), 3, lane[i] ? 5 : 4);
  }
}

/** Where an arrow begins or ends: a slice has it at its lower edge, a mark at its tip. */
const arrowY = i => laneTop(lane[i]) + SLICE + (exitOf[i] >= 0 ? 0 : 3);

function arrow(g, n, strong) {
  const from = arrowFrom[n], to = arrowTo[n];
  const x0 = x(time[from]), x1 = x(time[to]), y0 = arrowY(from), y1 = arrowY(to);
  if (Math.max(x0, x1) < GUTTER || Math.min(x0, x1) > view.clientWidth) return;
  const bend = lane[from] === lane[to] ? 16 : 0;
  const reach = Math.max(14, Math.min(70, Math.abs(x1 - x0) / 2));
  g.strokeStyle = g.fillStyle = colours.arrow;
  g.globalAlpha = strong ? 1 : 0.45;
  g.lineWidth = strong ? 2 : 1;
  g.beginPath();
  g.moveTo(x0, y0);
  g.bezierCurveTo(x0 + reach, y0 + bend, x1 - reach, y1 + bend, x1, y1);
  g.stroke();
  g.beginPath();
  g.moveTo(x1, y1);
  g.lineTo(x1 - 6, y1 - 3.5 + bend / 6);
  g.lineTo(x1 - 6, y1 + 3.5 + bend / 6);
  g.fill();
  g.globalAlpha = 1;
  g.lineWidth = 1;
}

function arrows(g) {
  // From one VP to another, if they are few enough to be told apart.
  const all = [];
  const first = firstAtTime(state.from);
  for (let n = firstArrow(first); n < arrowTo.length && time[arrowFrom[n]] <= state.to && all.length <= 400; n++) {
    if (lane[arrowFrom[n]] !== lane[arrowTo[n]]) all.push(n);
  }
  if (all.length <= 400) for (const n of all) arrow(g, n, false);
  if (state.selected >= 0) for (const n of state.chain) arrow(g, n, true);
}

function firstAtTime(t) {
  let low = 0, high = count;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (time[middle] < t) low = middle + 1;
    else high = middle;
  }
  return low;
}

function selection(g, height) {
  if (state.range) {
    const [a, b] = state.range.map(x);
    g.fillStyle = colours.accent;
    g.globalAlpha = 0.12;
    g.fillRect(a, RULER, b - a, height);
    g.globalAlpha = 1;
    g.font = "bold 12px system-ui, sans-serif";
    label(g, duration(state.range[1] - state.range[0]), a + 5, RULER + 9, 200, colours.accent);
  }
  const i = state.selected;
  if (i < 0) return;
  const top = laneTop(lane[i]), left = x(time[i]);
  g.strokeStyle = colours.sel;
  g.lineWidth = 2;
  if (exitOf[i] >= 0) g.strokeRect(left - 1, top - 1, Math.max(x(time[i] + exitTook[exitOf[i]]) - left, 1) + 2, SLICE + 2);
  else if (lane[i]) g.strokeRect(left - 6, top + SLICE, 12, 13);
  else g.strokeRect(left - 3, RULER + 2, 7, CONSOLE - 4);
  g.lineWidth = 1;
}

function drawView() {
  const { g, width, height } = fit(view);
  for (let n = 1; n < lanes; n++) {
    g.fillStyle = colours.lane;
    g.fillRect(GUTTER, laneTop(n), width, laneHeight() - GAP);
  }
  ruler(g, width, height);
  g.save();
  g.beginPath();
  g.rect(GUTTER, RULER + CONSOLE, width, height);
  g.clip();
  g.font = "11px system-ui, sans-serif";
  for (let n = 1; n < lanes; n++) {
    slices(g, n, laneTop(n));
    marks(g, n, laneTop(n));
  }
  problemMarks(g);
  arrows(g);
  g.restore();
  g.save();
  g.beginPath();
  g.rect(GUTTER, RULER, width, height);
  g.clip();
  g.fillStyle = colours.bg;
  g.fillRect(GUTTER, RULER, width, CONSOLE);
  g.font = "11px ui-monospace, monospace";
  consoleLane(g);
  hitMarks(g);
  selection(g, height);
  g.restore();
  g.font = "12px system-ui, sans-serif";
  g.fillStyle = colours.text;
  for (let n = 0; n < lanes; n++) {
    const top = laneTop(n);
    if (n && top < RULER + CONSOLE - 4) continue;
    g.fillText(laneName(n), 8, n ? top + SLICE / 2 : RULER + CONSOLE / 2);
  }
}

/** How many records of a lane each pixel of the overview has; it does not change with what is shown. */
let densities = null;
function density(width) {
  if (densities && densities.width === width) return densities;
  const bins = byLane.map(() => new Float64Array(width));
  const scale = (width - 1) / (end - begin);
  for (let i = 0; i < count; i++) bins[lane[i]][Math.floor((time[i] - begin) * scale)]++;
  let most = 1;
  for (const bin of bins) for (const n of bin) most = Math.max(most, n);
  return (densities = { width, bins, most });
}

const overX = (t, width) => (t - begin) / (end - begin) * width;

function drawOverview() {
  const { g, width, height } = fit(overview);
  const { bins, most } = density(Math.max(50, width));
  const axis = 14, rows = Math.max(1, meta.vps), tall = (height - axis - 4) / rows;
  const step = stepFor(end - begin, width);
  g.font = "10px system-ui, sans-serif";
  g.textBaseline = "middle";
  for (let t = Math.ceil(begin / step) * step; t <= end; t += step) {
    g.fillStyle = colours.dim;
    g.fillText(seconds(t, step) + " s", overX(t, width) + 3, axis / 2 + 1);
    g.fillStyle = colours.line;
    g.fillRect(overX(t, width), 0, 1, height);
  }
  g.fillStyle = colours.accent;
  for (let n = 1; n < lanes; n++) {
    const base = axis + n * tall;
    bins[n].forEach((many, px) => {
      if (!many) return;
      const part = Math.max(0.15, Math.log1p(many) / Math.log1p(most)) * (tall - 1);
      g.fillRect(px, base - part, 1, part);
    });
  }
  g.fillStyle = colours.hit;
  if (state.hits) {
    let last = -1;
    for (const i of state.hits) {
      const px = Math.floor(overX(time[i], width));
      if (px !== last) g.fillRect((last = px), height - 5, 1, 5);
    }
  }
  g.fillStyle = colours.bad;
  let last = -1;
  for (const i of problems) {
    const px = Math.floor(overX(time[i], width));
    if (px !== last) g.fillRect((last = px) - 1, axis, 2, height - axis);
  }
  const a = overX(state.from, width), b = Math.max(overX(state.to, width), a + 3);
  g.fillStyle = colours.bg;
  g.globalAlpha = 0.65;
  g.fillRect(0, 0, a, height);
  g.fillRect(b, 0, width - b, height);
  g.globalAlpha = 1;
  g.strokeStyle = colours.accent;
  g.strokeRect(a + 0.5, 0.5, b - a - 1, height - 1);
}

let wanted = false;
function draw() {
  if (wanted) return;
  wanted = true;
  requestAnimationFrame(() => {
    wanted = false;
    drawView();
    drawOverview();
  });
}

/** The record at a point of the timeline, or -1. */
function recordAt(px, py) {
  if (px < GUTTER) return -1;
  const near = (list, reach) => {
    const n = firstAt(list, timeAt(px - reach));
    let best = -1, distance = reach;
    for (let m = n; m < list.length && m < n + 200; m++) {
      const away = Math.abs(x(time[list[m]]) - px);
      if (time[list[m]] > timeAt(px + reach)) break;
      if (away <= distance) [best, distance] = [list[m], away];
    }
    return best;
  };
  if (py >= RULER && py < RULER + CONSOLE) {
    const list = byLane[0], exact = near(list, 4);
    if (exact >= 0) return exact;
    const before = firstAt(list, timeAt(px)) - 1;
    return before >= 0 && px - x(time[list[before]]) < 7 * nameOf(list[before]).length ? list[before] : -1;
  }
  for (let n = 1; n < lanes; n++) {
    const down = py - laneTop(n);
    if (down < -5 || down > laneHeight() - GAP) continue;
    if (down < 3) {
      const problem = near(problemLists[n], 6);
      if (problem >= 0) return problem;
    }
    if (down > SLICE) return near(markLists[n], 6);
    const list = exitLists[n], at = timeAt(px), m = firstAt(list, at + 1) - 1;
    if (m >= 0 && at <= time[list[m]] + exitTook[exitOf[list[m]]]) return list[m];
    return near(list, 3);
  }
  return -1;
}
