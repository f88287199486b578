// Maps and colours: unpacks what a page carries, and lays a map over a frame. Nothing here touches the page.
window.Player = (function () {
  "use strict";

  function bytes(base64) {
    return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  }

  // Returns the values of a map, the inverse of `packed` in voxels.py: zlib, running sums modulo 256, squared levels.
  async function unpack(layer, levels) {
    const stream = new Blob([bytes(layer.data)]).stream().pipeThrough(new DecompressionStream("deflate"));
    const steps = new Uint8Array(await new Response(stream).arrayBuffer());
    const values = new Float32Array(steps.length);
    let byte = 0;
    for (let k = 0; k < steps.length; k++) {
      byte = (byte + steps[k]) & 255;
      const level = (byte - 128) / levels;
      values[k] = Math.sign(level) * level * level * layer.largest;
    }
    return values;
  }

  // The share of the map's values that are smaller, with ties sharing the mean: one scale for maps of different units.
  function ranks(values) {
    const order = Float32Array.from(values).sort();
    const place = new Map();
    let start = 0;
    for (let k = 1; k <= order.length; k++) {
      if (k === order.length || order[k] !== order[start]) {
        place.set(order[start], (start + k - 1) / 2 / Math.max(order.length - 1, 1));
        start = k;
      }
    }
    return values.map((value) => place.get(value));
  }

  // Red for positive and blue for negative values, m in -1…1, as [r, g, b].
  function diverging(m) {
    return m >= 0 ? [214, 40 + 60 * (1 - m), 32] : [32, 80 + 60 * (1 + m), 214];
  }

  // Paints one frame of a map as colours with opacity·m^γ as their opacity, where m is 0…1 between low and high.
  function paint(context, values, offset, scale, look) {
    const { width, height } = context.canvas;
    const image = context.createImageData(width, height);
    const span = scale.high - scale.low;
    for (let k = 0; k < width * height; k++) {
      const value = values[offset + k];
      let m, colour;
      if (look.signed) {
        m = span > 0 ? Math.max(-1, Math.min(1, value / Math.max(scale.high, -scale.low))) : 0;
        colour = diverging(m);
        m = Math.abs(m);
      } else {
        m = span > 0 ? Math.max(0, Math.min(1, (value - scale.low) / span)) : 0;
        const place = 3 * Math.round(m * 255);
        colour = [look.colours[place], look.colours[place + 1], look.colours[place + 2]];
      }
      image.data.set(colour, 4 * k);
      image.data[4 * k + 3] = 255 * look.opacity * Math.pow(m, look.gamma);
    }
    context.putImageData(image, 0, 0);
  }

  return { bytes, unpack, ranks, diverging, paint };
})();
