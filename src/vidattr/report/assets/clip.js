// The player of one clip: frames and maps on a canvas, the curve over time, keys and choices.
(async function () {
  "use strict";
  const clip = window.CLIP, { bytes, unpack, ranks, diverging, paint } = window.Player;
  const field = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";
  const count = clip.numbers.length;
  const at = clip.seconds || clip.numbers; // where each frame is on the axis
  const colours = bytes(clip.colours);

  const sprite = new Image();
  sprite.src = clip.frames.source;
  const maps = await Promise.all(clip.layers.map(async (layer) => {
    const values = await unpack(layer, clip.levels);
    return { ...layer, values, ranked: null };
  }));
  await sprite.decode();

  const state = { frame: 0, playing: null };
  const heat = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  heat.canvas.width = clip.maps.width;
  heat.canvas.height = clip.maps.height;
  const views = ["a", "b"].map((name) => {
    const canvas = field("canvas-" + name);
    canvas.width = Math.min(960, clip.frames.width * 2);
    canvas.height = Math.round(canvas.width * clip.frames.height / clip.frames.width);
    return { canvas, context: canvas.getContext("2d", { willReadFrequently: true }), caption: field("caption-" + name), select: field("map-" + name) };
  });
  maps.forEach((map, k) => views.forEach(({ select }) => select.append(new Option(map.title + " for " + map.target, k))));
  views[1].select.value = Math.min(1, maps.length - 1);
  field("side").disabled = maps.length < 2;
  field("opacity").value = clip.opacity;
  field("signed").checked = clip.signed && maps.some((map) => map.signed);
  field("grey").checked = clip.grey;
  field("scrub").max = count - 1;
  field("signed-label").hidden = !maps.some((map) => map.signed);
  field("boxes").parentElement.hidden = !clip.boxes.some((frame) => frame.length);

  const shown = () => (field("side").checked ? views : views.slice(0, 1));
  const mapOf = (view) => maps[view.select.value];

  // The scale of each map that is shown: one for all, of values or of ranks, or each its own.
  function scales() {
    const kind = field("side").checked ? field("scale").value : "own", signed = field("signed").checked;
    const chosen = shown().map(mapOf);
    const ends = (map) => (signed && map.signed ? { low: -reach(map), high: reach(map) } : { low: map.low, high: map.high });
    if (kind === "ranks" && !signed) return chosen.map(() => ({ low: 0, high: 1, ranks: true }));
    if (kind === "own") return chosen.map(ends);
    const drawn = chosen.filter((map) => drawable(map, signed)).map(ends);
    const one = { low: Math.min(...drawn.map((end) => end.low)), high: Math.max(...drawn.map((end) => end.high)) };
    return chosen.map(() => one);
  }
  function reach(map) {
    if (!map.reach) {
      const sizes = Float32Array.from(map.values, Math.abs).sort();
      map.reach = sizes[Math.floor(0.995 * (sizes.length - 1))] || map.largest;
    }
    return map.reach;
  }

  // A map without a positive value can be drawn in red and blue.
  function drawable(map, signed) {
    return !map.flaw || (signed && map.signed && map.flaw === "no positive evidence");
  }

  function draw() {
    const each = scales();
    const look = { colours, opacity: Number(field("opacity").value), gamma: clip.gamma, signed: field("signed").checked };
    shown().forEach((view, k) => {
      const map = mapOf(view), { context, canvas } = view, { frames } = clip;
      const column = state.frame % frames.columns, row = Math.floor(state.frame / frames.columns);
      context.filter = field("grey").checked ? "grayscale(1) brightness(.85)" : "none";
      context.drawImage(sprite, column * frames.width, row * frames.height, frames.width, frames.height, 0, 0, canvas.width, canvas.height);
      context.filter = "none";
      if (drawable(map, look.signed)) {
        if (each[k].ranks && !map.ranked) map.ranked = ranks(map.values);
        paint(heat, each[k].ranks ? map.ranked : map.values, state.frame * clip.maps.width * clip.maps.height, each[k], look);
        context.imageSmoothingQuality = "high";
        context.drawImage(heat.canvas, 0, 0, canvas.width, canvas.height);
      }
      if (field("boxes").checked) outline(context, clip.boxes[state.frame]);
      canvas.setAttribute("aria-label", map.title + " for " + map.target + " over " + clip.names[state.frame]);
      view.caption.textContent = map.title + ": " + map.target + " (p = " + map.probability.toFixed(2) + ")" + (map.flaw ? ", " + map.flaw : "");
    });
    place();
    legend(each, look);
  }

  function outline(context, boxes) {
    const { width, height } = context.canvas;
    for (const [x0, y0, x1, y1] of boxes) {
      for (const [colour, line] of [["#000", 5], ["#fff", 2]]) {
        context.strokeStyle = colour;
        context.lineWidth = line * width / 640;
        context.strokeRect(x0 * width, y0 * height, (x1 - x0) * width, (y1 - y0) * height);
      }
    }
  }

  function legend(each, look) {
    const same = each.every((scale) => scale.low === each[0].low && scale.high === each[0].high);
    const text = (value) => (Math.abs(value) < 0.005 * (each[0].high - each[0].low) ? "0" : value.toPrecision(2).replace("-", "−"));
    field("low").textContent = same ? (each[0].ranks ? "lowest" : text(each[0].low)) : "low";
    field("high").textContent = same ? (each[0].ranks ? "highest" : text(each[0].high)) : "high";
    const ramp = field("ramp").getContext("2d");
    const values = Float32Array.from({ length: 256 }, (_, k) => (look.signed ? 2 * k / 255 - 1 : k / 255));
    ramp.fillStyle = "#d8dade";
    ramp.clearRect(0, 0, 256, 1);
    paint(ramp, values, 0, look.signed ? { low: -1, high: 1 } : { low: 0, high: 1 }, look);
    ramp.globalCompositeOperation = "destination-over";
    ramp.fillRect(0, 0, 256, 1);
    ramp.globalCompositeOperation = "source-over";
    field("scale-note").textContent = note(each, same);
  }

  function note(each, same) {
    if (!field("side").checked) return "";
    if (!same) return "Each map has its own scale: " + each.map((scale, k) => mapOf(views[k]).title + " " + scale.low.toPrecision(2) + " to " + scale.high.toPrecision(2)).join("; ");
    if (each[0].ranks) return "Both maps on one scale: the share of the map's voxels that are less important.";
    const highs = views.map(mapOf).map((map) => map.high);
    const ratio = Math.max(...highs) / Math.max(Math.min(...highs), 1e-30);
    return "Both maps on one scale of their values." + (ratio > 20 ? " The values of one are " + ratio.toPrecision(2) + " times those of the other, so that little of it is seen: the scale of ranks compares them." : "");
  }

  // The axis: from the first frame to the last, half a frame's distance beyond both.
  const gap = count > 1 ? (at[count - 1] - at[0]) / (count - 1) : 1;
  const from = at[0] - gap / 2, to = at[count - 1] + gap / 2;
  const percent = (value) => 100 * (value - from) / (to - from);

  function element(name, attributes) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  }

  function curve() {
    const top = Math.max(...shown().flatMap((view) => mapOf(view).shares)) || 1;
    const svg = field("time-svg");
    svg.replaceChildren();
    for (const y of [0, 50, 100]) svg.append(element("line", { class: "grid", x1: 0, x2: 100, y1: y, y2: y }));
    field("time-y").replaceChildren(...[0, 0.5, 1].map((share) => label((100 * share * top).toFixed(top < 0.1 ? 1 : 0) + " %", "bottom", 100 * share)));
    shown().forEach((view, k) => {
      const map = mapOf(view);
      const points = map.shares.map((share, t) => percent(at[t]) + "," + (100 - 100 * share / top));
      const colour = "c" + (map.number % 9);
      svg.append(element("polygon", { class: "bar " + colour, points: [percent(at[0]) + ",100", ...points, percent(at[count - 1]) + ",100"].join(" ") }));
      svg.append(element("polyline", { class: "line " + colour + (k ? " d1" : ""), points: points.join(" ") }));
      if (count === 1) svg.append(element("line", { class: "line " + colour, x1: 0, x2: 100, y1: 100 - 100 * map.shares[0] / top, y2: 100 - 100 * map.shares[0] / top }));
    });
    const places = Math.min(count, 6);
    const ticks = clip.seconds ? nice(at[0], at[count - 1]) : [...new Set(Array.from({ length: places }, (_, k) => at[Math.round(k * (count - 1) / Math.max(places - 1, 1))]))];
    field("time-x").replaceChildren(...ticks.map((tick) => label(clip.seconds ? tick.toFixed(gap < 0.1 ? 2 : 1) : tick, "left", percent(tick))));
    field("time-label").textContent = clip.seconds ? "seconds" : "frame number (the map does not tell its times)";
    field("time-legend").replaceChildren(...shown().map((view) => {
      const map = mapOf(view), peak = map.shares.indexOf(Math.max(...map.shares));
      const line = document.createElement("span");
      line.className = "named c" + (map.number % 9);
      line.textContent = map.title + ": most in " + clip.names[peak] + " (" + (100 * map.shares[peak]).toFixed(0) + " %)";
      return line;
    }));
  }

  function label(text, side, where) {
    const made = document.createElement("span");
    made.textContent = text;
    made.style[side] = where + "%";
    return made;
  }

  function nice(low, high) {
    const rough = (high - low) / 5 || 1, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough);
    const ticks = [];
    for (let tick = Math.ceil(low / step) * step; tick <= high + step / 1e6; tick += step) ticks.push(Math.abs(tick) < step / 1e6 ? 0 : tick);
    return ticks;
  }

  function place() {
    field("scrub").value = state.frame;
    field("scrub").setAttribute("aria-valuetext", clip.names[state.frame]);
    field("where").textContent = clip.names[state.frame] + " · " + (state.frame + 1) + " of " + count;
    field("time-cursor").style.left = percent(at[state.frame]) + "%";
    const area = field("time-area");
    area.setAttribute("aria-valuemax", count - 1);
    area.setAttribute("aria-valuenow", state.frame);
    area.setAttribute("aria-valuetext", clip.names[state.frame]);
  }

  function go(frame) {
    state.frame = Math.max(0, Math.min(count - 1, frame));
    draw();
  }

  function play() {
    if (state.playing !== null) {
      clearTimeout(state.playing);
      state.playing = null;
    } else {
      if (state.frame === count - 1) go(0);
      tick();
    }
    field("play").setAttribute("aria-label", state.playing === null ? "Play" : "Pause");
    field("play").setAttribute("aria-pressed", state.playing !== null);
  }

  function tick() {
    const next = (state.frame + 1) % count;
    const distance = clip.seconds ? (next ? at[next] - at[state.frame] : gap) : 1 / clip.fps;
    state.playing = setTimeout(() => { go(next); tick(); }, Math.max(20, 1000 * distance / Number(field("speed").value)));
  }

  function choose() {
    const two = field("side").checked;
    field("stages").classList.toggle("two", two);
    field("figure-b").hidden = field("label-b").hidden = !two;
    field("label-scale").hidden = !two;
    curve();
    draw();
  }

  // Two maps of different units start on the scale of ranks, where both can be seen; the reader may change it.
  let asked = false;
  function compare() {
    if (!asked && field("side").checked) {
      const highs = views.map(mapOf).map((map) => map.high);
      field("scale").value = Math.max(...highs) > 10 * Math.min(...highs) ? "ranks" : "values";
    } else if (!asked) field("scale").value = "values";
    choose();
  }

  function toggle(id) {
    const box = field(id);
    if (box.disabled || box.parentElement.hidden) return;
    box.checked = !box.checked;
    box.dispatchEvent(new Event("change", { bubbles: true }));
  }

  field("scrub").addEventListener("input", (event) => go(Number(event.target.value)));
  field("back").addEventListener("click", () => go(state.frame - 1));
  field("forward").addEventListener("click", () => go(state.frame + 1));
  field("play").addEventListener("click", play);
  views.forEach(({ select }) => select.addEventListener("change", compare));
  field("side").addEventListener("change", compare);
  field("scale").addEventListener("change", () => { asked = true; choose(); });
  for (const id of ["boxes", "grey", "signed"]) field(id).addEventListener("change", draw);
  field("opacity").addEventListener("input", draw);
  const seek = (event) => {
    const box = field("time-area").getBoundingClientRect();
    const value = from + (to - from) * (event.clientX - box.left) / box.width;
    let best = 0;
    at.forEach((one, k) => { if (Math.abs(one - value) < Math.abs(at[best] - value)) best = k; });
    go(best);
  };
  field("time-area").addEventListener("pointerdown", seek);
  field("time-area").addEventListener("pointermove", (event) => { if (event.buttons & 1) seek(event); });
  field("save").addEventListener("click", () => {
    const [first] = shown();
    const whole = document.createElement("canvas");
    whole.width = first.canvas.width * shown().length;
    whole.height = first.canvas.height;
    shown().forEach((view, k) => whole.getContext("2d").drawImage(view.canvas, k * first.canvas.width, 0));
    const link = document.createElement("a");
    link.download = clip.clip + "-" + clip.numbers[state.frame] + ".png";
    link.href = whole.toDataURL("image/png");
    link.click();
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select, input[type=number], input[type=range]")) return;
    if (event.key === " " && event.target.closest("button, summary, a, input")) return;
    const keys = {
      ArrowLeft: () => go(state.frame - 1), ArrowRight: () => go(state.frame + 1), Home: () => go(0), End: () => go(count - 1),
      " ": play, b: () => toggle("boxes"), g: () => toggle("grey"), s: () => toggle("side"),
      m: () => { views[0].select.value = (Number(views[0].select.value) + 1) % maps.length; compare(); },
    };
    if (!keys[event.key] || (event.target.closest(".scroll") && event.key.startsWith("Arrow"))) return;
    event.preventDefault();
    keys[event.key]();
  });

  field("player").hidden = false;
  const peak = maps[0].shares.indexOf(Math.max(...maps[0].shares));
  state.frame = peak;
  choose();
  document.documentElement.dataset.ready = "true";
})();
