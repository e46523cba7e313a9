// Knows how the timeline looks: draws a scene (trace, view, lay, theme, focus, options). Changes nothing but the canvas.

const SPARSE = 5; // CSS pixels of width for each arrow: where there is less, arrows hide what they should show

/** Reads the colours of the style sheet; again when the scheme changes. */
function readTheme(parts) {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(`--${name}`).trim();
  const colours = Object.fromEntries(
    ["ink", "muted", "line", "ground", "lane", "starved", "blocked", "blocked-line", "gap", "focus", "message"]
      .map((name) => [name, read(name)]));
  const partColours = parts.map((part) => read(`part-${part}`) || read("part-other"));
  const pixels = Uint32Array.from(
    [...partColours, colours.starved, colours["blocked-line"], colours.gap, colours.lane], pixelOf);
  return { ...colours, parts: partColours, partInks: parts.map((p) => read(`ink-${p}`) || "#ffffff"), pixels,
    font: "12px system-ui, sans-serif", small: "11px system-ui, sans-serif" };
}

/** Diagonal lines: blocked. */
function hatch(context, theme) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const pen = tile.getContext("2d");
  pen.fillStyle = theme.blocked;
  pen.fillRect(0, 0, 6, 6);
  pen.strokeStyle = theme["blocked-line"];
  pen.lineWidth = 1.5;
  pen.beginPath();
  for (const shift of [-6, 0, 6]) { pen.moveTo(shift, 6); pen.lineTo(shift + 6, 0); }
  pen.stroke();
  return context.createPattern(tile, "repeat");
}

/** Draws all of it; returns how many spans, waits and messages the window has and whether lanes are in proportions. */
function paint(context, aggregate, scene) {
  const { lay, theme, ratio } = scene;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.fillStyle = theme.ground;
  context.fillRect(0, 0, lay.left + lay.width + 8, lay.bottom);
  const drawn = { spans: 0, waits: 0, messages: 0, arrows: 0, aggregated: 0 };
  paintAxis(context, scene);
  for (let lane = 0; lane < lay.lanes; lane++) paintLane(context, aggregate, scene, lane, drawn);
  context.save();
  context.beginPath();
  context.rect(lay.left, 0, lay.width, lay.bottom);
  context.clip();
  paintMessages(context, scene, drawn);
  if (scene.focus) paintFocus(context, scene);
  context.restore();
  paintNames(context, scene);
  return drawn;
}

function paintAxis(context, { view, lay, theme }) {
  const step = niceStep(view.length, Math.max(2, lay.width / 96));
  const inSeconds = step >= 100, inMicro = view.end < 1;
  const unit = inSeconds ? 1000 : inMicro ? 0.001 : 1;
  const digits = between(0, -Math.floor(Math.log10(step / unit) + 1e-9), 6);
  const label = (moment) => `${(moment / unit || 0).toLocaleString("en", { minimumFractionDigits: digits,
    maximumFractionDigits: digits })} ${inSeconds ? "s" : inMicro ? "µs" : "ms"}`;
  context.font = theme.small;
  context.textBaseline = "middle";
  context.textAlign = "center";
  for (let tick = Math.ceil(view.start / step); tick * step <= view.end; tick++) {
    const x = Math.round(placeOf(tick * step, view, lay)) + 0.5;
    context.fillStyle = theme.line;
    context.fillRect(x, AXIS - 6, 1, lay.bottom - AXIS + 6);
    context.fillStyle = theme.muted;
    const half = context.measureText(label(tick * step)).width / 2;
    if (x - half >= lay.left - 4 && x + half <= lay.left + lay.width + 8) context.fillText(label(tick * step), x, AXIS / 2 - 2);
  }
}

function paintLane(context, aggregate, scene, lane, drawn) {
  const { trace, view, lay, theme, ratio } = scene;
  const { spans, waits } = trace;
  const top = lay.top(lane);
  const shown = visible(spans, lane, view.start, view.end);
  const waited = visible(waits, lane, view.start, view.end);
  drawn.spans += shown.to - shown.from;
  drawn.waits += waited.to - waited.from;
  context.fillStyle = theme.lane;
  context.fillRect(lay.left, top, lay.width, lay.height);
  if (shown.to - shown.from + waited.to - waited.from > lay.width / 3) {
    drawn.aggregated++;
    aggregate.draw(trace, lane, view, { x: Math.round(lay.left * ratio), y: Math.round(top * ratio),
      columns: Math.round(lay.width * ratio), height: Math.round(lay.height * ratio) }, theme.pixels);
    return;
  }
  const right = lay.left + lay.width;
  const piece = (things, at) => {
    const x = Math.max(lay.left, placeOf(things.begin[at], view, lay));
    return [x, Math.max(0.6, Math.min(right, placeOf(things.finish[at], view, lay)) - x)];
  };
  for (let at = waited.from; at < waited.to; at++) {
    const [x, width] = piece(waits, at);
    const blocked = waits.blocked[at] === 1;
    context.fillStyle = blocked ? scene.hatch : theme.starved;
    context.fillRect(x, blocked ? top : top + lay.height * 0.55, width, lay.height * 0.45);
  }
  context.font = theme.small;
  context.textAlign = "left";
  context.textBaseline = "middle";
  const gaps = visible(trace.gaps, lane, view.start, view.end);
  for (let at = gaps.from; at < gaps.to; at++) {
    const [x, width] = piece(trace.gaps, at);
    context.fillStyle = theme.gap;
    context.fillRect(x, top, width, lay.height);
    context.fillStyle = theme.ink;
    if (context.measureText("not on record").width < width - 8) context.fillText("not on record", x + 4, top + lay.height / 2);
  }
  for (let at = shown.from; at < shown.to; at++) {
    const [x, width] = piece(spans, at);
    const part = spans.part[at];
    const pale = scene.focus && (spans.batch[at] !== scene.focus.batch || spans.action[at] === EVALUATION);
    context.globalAlpha = pale ? 0.5 : 1;
    context.fillStyle = theme.parts[part];
    context.fillRect(x, top, width, lay.height);
    context.globalAlpha = 1;
    const ink = pale ? theme.ink : theme.partInks[part];
    if (width > 30) paintLabel(context, spans, at, trace.run, x, width, top + lay.height / 2, ink);
  }
}

function paintLabel(context, spans, at, run, x, width, y, ink) {
  const short = actionText(spans, at);
  const long = `${short} ${run.parts[spans.part[at]]}`;
  const text = [long, short].find((words) => context.measureText(words).width < width - 8);
  if (!text) return;
  context.fillStyle = ink;
  context.fillText(text, x + 4, y + 1);
}

/** A message's line: from the sender's lane at `sent` to the receiver's at `taken`; null for stages that are not there. */
function messageLine({ trace, view, lay }, at) {
  const { messages } = trace;
  const from = messages.source[at] - 1, to = messages.target[at] - 1;
  if (from < 0 || to < 0 || from >= lay.lanes || to >= lay.lanes || from === to) return null;
  const down = to > from;
  return { x1: placeOf(messages.begin[at], view, lay), y1: lay.top(from) + (down ? lay.height : 0),
    x2: placeOf(messages.finish[at], view, lay), y2: lay.top(to) + (down ? 0 : lay.height) };
}

/** Calls `use(at)` for the messages that are drawn now: those of the focus, and all where they are few. */
function eachMessage(scene, drawn, use) {
  const { trace, view, options, focus } = scene;
  const { messages, run } = trace;
  const shows = (at) => options.credits || !isCredit(run.kinds[messages.kind[at]]);
  const range = visible(messages, 0, view.start, view.end);
  const most = scene.lay.width / SPARSE;
  const chosen = [];
  for (let at = range.from; at < range.to; at++) {
    if (messages.finish[at] < view.start || !shows(at)) continue;
    drawn.messages++;
    if (chosen.length <= most) chosen.push(at);
  }
  if (!options.messages) return;
  const own = focus ? focus.messages.filter(shows) : [];
  if (chosen.length <= most) chosen.forEach((at) => use(at, !focus || messages.batch[at] === focus.batch));
  else own.forEach((at) => use(at, true));
}

function paintMessages(context, scene, drawn) {
  const { trace, theme } = scene;
  const { messages, run } = trace;
  eachMessage(scene, drawn, (at, strong) => {
    const line = messageLine(scene, at);
    if (!line) return;
    drawn.arrows++;
    const kind = run.kinds[messages.kind[at]];
    context.strokeStyle = context.fillStyle = theme.message;
    context.globalAlpha = strong ? 0.95 : 0.3;
    context.lineWidth = strong ? 1.3 : 1;
    context.setLineDash(isCredit(kind) ? [1, 3] : { target: [6, 3], increment: [2, 2] }[kind] ?? []);
    context.beginPath();
    context.moveTo(line.x1, line.y1);
    context.lineTo(line.x2, line.y2);
    context.stroke();
    context.setLineDash([]);
    const angle = Math.atan2(line.y2 - line.y1, line.x2 - line.x1);
    context.beginPath();
    context.moveTo(line.x2, line.y2);
    for (const side of [angle + 2.75, angle - 2.75]) {
      context.lineTo(line.x2 + 6 * Math.cos(side), line.y2 + 6 * Math.sin(side));
    }
    context.fill();
  });
  context.globalAlpha = 1;
}

/** Outlines the batch in focus and puts the numbers of its steps into circles above it. */
function paintFocus(context, { trace, view, lay, theme, focus }) {
  const right = new Float64Array(lay.lanes).fill(-Infinity);
  const size = Math.min(8.5, lay.gap / 2 + 2);
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.font = `600 ${Math.round(size * 1.35)}px system-ui, sans-serif`;
  for (const { at, step } of focus.spans) {
    const { spans } = trace;
    if (spans.finish[at] < view.start || spans.begin[at] > view.end) continue;
    const lane = spans.stage[at] - 1;
    const top = lay.top(lane);
    const x = placeOf(spans.begin[at], view, lay);
    const width = Math.max(1.5, placeOf(spans.finish[at], view, lay) - x);
    context.fillStyle = theme.parts[spans.part[at]];
    if (width < 3) context.fillRect(x, top, width, lay.height);
    context.strokeStyle = theme.focus;
    context.lineWidth = step && width > 4 ? 2 : 1;
    context.strokeRect(x, top, width, lay.height);
    if (!step) continue;
    const centre = Math.max(x + Math.min(width / 2, 9), right[lane] + size);
    right[lane] = centre + size + 1;
    context.fillStyle = theme.focus;
    context.beginPath();
    context.arc(centre, top - size + 1, size, 0, 2 * Math.PI);
    context.fill();
    context.fillStyle = theme.ground;
    context.fillText(String(step.number), centre, top - size + 1.5, size * 1.7);
  }
}

function paintNames(context, { trace, lay, theme }) {
  context.fillStyle = theme.ground;
  context.fillRect(0, AXIS, lay.left, lay.bottom - AXIS);
  context.fillStyle = theme.ink;
  context.font = theme.font;
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (let lane = 0; lane < lay.lanes; lane++) {
    context.fillText(trace.run.stages[lane], lay.left - 8, lay.top(lane) + lay.height / 2, lay.left - 10);
  }
}
