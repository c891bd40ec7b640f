
// The list of what matches, a page at a time.

const PAGE = 25;

function update({ keepPage = false } = {}) {
  const { found, facets } = filtered();
  matches = found;
  showCounts(facets);
  for (const name of Object.keys(DEFAULTS)) if (name !== "ex" && $(name).value !== state[name]) $(name).value = state[name];
  const place = matches.indexOf(opened);
  if (place >= 0) page = Math.floor(place / PAGE);
  else if (!keepPage) page = 0;
  const all = columns.task.length;
  $("count").textContent = matches.length === all ? `${count(all)} examples` : `${count(matches.length)} of ${count(all)} examples match`;
  $("reset").hidden = !Object.keys(DEFAULTS).some((name) => name !== "ex" && state[name] !== DEFAULTS[name]);
  $("nothing").hidden = matches.length > 0;
  showPage();
}

function showPage() {
  const pages = Math.max(1, Math.ceil(matches.length / PAGE));
  page = Math.min(Math.max(page, 0), pages - 1);
  const first = page * PAGE;
  $("list").replaceChildren(...matches.slice(first, first + PAGE).map(listed));
  $("list").hidden = matches.length === 0;
  $("list").start = first + 1;
  $("list").scrollTop = 0;
  $("page").textContent = matches.length ? `${count(first + 1)}–${count(Math.min(first + PAGE, matches.length))} of ${count(matches.length)}` : "";
  $("earlier").disabled = page === 0;
  $("later").disabled = page >= pages - 1;
  $("list").querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", behavior: "instant" });
}

function listed(i) {
  const task = index.tasks[columns.task[i]];
  const about = begin(index.attributes[columns.attribute[i]]) || (columns.group[i] >= 0 ? index.groups[columns.group[i]][1] : "");
  const m = columns.measure[i];
  return el("li", null, el("a", { href: link(i), "aria-current": i === opened ? "true" : null, "data-example": i },
    el("span", { class: "what" },
      el("span", null, `${task.title} ${columns.doc[i]}`, about ? [" · ", el("bdi", null, nodes(about))] : ""),
      index.sets[columns.kinds[i]].length ? el("span", { class: "dot", title: "something irregular" }, "●", el("span", { class: "sr" }, " irregular")) : null,
      m === null ? null : el("span", { title: "how much runs disagree, 0 to 1" }, el("span", { class: "sr" }, "disagreement "), m.toFixed(2))),
    el("span", { class: "ask", dir: "auto" }, nodes(teaser(i)))));
}

/** The first words of a question, without what all questions of its task begin with. */
function teaser(i) {
  const text = begin(index.queries[columns.query[i]]);
  const shared = index.prefix[columns.task[i]];
  return text.slice(shared, shared + 220).trim() || "(empty)";
}

function sharedPrefixes() {
  const found = index.tasks.map(() => null);
  columns.query.forEach((q, i) => {
    const t = columns.task[i], text = begin(index.queries[q]);
    if (found[t] === null) { found[t] = text; return; }
    let n = 0;
    const limit = Math.min(found[t].length, text.length);
    while (n < limit && found[t][n] === text[n]) n++;
    found[t] = found[t].slice(0, n);
  });
  const several = new Map();
  columns.task.forEach((t, i) => several.set(t, (several.get(t) ?? new Set()).add(columns.query[i])));
  // whole words only, and nothing where a task has a single question
  return found.map((text, t) => ((several.get(t)?.size ?? 0) > 1 && text ? text.length - text.split(/\s/).pop().length : 0));
}
