
"use strict";
// What the page carries: five signs for four bytes, compressed.

const SIGNS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%()*+,-./:;=?@^_{|}~";
const $ = (id) => document.getElementById(id);

function bytesOf(id) {
  const text = $(id).textContent;
  const words = (text.length - 1) / 5;
  const values = new Uint8Array(128);
  for (let i = 0; i < SIGNS.length; i++) values[SIGNS.charCodeAt(i)] = i;
  const bytes = new Uint8Array(words * 4);
  const view = new DataView(bytes.buffer);
  for (let i = 0, at = 1; i < words; i++) {
    let word = 0;
    for (let digit = 0; digit < 5; digit++) word = word * 85 + values[text.charCodeAt(at++)];
    view.setUint32(i * 4, word);
  }
  return bytes.subarray(0, bytes.length - SIGNS.indexOf(text[0]));
}

async function unzipped(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

/** bzip2 → text; browsers have no such thing, and prose comes out a fifth smaller than with gzip. */
function unbzipped(bytes) {
  let at = 4, held = 0, have = 0; // behind "BZh9"; bits that were read and not yet used
  const bits = (n) => {
    while (have < n) { held = (held << 8) | bytes[at++]; have += 8; }
    have -= n;
    const value = (held >>> have) & ((1 << n) - 1);
    held &= (1 << have) - 1;
    return value;
  };
  const parts = [];
  for (;;) {
    const magic = bits(24);
    bits(24);
    if (magic !== 0x314159) break; // a block begins with the digits of pi, the end does not
    bits(16); bits(16); bits(1); // checksum; "randomised" is long out of use
    parts.push(unrun(unsorted(symbols(bits))));
  }
  const decoder = new TextDecoder(), stream = { stream: true };
  return parts.map((part) => decoder.decode(part, stream)).join("") + decoder.decode();
}

/** One block's Huffman codes and moves to the front undone: its last column, and where its text begins. */
function symbols(bits) {
  const origin = bits(24), rows = bits(16), front = [];
  for (let r = 0; r < 16; r++) {
    if (!((rows >> (15 - r)) & 1)) continue;
    const used = bits(16);
    for (let c = 0; c < 16; c++) if ((used >> (15 - c)) & 1) front.push(r * 16 + c);
  }
  const size = front.length + 2, nTables = bits(3), nSelectors = bits(15);
  const order = [...Array(nTables).keys()];
  const selectors = Array.from({ length: nSelectors }, () => {
    let place = 0;
    while (bits(1)) place++;
    order.unshift(order.splice(place, 1)[0]);
    return order[0];
  });
  const tables = Array.from({ length: nTables }, () => {
    let length = bits(5);
    return codes(Array.from({ length: size }, () => {
      while (bits(1)) length += bits(1) ? -1 : 1;
      return length;
    }));
  });
  const column = new Uint8Array(900000);
  let filled = 0, run = 0, weight = 1;
  for (let n = 0; ; n++) {
    const { first, base, sorted } = tables[selectors[Math.floor(n / 50)]];
    let length = 1, code = bits(1);
    while (code - first[length] >= base[length + 1] - base[length]) { code = code * 2 + bits(1); length++; }
    const symbol = sorted[base[length] + code - first[length]];
    if (symbol < 2) { run += weight << symbol; weight *= 2; continue; }
    if (run) { column.fill(front[0], filled, filled += run); run = 0; weight = 1; }
    if (symbol === size - 1) return { column: column.subarray(0, filled), origin };
    const value = front[symbol - 1];
    front.copyWithin(1, 0, symbol - 1);
    front[0] = value;
    column[filled++] = value;
  }
}

/** Canonical code: per length the first code, and where its symbols begin among all by length. */
function codes(lengths) {
  const first = [0], base = [0, 0], sorted = [];
  let code = 0;
  for (let length = 1; length <= 20; length++) {
    first[length] = code;
    lengths.forEach((own, symbol) => { if (own === length) sorted.push(symbol); });
    base[length + 1] = sorted.length;
    code = (code + base[length + 1] - base[length]) * 2;
  }
  return { first, base, sorted };
}

/** The Burrows-Wheeler transform undone. */
function unsorted({ column, origin }) {
  const starts = new Uint32Array(256), next = new Uint32Array(column.length);
  for (const value of column) starts[value]++;
  let sum = 0;
  for (let v = 0; v < 256; v++) { const n = starts[v]; starts[v] = sum; sum += n; }
  for (let i = 0; i < column.length; i++) next[starts[column[i]]++] = i;
  const bytes = new Uint8Array(column.length);
  for (let i = 0, place = next[origin]; i < bytes.length; i++) { bytes[i] = column[place]; place = next[place]; }
  return bytes;
}

/** Four equal bytes are followed by how many more there are. */
function unrun(bytes) {
  const found = [];
  let start = 0;
  for (let i = 3; i < bytes.length; i++) {
    const value = bytes[i];
    if (value !== bytes[i - 1] || value !== bytes[i - 2] || value !== bytes[i - 3]) continue;
    found.push(bytes.subarray(start, i + 1), new Uint8Array(bytes[i + 1]).fill(value));
    start = i + 2;
    i = start + 2;
  }
  found.push(bytes.subarray(start));
  const whole = new Uint8Array(found.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of found) { whole.set(part, at); at += part.length; }
  return whole;
}
