// Knows how to show more spans than there are pixels: each column of pixels tells in what proportion its time was spent.
//
//     ▇ forward      a column's height is all of the time that it stands for; parts lie on top, in the order of
//     ▅ update       `parts`, then starved, blocked, gaps of the record; the rest is time that nothing is known of
//     ░ starved

/** Sums, per column of a lane, the ms of each part, both kinds of waits, gaps; `sums` has columns × (parts + 3) places. */
function sumColumns(trace, lane, view, columns, sums) {
  const parts = trace.run.parts.length;
  const size = parts + 3;
  sums.fill(0, 0, columns * size);
  const scale = columns / view.length;
  const add = (things, kinds, first, range) => {
    for (let at = range.from; at < range.to; at++) {
      const start = Math.max(0, (things.begin[at] - view.start) * scale);
      const end = Math.min(columns, (things.finish[at] - view.start) * scale);
      if (end <= start) continue;
      const kind = first + (kinds?.[at] ?? 0);
      const last = Math.min(columns - 1, end | 0);
      let column = start | 0;
      if (column === last) { sums[column * size + kind] += end - start; continue; }
      sums[column * size + kind] += column + 1 - start;
      for (column++; column < last; column++) sums[column * size + kind] += 1;
      sums[last * size + kind] += end - last;
    }
  };
  add(trace.spans, trace.spans.part, 0, visible(trace.spans, lane, view.start, view.end));
  add(trace.waits, trace.waits.blocked, parts, visible(trace.waits, lane, view.start, view.end));
  add(trace.gaps, null, parts + 2, visible(trace.gaps, lane, view.start, view.end));
}

/** Fills an image, `columns` wide, from the sums; `colours` are 32-bit pixels: each part, starved, blocked, gap, ground. */
function fillImage(pixels, columns, height, sums, colours) {
  const size = colours.length - 1;
  const ground = colours[size];
  for (let column = 0; column < columns; column++) {
    const base = column * size;
    let total = 0;
    for (let kind = 0; kind < size; kind++) total += sums[base + kind];
    const scale = height / Math.max(1, total);
    let sum = 0, row = 0;
    for (let kind = 0; kind < size; kind++) {
      const share = sums[base + kind];
      if (share === 0) continue;
      sum += share;
      const until = Math.min(height, Math.round(sum * scale));
      for (; row < until; row++) pixels[row * columns + column] = colours[kind];
    }
    for (; row < height; row++) pixels[row * columns + column] = ground;
  }
}

/** Keeps the buffers of one canvas and draws a lane into it, in proportions. Sizes are in device pixels. */
class Aggregate {
  constructor(context) { this.context = context; }

  draw(trace, lane, view, box, colours) {
    const { columns, height } = box;
    const size = columns * (trace.run.parts.length + 3);
    if (!this.image || this.image.width !== columns || this.image.height !== height) {
      this.image = new ImageData(columns, height);
      this.pixels = new Uint32Array(this.image.data.buffer);
    }
    if (!this.sums || this.sums.length < size) this.sums = new Float32Array(size);
    sumColumns(trace, lane, view, columns, this.sums);
    fillImage(this.pixels, columns, height, this.sums, colours);
    this.context.putImageData(this.image, box.x, box.y);
  }
}

/** A colour of the style sheet (#rrggbb) as a 32-bit pixel of an image. */
function pixelOf(colour) {
  const value = parseInt(colour.trim().slice(1), 16);
  return ((255 << 24) | ((value & 255) << 16) | (value & 0xff00) | (value >> 16)) >>> 0;
}
