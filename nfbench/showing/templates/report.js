"use strict";
(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const toggle = document.querySelector(".theme");
  const status = document.getElementById("status");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const name = () => { toggle.textContent = isDark() ? "Light page" : "Dark page"; };
  toggle.hidden = false;
  toggle.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; name(); });
  dark.addEventListener("change", name);
  name();

  // numbers by their raw value, then words, then what is absent, whichever way it goes; equal ones keep their order
  const value = (row, at) => {
    const cell = row.cells[at];
    const text = cell.textContent.trim();
    if (cell.dataset.v !== undefined) return [0, Number(cell.dataset.v)];
    return text === "" || text === "–" ? [2, ""] : [1, text];
  };
  const compare = (a, b, way) => {
    if (a[0] !== b[0]) return a[0] === 2 || b[0] === 2 ? a[0] - b[0] : way * (a[0] - b[0]);
    return way * (a[0] === 0 ? a[1] - b[1] : String(a[1]).localeCompare(String(b[1]), undefined, { numeric: true }));
  };
  const sort = (head) => {
    const table = head.closest("table");
    const way = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const keyed = [...table.tBodies[0].rows].map((row) => [value(row, head.cellIndex), row]);
    keyed.sort((a, b) => compare(a[0], b[0], way));
    table.tBodies[0].append(...keyed.map((pair) => pair[1]));
    for (const other of head.parentNode.cells) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", way === 1 ? "ascending" : "descending");
    const words = way === 1 ? "ascending" : "descending";
    status.textContent = `${table.caption.textContent.trim()}: sorted by ${head.textContent.trim()}, ${words}.`;
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("thead button");
    if (button) sort(button.closest("th"));
  });

  // what goes on beyond the right edge fades out there
  const wide = [...document.querySelectorAll(".scroll, .drawing")];
  const more = (box) => box.classList.toggle("more", box.scrollLeft + box.clientWidth < box.scrollWidth - 2);
  for (const box of wide) box.addEventListener("scroll", () => more(box), { passive: true });
  addEventListener("resize", () => wide.forEach(more));
  wide.forEach(more);

  // paper has no way to open what is folded
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const one of folded) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of folded) one.open = false; });
})();
