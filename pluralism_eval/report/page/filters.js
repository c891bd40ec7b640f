
// Which examples match, and what each choice of a filter would leave.

const LEVELS = ["0.1", "0.25", "0.5"];

const begin = (text) => (typeof text === "string" ? text : text[0]);
const groupName = (g) => `${index.tasks[index.groups[g][0]].name}:${index.groups[g][1]}`;

const FILTERS = {
  task: (i) => [index.tasks[columns.task[i]].name],
  group: (i) => (columns.group[i] < 0 ? [] : [index.groupNames[columns.group[i]]]),
  community: (i) => index.sets[columns[state.role][i]].map((c) => index.communities[c]),
  differ: (i) => {
    const m = columns.measure[i];
    const found = columns.differ[i] ? ["top"] : [];
    if (m !== null) for (const level of LEVELS) if (m >= Number(level)) found.push(level);
    return found;
  },
  kind: (i) => {
    const kinds = index.sets[columns.kinds[i]];
    return kinds.length ? ["any", ...kinds.map((k) => index.kinds[k])] : ["none"];
  },
};

function wordsMatch() {
  const words = state.words.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return () => true;
  index.lower ??= { queries: index.queries.map((q) => begin(q).toLowerCase()), attributes: index.attributes.map((a) => begin(a).toLowerCase()) };
  const { queries, attributes } = index.lower;
  return (i) => words.every((w) => queries[columns.query[i]].includes(w) || attributes[columns.attribute[i]].includes(w));
}

/** All examples that pass every filter, and for each filter how many each of its values would leave. */
function filtered() {
  const facets = Object.fromEntries(Object.keys(FILTERS).map((name) => [name, new Map()]));
  const asked = Object.keys(FILTERS);
  const found = [], fits = wordsMatch();
  for (let i = 0; i < columns.task.length; i++) {
    if (!fits(i)) continue;
    const values = asked.map((name) => FILTERS[name](i));
    const failed = asked.filter((name, f) => state[name] && !values[f].includes(state[name]));
    if (failed.length > 1) continue;
    if (!failed.length) found.push(i);
    asked.forEach((name, f) => {
      if (failed.length && failed[0] !== name) return;
      const counts = facets[name];
      for (const value of values[f]) counts.set(value, (counts.get(value) ?? 0) + 1);
      counts.set("", (counts.get("") ?? 0) + 1);
    });
  }
  if (state.sort) {
    const sign = state.sort === "most" ? -1 : 1;
    const key = (i) => columns.measure[i] ?? (sign < 0 ? -1 : 2);
    found.sort((a, b) => sign * (key(a) - key(b)) || a - b);
  }
  return { found, facets };
}

function choices() {
  const all = [["", "all"]];
  const groups = index.groupNames.map((name, g) => [name, index.groups[g][1] || "–", index.tasks[index.groups[g][0]].title]);
  groups.sort((a, b) => a[2].localeCompare(b[2]) || a[1].localeCompare(b[1]));
  return {
    task: [...all, ...index.tasks.map((t) => [t.name, t.title])],
    group: [...all, ...groups],
    community: [...all, ...index.communities.map((c) => [c, c])],
    differ: [...all, ["top", "differ in the likeliest option"], ...LEVELS.map((l) => [l, `disagree by ${l} or more`])],
    kind: [...all, ["none", "nothing irregular"], ["any", "anything irregular"], ...index.kinds.map((k) => [k, k])],
  };
}

function fillSelects() {
  for (const [name, values] of Object.entries(choices())) {
    const groups = new Map();
    for (const [value, label, group] of values) {
      const option = el("option", { value });
      option.dataset.label = label.replace(INVISIBLE, visible);
      if (!group) $(name).append(option);
      else {
        if (!groups.has(group)) {
          groups.set(group, el("optgroup", { label: group }));
          $(name).append(groups.get(group));
        }
        groups.get(group).append(option);
      }
    }
  }
}

function showCounts(facets) {
  for (const name of Object.keys(FILTERS)) {
    for (const option of $(name).querySelectorAll("option")) {
      const n = facets[name].get(option.value) ?? 0;
      option.textContent = `${option.dataset.label} (${count(n)})`;
      option.disabled = n === 0 && option.value !== "" && option.value !== state[name];
      if (option.parentNode.tagName === "OPTGROUP") option.hidden = n === 0 && option.value !== state[name];
    }
  }
}
