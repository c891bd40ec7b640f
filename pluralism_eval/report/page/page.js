
// State, address, the open example, keys.

const DEFAULTS = { task: "", group: "", community: "", role: "selected", differ: "", kind: "", words: "", sort: "", ex: "" };

let index, columns, state = { ...DEFAULTS }, matches = [], page = 0, opened = -1, names = new Map(), turn = 0;
const complete = new Promise((done) => {
  if (document.readyState !== "loading") done();
  else document.addEventListener("DOMContentLoaded", () => done());
});

// ---------------------------------------------------------------- what the page carries

const chunks = new Map();

/** What the page carries of example i; unpacks only its own chunk, and keeps the last few. */
async function detail(i) {
  let chunk = 0, start = 0;
  while (i >= start + index.chunks[chunk]) start += index.chunks[chunk++];
  if (!chunks.has(chunk)) {
    if (!$(`chunk${chunk}`)) await complete;
    chunks.set(chunk, JSON.parse(unbzipped(bytesOf(`chunk${chunk}`))));
    if (chunks.size > 12) chunks.delete(chunks.keys().next().value);
  }
  return chunks.get(chunk)[i - start];
}

// ---------------------------------------------------------------- state in the address

function link(i) {
  return "#" + address({ ...state, ex: i < 0 ? "" : index.names[i] });
}

function address(from) {
  const kept = new URLSearchParams();
  for (const [name, value] of Object.entries(from)) if (value !== DEFAULTS[name]) kept.set(name, value);
  return kept.toString() || "examples";
}

function remember() {
  const wanted = link(opened);
  if (location.hash === wanted || (wanted === "#examples" && location.hash === "")) return;
  try { history.replaceState(null, "", wanted); } catch { location.replace(wanted); }
}

/** Takes filters and example from the address; false where it names only a part of the page. */
function recall() {
  if (!location.hash.includes("=")) return false;
  const asked = new URLSearchParams(location.hash.slice(1));
  state = { ...DEFAULTS };
  for (const name of Object.keys(DEFAULTS)) if (asked.has(name)) state[name] = asked.get(name);
  if (![...$("role").options].some((o) => o.value === state.role)) state.role = DEFAULTS.role;
  if (!["", "most", "least"].includes(state.sort)) state.sort = "";
  return true;
}

function arrive(quiet) {
  if (!recall()) return;
  const wanted = state.ex ? names.get(state.ex) ?? -1 : -1;
  if (state.ex && wanted < 0) {
    $("trouble").textContent = `The example ${state.ex.replace(INVISIBLE, visible)} is not on this page: it was left out, or is of another report.`;
    $("trouble").hidden = false;
  }
  if (wanted !== opened) {
    opened = wanted;
    update();
    showExample(!quiet || wanted >= 0);
  } else update();
}

// ---------------------------------------------------------------- an example

function open(i, focus) {
  opened = i;
  state.ex = i < 0 ? "" : index.names[i];
  const place = matches.indexOf(i);
  if (place >= 0 && Math.floor(place / PAGE) !== page) { page = Math.floor(place / PAGE); showPage(); }
  for (const a of $("list").querySelectorAll("a")) {
    if (Number(a.dataset.example) === i) a.setAttribute("aria-current", "true");
    else a.removeAttribute("aria-current");
  }
  $("list").querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", behavior: "instant" });
  remember();
  return showExample(focus);
}

async function showExample(focus) {
  const box = $("example"), mine = ++turn, i = opened;
  if (i < 0) {
    box.replaceChildren($hint());
    box.setAttribute("aria-label", "Example");
    return;
  }
  try {
    const found = await detail(i);
    if (mine !== turn) return;
    box.replaceChildren(...rendered(i, found));
    box.dataset.example = index.names[i];
    box.setAttribute("aria-label", `Example ${index.names[i]}`);
  } catch (error) {
    if (mine !== turn) return;
    box.replaceChildren(el("p", { class: "warning" }, `This example could not be read: ${error}`));
  }
  if (focus) {
    box.focus({ preventScroll: true });
    const top = box.getBoundingClientRect().top;
    if (top < 0 || top > innerHeight * 0.4) box.scrollIntoView({ block: "start", behavior: "instant" });
  }
}

const $hint = () => el("p", { class: "soft", id: "hint" }, "Choose an example from the list, or press ", el("kbd", null, "j"), ".");

function step(by, focus) {
  if (!matches.length) return;
  const place = matches.indexOf(opened);
  const next = place < 0 ? page * PAGE : Math.min(Math.max(place + by, 0), matches.length - 1);
  if (matches[next] === opened) return;
  open(matches[next], focus === "example");
  if (focus === "list") $("list").querySelector("[aria-current]")?.focus({ preventScroll: false });
}

// ---------------------------------------------------------------- actions

function close() {
  open(-1, false);
  $("list").querySelector("a")?.focus();
}

async function copyLink() {
  const url = location.href;
  let done = false;
  try { await navigator.clipboard.writeText(url); done = true; } catch { done = copiedByHand(url); }
  $("copied").textContent = done ? "Copied." : url;
}

function copiedByHand(url) {
  const field = el("textarea");
  field.value = url;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  $("copy").focus();
  return done;
}

function reset() {
  state = { ...DEFAULTS, ex: state.ex };
  update();
  remember();
  $("words").focus();
}

function setUp() {
  for (const name of ["task", "group", "community", "role", "differ", "kind", "sort"]) {
    $(name).addEventListener("change", () => {
      state[name] = $(name).value;
      if (name === "task" && state.group && !state.group.startsWith(`${state.task}:`)) state.group = "";
      update();
      remember();
    });
  }
  let timer;
  $("words").addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => { state.words = $("words").value.trim(); update(); remember(); }, 120);
  });
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("reset").addEventListener("click", reset);
  $("reset-too").addEventListener("click", reset);
  $("earlier").addEventListener("click", () => { page--; showPage(); });
  $("later").addEventListener("click", () => { page++; showPage(); });
  $("help").addEventListener("click", () => $("keys").showModal());
  $("list").addEventListener("click", (event) => {
    const a = event.target.closest("a");
    if (!a || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    open(Number(a.dataset.example), true);
  });
  window.addEventListener("hashchange", () => arrive(false));
  document.addEventListener("keydown", pressed);
}

function pressed(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || $("keys").open) return;
  const typing = event.target.closest?.("input, select, textarea");
  if (event.key === "Escape") {
    if (typing) event.target.blur();
    else if (opened >= 0) close();
    else return;
  } else if (typing) return;
  else if (event.key === "j") step(1, "example");
  else if (event.key === "k") step(-1, "example");
  else if (event.key === "ArrowDown" && event.target.closest("#list")) step(1, "list");
  else if (event.key === "ArrowUp" && event.target.closest("#list")) step(-1, "list");
  else if (event.key === "/") { $("words").focus(); $("words").select(); }
  else if (event.key === "?") $("keys").showModal();
  else return;
  event.preventDefault();
}

async function start() {
  setUpTheme();
  document.querySelectorAll("table[data-sortable]").forEach(sortable);
  if (typeof DecompressionStream === "undefined") {
    $("trouble").textContent = "This browser is too old to unpack the examples. Everything above shows without them.";
    $("trouble").hidden = false;
    return;
  }
  index = JSON.parse(await unzipped(bytesOf("index")));
  columns = index.columns;
  index.groupNames = index.groups.map((_, g) => groupName(g));
  index.prefix = sharedPrefixes();
  index.names = columns.task.map((t, i) => {
    const name = `${index.tasks[t].name}-${columns.doc[i]}`;
    let own = name;
    for (let n = 2; names.has(own); n++) own = `${name}.${n}`;
    names.set(own, i);
    return own;
  });
  fillSelects();
  setUp();
  $("browser").hidden = false;
  if (location.hash.includes("=")) arrive(true);
  else update();
  performance.mark("interactive");
}

start().catch((error) => {
  $("trouble").textContent = `The examples could not be unpacked: ${error}`;
  $("trouble").hidden = false;
});
