"use strict";
// The data of the page: see data.rs for the sections. Everything that comes from a guest is a string here, and is only ever drawn or
// set as text.

/** The bytes of a section. */
function section(id) {
  const element = document.getElementById(id);
  const text = atob(element.textContent);
  element.remove();
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** Reads LEB128 numbers. */
class Cursor {
  constructor(bytes, at = 0) {
    this.bytes = bytes;
    this.at = at;
  }
  /** A number below 2^53. */
  next() {
    let value = 0, scale = 1, byte;
    do {
      byte = this.bytes[this.at++];
      value += (byte & 0x7f) * scale;
      scale *= 128;
    } while (byte & 0x80);
    return value;
  }
  skip() {
    while (this.bytes[this.at++] & 0x80);
  }
  /** A number of 64 bits. */
  big() {
    let value = 0n, shift = 0n, byte;
    do {
      byte = this.bytes[this.at++];
      value |= BigInt(byte & 0x7f) << shift;
      shift += 7n;
    } while (byte & 0x80);
    return value;
  }
}

const NUMBER = 0, HEX = 1, TEXT = 2;
const utf8 = new TextDecoder();
const meta = JSON.parse(utf8.decode(section("meta")));
const count = meta.records;
const lanes = meta.vps + 1;
const time = new Float64Array(count);
const lane = new Uint8Array(count);
const shape = new Uint32Array(count);
const fieldsAt = new Uint32Array(count);
/** By record: its exit's number, or -1; the record of the exit in which it is, or -1. */
const exitOf = new Int32Array(count).fill(-1);
const inside = new Int32Array(count).fill(-1);
const exitTook = new Float64Array(meta.exits);
const exitName = new Uint32Array(meta.exits);
const arrowFrom = new Uint32Array(meta.arrows);
const arrowTo = new Uint32Array(meta.arrows);
const records = section("records");

const BAD = new Set(["finding", "fault", "fault-injected", "lost", "crash", "unknown-immediate", "unknown",
  "vmbus-state-ring", "vmbus-state-fault", "vmbus-state-rejected", "vmbus-state-dropped"]);
const shapes = meta.shapes.map(([kind, name, fields]) => ({
  kind, name: meta.strings[name], fields, bad: BAD.has(kind), words: (kind + " " + meta.strings[name]).toLowerCase(),
}));

function skipText(cursor) {
  const value = cursor.next();
  if (value % 2) cursor.at += (value - 1) / 2;
}

(function read() {
  const exits = new Cursor(section("exits"));
  for (let n = 0, i = 0; n < meta.exits; n++) {
    exitOf[i += exits.next()] = n;
    exitTook[n] = exits.next();
    exitName[n] = exits.next();
  }
  const cursor = new Cursor(records);
  let now = 0;
  const open = new Int32Array(lanes).fill(-1), until = new Float64Array(lanes);
  for (let i = 0; i < count; i++) {
    time[i] = now += cursor.next();
    lane[i] = cursor.next();
    shape[i] = cursor.next();
    fieldsAt[i] = cursor.at;
    for (const [, type] of shapes[shape[i]].fields) type === TEXT ? skipText(cursor) : cursor.skip();
    if (exitOf[i] >= 0) {
      open[lane[i]] = i;
      until[lane[i]] = now + exitTook[exitOf[i]];
    } else if (open[lane[i]] >= 0 && now <= until[lane[i]]) inside[i] = open[lane[i]];
  }
  const arrows = new Cursor(section("arrows"));
  for (let n = 0, i = 0; n < meta.arrows; n++) {
    arrowTo[n] = i += arrows.next();
    arrowFrom[n] = i - arrows.next();
  }
})();

/** The fields of a record: [name, value as text, type]. */
function fieldsOf(i) {
  const cursor = new Cursor(records, fieldsAt[i]);
  return shapes[shape[i]].fields.map(([name, type]) => {
    if (type === NUMBER) return [name, cursor.big().toString(), type];
    if (type === HEX) return [name, "0x" + cursor.big().toString(16), type];
    const value = cursor.next();
    if (value % 2 === 0) return [name, meta.strings[value / 2], type];
    const length = (value - 1) / 2;
    return [name, utf8.decode(records.subarray(cursor.at, cursor.at += length)), type];
  });
}

/** What a record is about. An exit is called what it turned out to be. */
function nameOf(i) {
  if (exitOf[i] >= 0) return meta.strings[exitName[exitOf[i]]] || shapes[shape[i]].name;
  const { name, fields } = shapes[shape[i]];
  if (name) return name;
  if (fields.length && (fields[0][0] === "name" || fields[0][0] === "text")) return fieldsOf(i)[0][1];
  return shapes[shape[i]].kind;
}

const laneName = n => (n ? "VP " + (n - 1) : "console");

/** All of a record as lower-case text, for the search. */
function textOf(i) {
  const fields = fieldsOf(i).map(([name, value]) =>
    meta.places[value] ? `${name}=${value} ${meta.places[value]}` : `${name}=${value}`);
  const vp = lane[i] ? "vp" + (lane[i] - 1) : "console";
  return `${vp} ${shapes[shape[i]].words} ${nameOf(i)} ${fields.join(" ")}`.toLowerCase();
}

/** By lane: its records in the order of their times. */
const byLane = (() => {
  const sizes = new Uint32Array(lanes);
  for (let i = 0; i < count; i++) sizes[lane[i]]++;
  const all = Array.from(sizes, size => new Uint32Array(size));
  sizes.fill(0);
  for (let i = 0; i < count; i++) all[lane[i]][sizes[lane[i]]++] = i;
  return all;
})();

/** Records of what went wrong. */
const problems = (() => {
  const found = [];
  for (let i = 0; i < count; i++) if (shapes[shape[i]].bad) found.push(i);
  return found;
})();

/** The first place in a sorted list of records whose time is not below `t`. */
function firstAt(list, t) {
  let low = 0, high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (time[list[middle]] < t) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The first arrow that ends at record `i` or behind it. */
function firstArrow(i) {
  let low = 0, high = arrowTo.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (arrowTo[middle] < i) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The arrows that start at each record, made when they are first asked for. */
let starts = null;
function arrowsFrom(i) {
  if (!starts) {
    starts = new Map();
    for (let n = 0; n < arrowFrom.length; n++) {
      const list = starts.get(arrowFrom[n]);
      list ? list.push(n) : starts.set(arrowFrom[n], [n]);
    }
  }
  return starts.get(i) || [];
}

function arrowsTo(i) {
  const found = [];
  for (let n = firstArrow(i); n < arrowTo.length && arrowTo[n] === i; n++) found.push(n);
  return found;
}

/** The arrows before and behind a record, up to a few hundred. */
function chain(i) {
  const found = new Set();
  for (const [step, other] of [[arrowsTo, arrowFrom], [arrowsFrom, arrowTo]]) {
    const todo = [i];
    while (todo.length && found.size < 300) {
      for (const arrow of step(todo.pop())) {
        if (!found.has(arrow)) {
          found.add(arrow);
          todo.push(other[arrow]);
        }
      }
    }
  }
  return found;
}

const begin = count ? time[0] : 0;
const end = (() => {
  let last = count ? time[count - 1] : 1;
  for (let i = Math.max(0, count - 5000); i < count; i++) if (exitOf[i] >= 0) last = Math.max(last, time[i] + exitTook[exitOf[i]]);
  return Math.max(last, begin + 1000);
})();

/** A time in seconds, with as many digits as a step of that many nanoseconds needs. */
function seconds(t, step = 1) {
  const digits = Math.max(0, Math.min(9, 9 - Math.floor(Math.log10(Math.max(step, 1)) + 1e-9)));
  return (t / 1e9).toFixed(digits);
}

/** A duration, readable. */
function duration(ns) {
  if (ns < 1e3) return Math.round(ns) + " ns";
  if (ns < 1e6) return (ns / 1e3).toFixed(ns < 1e4 ? 2 : 1) + " µs";
  if (ns < 1e9) return (ns / 1e6).toFixed(ns < 1e7 ? 2 : 1) + " ms";
  return (ns / 1e9).toFixed(3) + " s";
}
