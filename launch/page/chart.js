// Knows how to draw lines over an axis in SVG: scales, ticks, gaps where a value is missing, a readout under the pointer.

const CHART = { left: 58, right: 12, top: 26, bottom: 42 };

const MOST_DOTS = 60; // of a series: with more of them, dots are a worse line

/**
 * A line chart: `series` are {name, points: [[x, y | null], …], className, dash, hollow}, `log` for a logarithmic y.
 * `hollow` is the x of a point that stands for a part only: a circle that is not filled.
 * With a low and high in `range`, y spans at least these. Values at or below 0 have no place on a logarithmic axis: a gap.
 */
function lineChart(series, { xLabel, yLabel, log = false, range = [], label, height = 220, format = figure, domain = [], marks = [] }) {
  const legend = element("ul", { class: "legend" }, series.map(({ name, className, dash }) =>
    element("li", {}, shape("svg", { width: 26, height: 8, "aria-hidden": "true" },
      shape("line", { x1: 1, x2: 25, y1: 4, y2: 4, class: `series ${className}`, "stroke-dasharray": dash })), ` ${name}`)));
  const readout = element("p", { class: "muted readout", text: "\u00a0" });
  const block = responsive((width) => drawLines(series, { xLabel, yLabel, log, range, label, height, format, width, readout,
    domain, marks }));
  return element("div", { class: "chart" }, legend, block, readout);
}

function drawLines(series, { xLabel, yLabel, log, range, label, height, format, width, readout, domain, marks }) {
  const drawable = (y) => isNumber(y) && (!log || y > 0);
  const xs = [...domain, ...series.flatMap(({ points }) => points.map(([x]) => x))];
  const ys = [...range.filter(drawable), ...series.flatMap(({ points }) => points.map(([, y]) => y).filter(drawable))];
  const picture = shape("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  const right = width - CHART.right, bottom = height - CHART.bottom;
  if (!ys.length) {
    picture.append(shape("text", { x: CHART.left, y: height / 2, class: "tick", text: "no value that can be drawn" }));
    return picture;
  }
  const [x0, x1] = extent(xs);
  let [y0, y1] = extent(ys).map((y) => (log ? Math.log10(y) : y));
  if (y0 === y1) [y0, y1] = [y0 - (log ? 0.5 : Math.abs(y0) * 0.1 || 0.5), y1 + (log ? 0.5 : Math.abs(y1) * 0.1 || 0.5)];
  else [y0, y1] = [y0 - (y1 - y0) * 0.03, y1 + (y1 - y0) * 0.03]; // so that the outermost points are seen whole
  const placeX = (x) => CHART.left + (x1 === x0 ? 0.5 : (x - x0) / (x1 - x0)) * (right - CHART.left);
  const placeY = (y) => bottom - (((log ? Math.log10(y) : y) - y0) / (y1 - y0)) * (bottom - CHART.top);
  for (const y of log ? logTicks(y0, y1) : ticks(y0, y1, 5)) {
    picture.append(shape("line", { x1: CHART.left, x2: right, y1: placeY(y), y2: placeY(y), class: "grid" }),
      shape("text", { x: CHART.left - 7, y: placeY(y), class: "tick end", text: format(y).replace(/^-/, "−") }));
  }
  for (const x of ticks(x0, x1, Math.max(2, Math.floor(width / 90))).filter((x) => Number.isInteger(x))) {
    picture.append(shape("text", { x: placeX(x), y: bottom + 15, class: "tick middle", text: count(x) }));
  }
  for (const [x, text] of marks) {
    picture.append(shape("line", { x1: placeX(x), x2: placeX(x), y1: CHART.top, y2: bottom, class: "grid", "stroke-dasharray": "2 3" }),
      shape("text", { x: placeX(x) + 3, y: CHART.top + 9, class: "tick", text }));
  }
  picture.append(shape("text", { x: right, y: height - 4, class: "tick end base", text: xLabel }),
    shape("text", { x: 2, y: 12, class: "tick base", text: yLabel }));
  for (const { points, className, dash, hollow } of series) {
    picture.append(shape("path", { d: path(points, drawable, placeX, placeY), class: `series ${className}`,
      "stroke-dasharray": dash }));
    for (const [x, y] of points.filter(([x, y]) => drawable(y) && (points.length <= MOST_DOTS || x === hollow))) {
      const at = { cx: placeX(x), cy: placeY(y) };
      if (x === hollow) { picture.append(shape("circle", { ...at, r: 4, class: `hollow ${className}` })); continue; }
      picture.append(shape("circle", { ...at, r: 2.2, class: `dot ${className}` }));
    }
  }
  follow(picture, series, { placeX, width, height: bottom, xLabel, format, readout });
  return picture;
}

const extent = (values) =>
  values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);

function ticks(low, high, most) {
  if (low === high) return [low];
  const step = niceStep(high - low, most);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at++) found.push(at * step || 0); // no -0
  return found;
}

/** Powers of ten between two exponents; where there are fewer than two, also twice and five times these. */
function logTicks(low, high) {
  const factors = high - low < 2 ? [1, 2, 5] : [1];
  const every = Math.max(1, Math.ceil((high - low) / 6));
  const found = [];
  for (let power = Math.floor(low); power <= Math.ceil(high); power++) {
    if (power % every) continue;
    for (const factor of factors) {
      const value = Math.log10(factor) + power;
      if (value >= low && value <= high) found.push(factor * 10 ** power);
    }
  }
  return found;
}

/** A path with a gap at each missing value; a point alone between gaps becomes a short stroke. */
function path(points, drawable, placeX, placeY) {
  let text = "", open = false;
  for (const [x, y] of points) {
    if (drawable(y)) text += `${open ? "L" : "M"}${placeX(x).toFixed(1)} ${placeY(y).toFixed(1)}${open ? "" : "h0.01"}`;
    open = drawable(y);
  }
  return text;
}

/** Tells the values at the x nearest to the pointer. */
function follow(picture, series, { placeX, width, height, xLabel, format, readout }) {
  const lookup = series.map(({ points }) => new Map(points));
  const xs = [...new Set(lookup.flatMap((values) => [...values.keys()]))].sort((a, b) => a - b);
  const rule = shape("line", { y1: CHART.top, y2: height, class: "rule", visibility: "hidden" });
  picture.append(rule);
  picture.addEventListener("pointermove", (event) => {
    const edge = picture.getBoundingClientRect();
    const at = ((event.clientX - edge.left) / edge.width) * width;
    const x = xs.reduce((best, one) => (Math.abs(placeX(one) - at) < Math.abs(placeX(best) - at) ? one : best), xs[0]);
    rule.setAttribute("x1", placeX(x));
    rule.setAttribute("x2", placeX(x));
    rule.setAttribute("visibility", "visible");
    const told = series.map(({ name }, place) => [name, lookup[place]]).filter(([, points]) => points.has(x))
      .map(([name, points]) => `${name} ${format(points.get(x))}`);
    const part = series.some(({ hollow }) => hollow === x) ? " (partial)" : "";
    readout.textContent = `${xLabel} ${count(x)}${part}: ${told.join(", ")}`;
  });
  picture.addEventListener("pointerleave", () => {
    rule.setAttribute("visibility", "hidden");
    readout.textContent = "\u00a0";
  });
}
