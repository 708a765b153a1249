"use strict";
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const heads = [...table.tHead.rows[0].cells];
  const key = (row, column) => {
    const value = row.cells[column].dataset.value;
    return value === undefined ? row.cells[column].textContent : value === "" ? -Infinity : Number(value);
  };
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const first = column === 0 ? "ascending" : "descending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const rows = [...table.tBodies[0].rows].sort((one, two) => {
        const [a, b] = [key(one, column), key(two, column)];
        const less = typeof a === "string" ? a.localeCompare(b) : a - b;
        return order === "ascending" ? less : -less;
      });
      table.tBodies[0].append(...rows);
    });
  });
}
