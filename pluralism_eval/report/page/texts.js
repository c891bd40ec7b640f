
// Texts of models and data: text nodes only, never markup.

const count = (n) => n.toLocaleString("en-US");

// As in markup.py: controls, and signs that turn or hide text.
const INVISIBLE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff]/g;

function visible(sign) {
  const code = sign.charCodeAt(0);
  if (code < 0x20) return String.fromCharCode(0x2400 + code);
  return code === 0x7f ? "\u2421" : `[U+${code.toString(16).toUpperCase().padStart(4, "0")}]`;
}

/** An element; strings become text, never markup. */
function el(tag, properties, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "onclick") made.addEventListener("click", value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return made;
}

/** Text of a model or of the data as nodes, what is invisible in it made visible. */
function nodes(text) {
  const found = [];
  let last = 0;
  for (const sign of text.matchAll(INVISIBLE)) {
    found.push(text.slice(last, sign.index));
    found.push(el("span", { class: "control", title: `control character U+${sign[0].charCodeAt(0).toString(16).padStart(4, "0")}` }, visible(sign[0])));
    last = sign.index + 1;
  }
  found.push(text.slice(last));
  return found.filter((part) => part !== "");
}

const cutNote = (n) => el("span", { class: "cutnote" }, `… ${count(n)} more characters cut`);

/** A stored text: itself, or [its beginning, characters cut]. */
function stored(text) {
  return typeof text === "string" ? nodes(text) : [...nodes(text[0]), cutNote(text[1])];
}

const bdi = (text) => el("bdi", null, stored(text));

function block(text, properties) {
  const blank = (typeof text === "string" ? text : text[0]).trim() === "";
  const extra = properties?.class ?? "";
  return el("p", { dir: "auto", ...properties, class: `text ${blank ? "empty" : ""} ${extra}` }, blank && text === "" ? "(empty)" : blank ? ["(blank) ", stored(text)] : stored(text));
}

/** A name, kept apart from the direction of the text around it; may break after underscores. */
const named = (name) => el("bdi", null, name.split("_").flatMap((part, n, all) => [...nodes(n < all.length - 1 ? `${part}_` : part), n < all.length - 1 ? el("wbr") : ""]));
const tag = (text, kind) => el("span", { class: `tag ${kind ?? ""}` }, nodes(text));
const kindTags = (kinds) => kinds.map((k) => tag(index.kinds[k], "odd"));
