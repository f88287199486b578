// The gallery: which map is shown, which clips, and in which order.
(function () {
  "use strict";
  const data = window.REPORT[document.querySelector("main").dataset.group];
  const field = (id) => document.getElementById(id);
  const cards = [...document.querySelectorAll("#cards > li")];
  const form = field("filters");

  function option(select, value, text) {
    select.append(new Option(text, value));
  }

  // Layers by number, and scores by place, of which the reader compares two.
  const layers = data.layers;
  const choices = { pair: layers.map((name, k) => [k, name]), metrics: data.scores.map((score, k) => [k, score.title]) };
  [...new Set(data.clips.map((clip) => clip.label).filter(Boolean))].sort().forEach((name) => option(field("class"), name, name));
  option(field("sort"), "name", "name");
  if (layers.length > 1) option(field("sort"), "methods", "disagreement of all methods");
  if (layers.length > 1) option(field("sort"), "pair", "disagreement of two methods");
  if (data.scores.length > 1) option(field("sort"), "metrics", "disagreement of two metrics");
  data.scores.forEach((score, k) => option(field("sort"), "score-" + k, score.title + (score.better === "higher" ? ", lowest first" : ", highest first")));

  function fillPair(kind) {
    const asked = [field("first"), field("second")];
    if (form.dataset.kind === kind) return;
    form.dataset.kind = kind;
    asked.forEach((select, place) => {
      select.replaceChildren();
      for (const [value, text] of choices[kind] || []) option(select, value, text);
      select.value = place;
    });
  }

  // The place of each number among all: 0 for the worst, 1 for the best; ties share the mean.
  function places(numbers, better) {
    const known = numbers.filter((value) => value !== null);
    return numbers.map((value) => {
      if (value === null || known.length < 2) return null;
      const below = known.filter((other) => other < value).length;
      const ties = known.filter((other) => other === value).length - 1;
      const share = (below + ties / 2) / (known.length - 1);
      return better === "higher" ? share : 1 - share;
    });
  }

  function mean(numbers) {
    const known = numbers.filter((value) => value !== null);
    return known.length ? known.reduce((a, b) => a + b) / known.length : null;
  }

  // By which number the clips are sorted, largest first, and how it is named under a picture.
  function criterion() {
    const kind = field("sort").value;
    const layer = layers[field("layer").value];
    const first = field("first").value, second = field("second").value;
    if (kind === "methods") {
      const pairs = (rho) => rho.flatMap((row, i) => row.filter((_, j) => j > i));
      return { name: "1 − mean Spearman", values: data.clips.map((clip) => { const m = mean(pairs(clip.rho)); return m === null ? null : 1 - m; }) };
    }
    if (kind === "pair") {
      return { name: "1 − Spearman", values: data.clips.map((clip) => { const rho = clip.rho[first][second]; return rho === null ? null : 1 - rho; }) };
    }
    if (kind === "metrics") {
      const [a, b] = [data.scores[first], data.scores[second]].map((score) => places(score.rows[layer] || data.clips.map(() => null), score.better));
      return { name: "difference of ranks", values: a.map((value, k) => (value === null || b[k] === null ? null : Math.abs(value - b[k]))) };
    }
    if (kind.startsWith("score-")) {
      const score = data.scores[kind.slice(6)];
      const values = score.rows[layer] || data.clips.map(() => null);
      return { name: score.title, values, worst: score.better === "higher" ? -1 : 1 };
    }
    return null;
  }

  function show() {
    const kind = field("sort").value;
    const compares = kind === "pair" || kind === "metrics";
    field("pair").hidden = !compares;
    if (compares) fillPair(kind);
    const found = criterion();
    field("least-label").hidden = !found;
    const least = found && field("least").value !== "" ? Number(field("least").value) : null;
    const layer = Number(field("layer").value);
    let count = 0;
    cards.forEach((card) => {
      const clip = data.clips[card.dataset.clip];
      const value = found ? found.values[card.dataset.clip] : null;
      const fits = (!field("class").value || clip.label === field("class").value)
        && (!field("right").value || String(clip.right) === field("right").value)
        && (least === null || (value !== null && value >= least));
      card.hidden = !fits;
      count += fits;
      const why = card.querySelector(".why");
      why.hidden = !found;
      if (found) why.textContent = found.name + " " + (value === null ? "not known" : value.toFixed(3));
      picture(card, layer);
    });
    const order = [...cards];
    if (kind === "name") order.sort((a, b) => data.clips[a.dataset.clip].id.localeCompare(data.clips[b.dataset.clip].id));
    if (found) {
      const sign = found.worst || 1;
      const number = (card) => found.values[card.dataset.clip];
      order.sort((a, b) => (number(a) === null) - (number(b) === null) || sign * (number(b) - number(a)));
    }
    field("cards").append(...order);
    field("count").textContent = count + " of " + cards.length + " clips";
    field("none").hidden = count > 0;
  }

  function picture(card, layer) {
    const image = card.querySelector("img");
    const strip = image.dataset.strips.split(";").filter(Boolean).map((one) => one.split(",").map(Number)).find((one) => one[0] === layer);
    card.classList.toggle("bare", !strip);
    image.style.visibility = strip ? "" : "hidden";
    if (!strip) return;
    const source = image.getAttribute("src").replace(/\.\d+\.webp$/, "." + layer + ".webp");
    if (source !== image.getAttribute("src")) image.src = source;
    image.alt = data.clips[card.dataset.clip].id + ": map of " + layers[layer];
    image.parentElement.style.setProperty("--n", strip[1]);
    image.parentElement.style.setProperty("--p", strip[2]);
  }

  // The state is in the address, so that a filtered gallery can be linked and survives the way back.
  const KEPT = ["layer", "class", "right", "sort", "first", "second", "least"];
  function write() {
    const state = new URLSearchParams();
    for (const id of KEPT) {
      const shown = !["first", "second"].includes(id) || !field("pair").hidden;
      if (shown && field(id).value && !(id === "layer" && field(id).value === "0")) state.set(id, field(id).value);
    }
    history.replaceState(null, "", "#" + state);
  }
  function read() {
    const state = new URLSearchParams(location.hash.slice(1));
    const pair = /^pair-(\d+)-(\d+)$/.exec(state.get("sort") || "");
    if (pair) { state.set("sort", "pair"); state.set("first", pair[1]); state.set("second", pair[2]); }
    field("sort").value = state.get("sort") || "";
    fillPair(field("sort").value);
    for (const id of KEPT) if (state.has(id)) field(id).value = state.get(id);
    show();
  }

  form.hidden = false;
  form.addEventListener("input", () => { show(); write(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => { show(); write(); }));
  addEventListener("hashchange", read);
  read();
})();
