"use strict";
for (const tool of document.querySelectorAll(".tool")) tool.hidden = false;
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    let result = "Copied";
    try { await navigator.clipboard.writeText(button.dataset.copy); } catch { result = "Not allowed here"; }
    button.textContent = result;
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}
const filter = document.getElementById("filter");
if (filter) filter.addEventListener("input", () => {
  const wanted = filter.value.trim().toLowerCase();
  const causes = [...document.querySelectorAll(".cause")];
  for (const cause of causes) cause.hidden = !cause.textContent.toLowerCase().includes(wanted);
  const shown = causes.filter((cause) => !cause.hidden).length;
  document.getElementById("filtered").textContent = wanted ? `${shown} of ${causes.length} causes shown` : "";
});
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, at) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => row.cells[at].dataset.key ?? row.cells[at].textContent.trim();
      const order = (a, b) => key(a).localeCompare(key(b), "en", { numeric: true });
      const rows = [...table.tBodies[0].rows].sort((a, b) => (up ? order(a, b) : order(b, a)));
      table.tBodies[0].append(...rows);
    });
  });
}
addEventListener("beforeprint", () => {
  for (const one of document.querySelectorAll("details")) one.open = true;
});
