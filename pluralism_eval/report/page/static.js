
// Sortable tables, light and dark.

function sortable(table) {
  const heads = [...table.querySelectorAll("thead th.number")];
  const before = [...table.tBodies].map((body) => [...body.rows]);
  heads.forEach((head, column) => {
    const title = head.querySelector(".title");
    const button = el("button", { type: "button", class: "sort", title: `Sort by ${head.dataset.title}` });
    button.append(...title.childNodes);
    title.replaceWith(button);
    button.addEventListener("click", () => {
      const next = { none: "descending", descending: "ascending", ascending: "none" }[head.getAttribute("aria-sort") ?? "none"];
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (next !== "none") head.setAttribute("aria-sort", next);
      [...table.tBodies].forEach((body, b) => body.replaceChildren(...ordered(before[b], column, next)));
    });
  });
}

/** Rows with the systems among them sorted; all others keep their places. */
function ordered(rows, column, direction) {
  if (direction === "none") return rows;
  const system = (row) => row.classList.contains("row-system");
  const sign = direction === "descending" ? -1 : 1;
  const value = (row) => Number(row.cells[column + 1].dataset.value ?? sign * Infinity);
  const sorted = rows.filter(system).sort((a, b) => (value(a) === value(b) ? 0 : sign * (value(a) - value(b))));
  return rows.map((row) => (system(row) ? sorted.shift() : row));
}

function setUpTheme() {
  const root = document.documentElement, button = $("theme");
  const dark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const name = () => { button.textContent = dark() ? "Light" : "Dark"; button.setAttribute("aria-label", `${button.textContent} colours`); };
  button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; name(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
  button.hidden = false;
  name();
}
