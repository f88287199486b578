// On the overview: curves that tell their values under the pointer, and a dot per clip in the distributions.
(function () {
  "use strict";

  function curves(figure) {
    const { places, names, rows } = JSON.parse(figure.dataset.panel);
    const area = figure.querySelector(".area");
    const head = figure.querySelector("th.at");
    const cells = [...figure.querySelectorAll("td.value")];
    const cursor = document.createElement("div");
    cursor.className = "cursor";
    cursor.hidden = true;
    area.append(cursor);
    area.tabIndex = 0;
    area.setAttribute("role", "slider");
    area.setAttribute("aria-label", figure.querySelector("figcaption").textContent);
    area.setAttribute("aria-valuemin", 0);
    area.setAttribute("aria-valuemax", places.length - 1);
    let at = 0;

    function show(k) {
      at = Math.max(0, Math.min(places.length - 1, k));
      cursor.hidden = false;
      cursor.style.left = places[at] + "%";
      head.textContent = "at " + names[at];
      cells.forEach((cell, row) => { cell.textContent = rows[row][at].toFixed(3).replace("-", "−"); });
      area.setAttribute("aria-valuenow", at);
      area.setAttribute("aria-valuetext", "at " + names[at]);
    }

    function rest() {
      cursor.hidden = true;
      head.textContent = head.dataset.rest;
      cells.forEach((cell) => { cell.textContent = cell.dataset.rest; });
    }

    // A row of the legend under the pointer brings its curve to the front.
    figure.querySelectorAll(".legend tbody tr").forEach((row, k) => {
      const marks = [...figure.querySelectorAll(`.area [data-row="${k}"]`)];
      row.addEventListener("pointerenter", () => { figure.classList.add("chosen"); marks.forEach((mark) => mark.classList.add("chosen")); });
      row.addEventListener("pointerleave", () => { figure.classList.remove("chosen"); marks.forEach((mark) => mark.classList.remove("chosen")); });
    });

    area.addEventListener("pointermove", (event) => {
      const box = area.getBoundingClientRect();
      const x = 100 * (event.clientX - box.left) / box.width;
      let best = 0;
      places.forEach((place, k) => { if (Math.abs(place - x) < Math.abs(places[best] - x)) best = k; });
      show(best);
    });
    area.addEventListener("pointerleave", rest);
    area.addEventListener("blur", rest);
    area.addEventListener("focus", () => { if (area.matches(":focus-visible")) show(at); });
    area.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, Home: -places.length, End: places.length }[event.key];
      if (!step) return;
      event.preventDefault();
      show(at + step);
    });
  }

  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;

  function dots(figure, data, score) {
    const values = Object.values(score.rows).flat().filter((value) => value !== null);
    if (!values.length) return;
    const ends = JSON.parse(figure.dataset.ends);
    for (const row of figure.querySelectorAll(".row[data-row]")) {
      const numbers = score.rows[row.dataset.row] || [];
      const group = row.querySelector(".dots");
      numbers.forEach((value, clip) => {
        if (value === null) return;
        const dot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
        dot.setAttribute("cx", 100 * (value - ends[0]) / ((ends[1] - ends[0]) || 1) + "%");
        dot.setAttribute("cy", 30 + 40 * ((clip * 0.618) % 1) + "%"); // spread, and the same for each visit
        dot.setAttribute("r", 3.5);
        const { id, page } = data.clips[clip];
        dot.addEventListener("pointerenter", (event) => {
          tip.textContent = id + ": " + value;
          tip.hidden = false;
          tip.style.left = Math.max(8, Math.min(event.clientX + 12, innerWidth - 270)) + "px";
          tip.style.top = Math.min(event.clientY + 14, innerHeight - 60) + "px";
        });
        dot.addEventListener("pointerleave", () => { tip.hidden = true; });
        dot.addEventListener("click", () => { location.href = page; });
        group.append(dot);
      });
    }
  }

  document.body.append(tip);
  document.querySelectorAll("[data-panel]").forEach(curves);
  for (const section of document.querySelectorAll("section.group")) {
    const data = (window.REPORT || {})[section.dataset.group];
    if (!data) continue;
    for (const figure of section.querySelectorAll(".distribution")) dots(figure, data, data.scores[figure.dataset.score]);
  }
})();
