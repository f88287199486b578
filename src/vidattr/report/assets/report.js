// On every page: the theme, tables that sort, commands that can be copied.
(function () {
  "use strict";
  const root = document.documentElement;
  try { if (localStorage.theme) root.dataset.theme = localStorage.theme; } catch (error) { /* no storage here */ }

  function dark() {
    return root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }

  function sortable(table) {
    const body = table.tBodies[0];
    const order = [...body.rows];
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      if (head.tagName !== "TH" || !head.textContent.trim()) return;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const numeric = head.classList.contains("num");
        const first = numeric && head.dataset.better !== "lower" ? "descending" : "ascending";
        const second = first === "descending" ? "ascending" : "descending";
        const now = head.getAttribute("aria-sort");
        const next = now === first ? second : now === second ? null : first;
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        if (next === null) { body.append(...order); return; }
        head.setAttribute("aria-sort", next);
        const sign = next === "ascending" ? 1 : -1;
        const key = (row) => {
          const cell = row.cells[column];
          if (!numeric) return cell.textContent.trim().toLowerCase();
          const text = "sort" in cell.dataset ? cell.dataset.sort : cell.textContent.replace("−", "-");
          return text === "" || isNaN(text) ? null : Number(text);
        };
        const keyed = order.map((row) => [key(row), row]);
        keyed.sort(([a], [b]) => {
          if (a === null || b === null) return (a === null) - (b === null); // what is not known comes last
          return sign * (numeric ? a - b : a.localeCompare(b));
        });
        body.append(...keyed.map(([, row]) => row));
      });
    });
  }

  function copyable(block) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "copy";
    button.addEventListener("click", () => {
      const text = block.querySelector("code").textContent;
      const done = () => { button.textContent = "copied"; setTimeout(() => { button.textContent = "copy"; }, 1500); };
      if (navigator.clipboard) navigator.clipboard.writeText(text).then(done, () => select(block));
      else select(block);
    });
    block.append(button);
  }

  function select(block) {
    getSelection().selectAllChildren(block.querySelector("code"));
  }

  function openTarget() {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.tagName === "DETAILS") target.open = true;
  }

  document.addEventListener("DOMContentLoaded", () => {
    const theme = document.getElementById("theme");
    theme.hidden = false;
    theme.addEventListener("click", () => {
      root.dataset.theme = dark() ? "light" : "dark";
      try { localStorage.theme = root.dataset.theme; } catch (error) { /* it lasts for this page */ }
    });
    document.querySelectorAll("table.sortable").forEach(sortable);
    document.querySelectorAll("pre.command").forEach(copyable);
    openTarget();
    addEventListener("hashchange", openTarget);
  });
})();
