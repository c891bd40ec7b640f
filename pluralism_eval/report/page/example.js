
// One example: question, answers, messages, prompts.

function rendered(i, x) {
  const task = index.tasks[columns.task[i]];
  const query = index.queries[columns.query[i]], attribute = index.attributes[columns.attribute[i]];
  const group = columns.group[i] >= 0 ? index.groups[columns.group[i]][1] : "";
  const text = (ref) => (ref === 0 ? query : x.texts[ref - 1]);
  const letters = x.letters.length ? x.letters : x.options.map((_, n) => String(n + 1));
  const context = { i, x, task, text, letters };
  const place = matches.indexOf(i);
  const facts = [group && group !== begin(attribute) ? tag(group) : null, begin(attribute) ? tag(`to: ${begin(attribute)}`) : null,
    columns.measure[i] === null ? null : tag(`disagreement ${columns.measure[i].toFixed(2)}`)];
  return [
    el("h3", null, `${task.title} ${columns.doc[i]} `, el("span", { class: "tags" }, facts)),
    el("div", { class: "actions" },
      el("button", { type: "button", onclick: () => step(-1, "example"), disabled: place <= 0 ? true : null, "aria-keyshortcuts": "k" }, "← Previous"),
      el("button", { type: "button", onclick: () => step(1, "example"), disabled: place < 0 || place >= matches.length - 1 ? true : null, "aria-keyshortcuts": "j" }, "Next →"),
      el("button", { type: "button", id: "copy", onclick: copyLink }, "Copy link"),
      el("button", { type: "button", onclick: close }, "Close"),
      el("span", { id: "copied", role: "status" })),
    el("section", { "aria-label": "Question" }, block(query, { class: "question" }), options(context)),
    x.explanations.length ? values(context) : null,
    el("h4", null, "Answers"), answers(context),
    el("h4", null, "Messages of the communities"), messages(context),
    el("h4", null, "What the LLM saw"), prompts(context),
  ].flat(Infinity).filter((part) => part !== null);
}

/** Is the gold of this task what people were asked? MoralChoice's is by rule. */
const asked = (task) => task.name.endsWith("opinionqa");

function options({ x, task, text, letters }) {
  if (!x.options.length) return null;
  const people = x.gold !== null;
  const whose = asked(task) ? `share of people${x.respondents ? ` (${count(x.respondents)} respondents)` : ""}` : "the distribution that is right";
  return [
    el("ul", { class: "options", "aria-label": "Options" }, x.options.map((ref, n) => el("li", null,
      el("span", { class: "letter" }, letters[n]), el("span", { dir: "auto" }, stored(text(ref))),
      people ? el("span", { class: "soft" }, figure(x.gold[n])) : x.target === n ? tag("gold", "good") : null))),
    people ? el("p", { class: "soft" }, `Numbers: ${whose}.`) : null,
  ].filter(Boolean);
}

const figure = (value) => (value === null || value === undefined ? "–" : value.toFixed(3));
const runName = (r) => named(index.runs[r].label);

/** Gold values with their explanations, and which run's response covers which. */
function values({ x, text }) {
  const runs = x.answers.filter((a) => a.coverage);
  const head = el("tr", null, el("th", { scope: "col" }, "Value"), el("th", { scope: "col" }, "Explanation"),
    runs.map((a) => el("th", { scope: "col" }, runName(a.run))));
  const body = x.explanations.map((ref, v) => el("tr", null,
    el("th", { scope: "row" }, `${v + 1}. `, x.values[v] === undefined ? "" : bdi(text(x.values[v]))), el("td", { dir: "auto" }, stored(text(ref))),
    runs.map((a) => el("td", null, a.coverage.map((c) => el("div", { class: "verdict", title: c.scorer },
      c.covered[v] ? el("span", { class: "yes" }, "✓ covered") : el("span", { class: "no" }, "not covered"),
      el("div", { class: "soft" }, figure(c.entailment[v]))))))));
  const scorers = [...new Map(runs.flatMap((a) => a.coverage.map((c) => [c.scorer, c.accuracy])))];
  const note = scorers.map(([name, accuracy]) => `${name} (right on ${(accuracy * 100).toFixed(0)} % of its check pairs)`).join("; ");
  return el("section", { "aria-label": "Values of the situation" }, el("h4", null, "Values of the situation"),
    el("div", { class: "box", tabindex: "0", role: "region", "aria-label": "Values and which run covers them" }, el("table", { class: "values", "aria-label": "Values and which run covers them" }, el("thead", null, head), el("tbody", null, body))),
    note ? el("p", { class: "soft" }, "Verdicts and highest entailment probability by ", nodes(note), ".") : null);
}

function answers(context) {
  const parts = [];
  if (context.x.answers.some((a) => a.distribution)) parts.push(distributions(context));
  const rest = context.x.answers.filter((a) => !a.distribution || a.selections.length || a.kinds.length || a.readings);
  const known = context.x.answers.filter((a) => a.entailed).map((a) => a.entailed);
  parts.push(el("div", { class: known.length ? "stack" : "cards" }, rest.map((a) => answer(context, a))));
  if (known.length) {
    const scorers = [...new Set(known.map((e) => e.scorer))].join(", ");
    parts.push(el("p", { class: "soft" }, nodes(`Covers: which explanation the sentence entails, or is entailed by; from: whose message entails the sentence. By ${scorers}.`)));
  }
  return parts;
}

function bars(values, top) {
  return values.map((value, n) => {
    const bar = el("i");
    bar.style.width = `${Math.round((value ?? 0) * 1000) / 10}%`;
    return el("td", { class: n === top ? "top-answer" : null }, figure(value), el("span", { class: "bar", "aria-hidden": "true" }, bar));
  });
}

/** People, every run, and every community's own reading, side by side. */
function distributions({ x, task, text, letters }) {
  const best = (values) => values.indexOf(Math.max(...values));
  const rows = [];
  if (x.gold) rows.push(el("tr", { class: "people" }, el("th", { scope: "row" }, asked(task) ? "People" : "Gold"), bars(x.gold, best(x.gold)), el("td"), el("td")));
  else if (x.target !== null) rows.push(el("tr", { class: "people" }, el("th", { scope: "row" }, "Gold"), bars(letters.map((_, n) => Number(n === x.target)), x.target), el("td"), el("td")));
  for (const a of x.answers) {
    if (!a.distribution) continue;
    rows.push(el("tr", null, el("th", { scope: "row" }, runName(a.run)), bars(a.distribution, a.top), el("td", { class: "number" }, a.mass === 0 && a.top !== null ? "< 0.001" : figure(a.mass)), el("td", { class: "number" }, figure(a.score))));
    for (const [c, values] of a.shares ?? []) {
      rows.push(el("tr", { class: "own" }, el("th", { scope: "row" }, el("span", { class: "sr" }, "given the message of "), named(index.communities[c])),
        values ? bars(values, best(values)) : letters.map(() => el("td", { class: "none" }, "not read")), el("td"), el("td")));
    }
  }
  const head = el("tr", null, el("th", { scope: "col" }, el("span", { class: "sr" }, "Who")),
    letters.map((letter, n) => el("th", { scope: "col" }, letter, x.options[n] === undefined ? null : el("span", { class: "clamp", dir: "auto" }, stored(text(x.options[n]))))),
    el("th", { scope: "col", class: "number" }, "option mass"), el("th", { scope: "col", class: "number" }, task.score || "score"));
  const better = task.higher === null ? "" : task.higher ? ", higher is better" : ", lower is better";
  return el("div", null,
    el("div", { class: "box", tabindex: "0", role: "region", "aria-label": "Distributions over the options" }, el("table", { class: "dist" },
      el("caption", { class: "sr" }, "Distributions over the options"), el("thead", null, head), el("tbody", null, rows))),
    el("p", { class: "soft" }, `Bold: the likeliest option. Option mass: probability of all options before they were made to sum to 1. ${task.score ? `${task.score}${better}.` : ""}`,
      x.answers.some((a) => a.shares?.length) ? " Indented: what the LLM answers given that community’s message alone." : ""));
}

function answer(context, a) {
  const { x, text } = context;
  const name = index.runs[a.run].label;
  return el("section", { class: "card", "aria-label": `Answer of ${name}` },
    el("header", null, el("h5", null, runName(a.run)), el("span", { class: "tags" }, kindTags(a.kinds),
      a.entailed?.unread ? tag(`${a.entailed.unread} pairs without a verdict`, "odd") : null,
      a.entailed && !a.entailed.messages ? tag("writes without messages") : null,
      a.distribution || a.score === null ? null : tag(`${context.task.score} ${figure(a.score)}`))),
    selections(context, a),
    a.hidden ? el("p", { class: "soft" }, `The server hid ${figure(a.hidden)} of the probability.`) : null,
    a.readings ? readings(context, a) : null,
    a.response === undefined ? null : a.entailed ? sentences(context, a) : block(text(a.response)),
    a.response !== undefined && a.coverage && !a.entailed ? el("p", { class: "soft" }, "Which sentence covers what, and which message entails it: not computed.") : null);
}

function selections({ text }, a) {
  if (!a.selections.length) return null;
  return el("ul", { class: "options" }, a.selections.map(([c, raw, fallback]) => el("li", null, el("span", null,
    fallback ? "No community could be read; by lot: " : "The LLM selected ", el("strong", null, nodes(index.communities[c] ?? "?")), ". Its words: “", bdi(text(raw)), "”"))));
}

function readings({ letters }, a) {
  return el("details", null, el("summary", null, `${a.readings.length} readings`), el("div", { class: "box", tabindex: "0", role: "region", "aria-label": "Readings" },
    el("table", { "aria-label": "Readings" }, el("thead", null, el("tr", null, ["order shown", "wording", "message sample", ...letters, "option mass"].map((t) => el("th", { scope: "col" }, t)))),
      el("tbody", null, a.readings.map((r) => el("tr", null, el("th", { scope: "row" }, r.order.map((o) => letters[o]).join(" ")), el("td", null, String(r.template + 1)),
        el("td", null, String(r.sample + 1)), r.distribution.map((v) => el("td", null, figure(v))), el("td", null, figure(r.mass))))))));
}

/** A response sentence by sentence: the values each covers, and the messages that entail it. */
function sentences({ x, text }, a) {
  const e = a.entailed;
  if (!e.sentences.length) return block(text(a.response));
  return el("ol", { class: "sentences" }, e.sentences.map((ref, s) => el("li", null, el("span", { class: "text", dir: "auto" }, stored(text(ref))), " ",
    el("span", { class: "tags" },
      e.values[s].map((v) => tag(`covers ${v + 1}${x.values[v] === undefined ? "" : ` ${begin(text(x.values[v]))}`}`, "good")),
      e.by[s].map((c) => tag(`from ${index.communities[c]}`)),
      e.messages && !e.by[s].length ? tag("no message entails it") : null))));
}

function messages({ x, text }) {
  if (!x.messages.length) return el("p", { class: "soft" }, "No run of this example has messages.");
  const have = x.answers.filter((a) => x.messages.some((m) => m.runs.includes(a.run))).length;
  return el("div", { class: "cards" }, x.messages.map((m) => {
    const chosen = x.answers.filter((a) => m.runs.includes(a.run) && a.selections.some(([c]) => c === m.community));
    const reflected = x.answers.filter((a) => m.runs.includes(a.run) && a.entailed?.by.some((s) => s.includes(m.community)));
    return el("section", { class: "card", "aria-label": `Message of ${index.communities[m.community]}` },
      el("header", null, el("h5", null, named(index.communities[m.community])), el("span", { class: "tags" },
        m.way >= 0 ? tag(`way ${m.way + 1} of asking`) : null, kindTags(m.kinds),
        chosen.map((a) => tag(`selected in ${index.runs[a.run].label}`, "good")), reflected.map((a) => tag(`in the response of ${index.runs[a.run].label}`, "good")),
        m.runs.length < have ? m.runs.map((r) => tag(index.runs[r].label)) : null)),
      block(text(m.text), { tabindex: "0" }));
  }));
}

function prompts({ x, text }) {
  const spoken = new Map(x.messages.flatMap((m) => [m.text, m.shown ?? m.text].map((ref) => [ref, index.communities[m.community]])));
  return x.answers.map((a) => el("details", null,
    el("summary", null, runName(a.run), ` (${a.sent.length} ${a.sent.length === 1 ? "prompt" : "prompts"})`),
    a.sent.length ? a.sent.map((s, n) => el("div", null,
      el("p", null, `${n + 1}. ${s.round} `, el("span", { class: "tags" },
        s.cut ? tag(`${s.cut} tokens of passages cut${s.cuts ? ` (${s.cuts.map(([c, n]) => `${index.communities[c] ?? "?"} ${n}`).join(", ")})` : ""}`, "odd") : null,
        s.broken ? tag(`${s.broken} special tokens broken`, "odd") : null, s.overlong ? tag("cut by the model", "odd") : null, s.refused ? tag(`refused: ${s.refused}`, "odd") : null,
        s.uniform ? tag("no option read", "odd") : null, s.unread ? tag(`${s.unread} replies not readable`, "odd") : null)),
      el("pre", { dir: "auto", tabindex: "0" }, s.prompt.map((ref) => (spoken.has(ref)
        ? el("span", { class: "piece", title: `message of ${spoken.get(ref)}` }, stored(text(ref))) : stored(text(ref))))),
      s.replies ? el("p", null, "Replies: ", s.replies.map((r) => [el("q", null, bdi(text(r))), " "])) : null)) : el("p", { class: "soft" }, "No transcript was kept.")));
}
