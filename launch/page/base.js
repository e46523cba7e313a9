// Knows how to make elements and how to put numbers into words. Knows nothing of runs.

/** Makes an element: properties that begin with "on" listen, `text` is its text, others are attributes. */
function element(tag, properties = {}, ...children) {
  return furnish(document.createElement(tag), properties, children);
}

/** Makes an SVG element; otherwise as `element`. */
function shape(tag, properties = {}, ...children) {
  return furnish(document.createElementNS("http://www.w3.org/2000/svg", tag), properties, children);
}

function furnish(made, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "text") made.textContent = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, set] of Object.entries(value)) made.style.setProperty(key, set);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

const muted = (text) => element("p", { class: "muted", text });

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const between = (low, value, high) => Math.max(low, Math.min(high, value));

/** A number with at most `digits` significant digits, from `most` on with a power of ten; a dash stands for none. */
function figure(value, digits = 3, most = 1e7) {
  if (!isNumber(value)) return "–";
  if (value !== 0 && (Math.abs(value) < 1e-4 || Math.abs(value) >= most)) {
    return value.toExponential(digits - 1).replace(/\.?0*e\+?/, "e");
  }
  if (Math.abs(value) >= 10 ** digits) return Math.round(value).toLocaleString("en");
  return value.toLocaleString("en", { maximumSignificantDigits: digits });
}

const count = (value) => (isNumber(value) ? Math.round(value).toLocaleString("en") : "–");
const percent = (share, digits = 1) => (isNumber(share) ? `${(100 * share).toFixed(digits)} %` : "–");
const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1).replace(/\.$/, "")}.`;
const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** A length of time, given in milliseconds, in the unit that suits it. */
function duration(ms) {
  if (!isNumber(ms)) return "–";
  const size = Math.abs(ms);
  if (size === 0) return "0 µs";
  if (size < 1) return `${figure(ms * 1000, 3)} µs`;
  if (size < 1000) return `${figure(ms, 3)} ms`;
  return `${figure(ms / 1000, 3)} s`;
}

const seconds = (value) => (isNumber(value) ? duration(value * 1000) : "–");

/** A moment of the run, given in milliseconds, to the microsecond. */
const moment = (ms) =>
  `${ms.toLocaleString("en", { minimumFractionDigits: 3, maximumFractionDigits: 3 })} ms`;

function bytes(value) {
  if (!isNumber(value)) return "–";
  const at = value < 1024 ? 0 : Math.min(4, Math.floor(Math.log2(value) / 10));
  return `${figure(value / 1024 ** at, 3)} ${["B", "KiB", "MiB", "GiB", "TiB"][at]}`;
}

/** The step of 1, 2 or 5 times a power of ten that cuts `range` into at most `most` pieces. */
function niceStep(range, most) {
  const rough = range / Math.max(1, most);
  const power = 10 ** Math.floor(Math.log10(rough));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999999);
}

/** A name on the page for a stage number, which counts from 1. */
const stageName = (run, number) => run.stages[number - 1] ?? `stage ${number}`;

/** What a run is called: its name where it has one, else its id. */
const runTitle = (run) => run.name || run.run;

const scheduleOf = (run) => `${run.schedule}${run.reference ? " (reference)" : ""}`;

/** A table that scrolls within itself. Cells are texts, elements or {text, class}; `align` has "n" for columns of numbers. */
function table(heads, rows, { align = "", caption = "", rowHeads = true } = {}) {
  const cell = (value, column, tag) => {
    const inner = value?.nodeType ? { child: value } : typeof value === "object" && value !== null ? value : { text: value };
    const names = [align[column] === "n" ? "number" : "", inner.class ?? ""].join(" ").trim();
    const scope = tag === "th" ? { scope: inner.scope ?? "row" } : {};
    return element(tag, { class: names || null, text: inner.child ? undefined : String(inner.text ?? "–"), ...scope },
      inner.child);
  };
  const head = element("tr", {}, heads.map((text, column) => cell({ text, scope: "col" }, column, "th")));
  const body = rows.map((row) =>
    element("tr", {}, row.map((value, column) => cell(value, column, column === 0 && rowHeads ? "th" : "td"))));
  const inner = element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption || heads.join(", ") },
    element("table", {}, caption ? element("caption", { text: caption }) : null,
      element("thead", {}, head), element("tbody", {}, body)));
  const hint = element("p", { class: "hint", hidden: true, "aria-hidden": "true", text: "more columns: scroll sideways →" });
  const tell = () => { hint.hidden = inner.scrollLeft + inner.clientWidth >= inner.scrollWidth - 2; };
  inner.addEventListener("scroll", tell);
  new ResizeObserver(tell).observe(inner);
  return element("div", { class: "wide" }, hint, inner);
}

/** A row of buttons of which one is pressed; `choose` is called with its value. */
function choice(label, options, chosen, choose) {
  const buttons = options.map(([value, text]) =>
    element("button", { type: "button", text, "aria-pressed": String(value === chosen), onclick: () => press(value) }));
  const press = (value) => {
    options.forEach(([other], at) => buttons[at].setAttribute("aria-pressed", String(other === value)));
    choose(value);
  };
  return element("div", { class: "choice", role: "group", "aria-label": label }, buttons);
}

/** A block that is drawn again whenever its width changes; `draw(width)` returns its content. */
function responsive(draw) {
  const block = element("div", { class: "drawn" });
  let last = 0;
  const redraw = () => {
    const width = Math.floor(block.clientWidth);
    if (width > 0 && width !== last) block.replaceChildren(draw((last = width)));
  };
  new ResizeObserver(redraw).observe(block);
  block.redraw = () => { last = 0; redraw(); };
  return block;
}
