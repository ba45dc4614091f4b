"use strict";
// Tables that sort, search and unfold. Without script every row is there and nothing is lost.
document.documentElement.classList.add("scripted");
const PAGE = 100;

function keyOf(row, column) {
  const cell = row.cells[column];
  if (!cell) return null; // a failed track has one wide cell
  const raw = cell.dataset.sort ?? cell.textContent.trim();
  const number = Number(raw);
  return raw === "" ? null : Number.isNaN(number) ? raw : number;
}

function compare(a, b) {
  if (a === null || b === null) return a === b ? 0 : a === null ? 1 : -1; // what is not known stays last
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), undefined, { numeric: true, sensitivity: "base" });
}

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const part = table.closest("section");
  const words = part.querySelector("[data-search]");
  const choice = part.querySelector("[data-choose]");
  const rowCount = part.querySelector("output");
  const more = part.querySelector(".more");
  let shown = PAGE;

  const refresh = () => {
    const wanted = words ? words.value.toLowerCase().split(/\s+/).filter(Boolean) : [];
    const kind = choice ? choice.value : "";
    let found = 0;
    for (const row of body.rows) {
      row.searched ??= row.textContent.toLowerCase();
      const fits = (!kind || row.dataset.kind === kind) && wanted.every((word) => row.searched.includes(word));
      found += fits;
      row.hidden = !fits || (more !== null && found > shown);
    }
    if (rowCount) rowCount.textContent = `${found.toLocaleString()} of ${rows.length.toLocaleString()} rows`;
    if (more) {
      more.hidden = found <= shown;
      more.textContent = `Show ${Math.min(PAGE, found - shown)} more`;
    }
  };

  const sort = (header, button) => {
    const falling = header.getAttribute("aria-sort") === "descending"
      || (!header.hasAttribute("aria-sort") && !header.classList.contains("num"));
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", falling ? "ascending" : "descending");
    const sign = falling ? 1 : -1;
    const keyed = rows.map((row) => [keyOf(row, header.cellIndex), row]);
    keyed.sort(([a], [b]) => (a === null || b === null ? compare(a, b) : sign * compare(a, b)));
    body.append(...keyed.map(([, row]) => row));
    refresh();
    button.focus();
  };

  for (const header of table.tHead.rows[0].cells) {
    if (header.dataset.fixed !== undefined) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => sort(header, button));
  }
  words?.addEventListener("input", () => { shown = PAGE; refresh(); });
  choice?.addEventListener("change", () => { shown = PAGE; refresh(); });
  more?.addEventListener("click", () => { shown += PAGE; refresh(); });
  refresh();
}
