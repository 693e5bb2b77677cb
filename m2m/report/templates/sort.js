// Sortable tables: a button in every column head; numbers are sorted by value, cells without a number come last.
(() => {
  const number = (text) => Number.parseFloat(text.trim().replace("−", "-"));
  const cell = (row, i) => row.cells[i].textContent.trim();

  function compare(a, b) {
    const [x, y] = [number(a), number(b)];
    if (Number.isNaN(x) !== Number.isNaN(y)) return null;
    return Number.isNaN(x) ? a.localeCompare(b) : x - y;
  }

  function sort(table, heads, i) {
    const direction = heads[i].ariaSort === "ascending" ? -1 : 1;
    const body = table.tBodies[0];
    const rows = [...body.rows].sort((one, other) => {
      const [a, b] = [cell(one, i), cell(other, i)];
      return compare(a, b) === null ? (Number.isNaN(number(a)) ? 1 : -1) : direction * compare(a, b);
    });
    body.append(...rows);
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[i].ariaSort = direction > 0 ? "ascending" : "descending";
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(table, heads, i));
      head.append(button);
    });
  }
})();
