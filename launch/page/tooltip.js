// Knows what lies at a point of the timeline, and how to say it.

const REACH = 5; // CSS pixels from a message's line at which it is still meant

/** What is at a point: {type: "span" | "wait" | "message", at}, or null. */
function findAt(scene, x, y) {
  const { trace, view, lay } = scene;
  if (x < lay.left || x > lay.left + lay.width || y < AXIS || y > lay.bottom) return null;
  const lane = laneAt(y, lay);
  const span = lane < 0 ? null : closest(trace.spans, lane, x, scene);
  if (span) return { type: "span", ...span };
  const message = closestMessage(scene, x, y);
  if (message !== null) return { type: "message", at: message };
  const wait = lane < 0 ? null : closest(trace.waits, lane, x, scene);
  return wait ? { type: "wait", ...wait } : null;
}

/** The span or wait under x, else one that is less than two pixels away; with how many share these pixels. */
function closest(things, lane, x, { view, lay }) {
  const moment = momentAt(x, view, lay), pixel = view.length / lay.width;
  const { from, to } = visible(things, lane, moment - 2 * pixel, moment + 2 * pixel);
  let best = -1, least = Infinity, sharing = 0;
  for (let at = from; at < to; at++) {
    const away = Math.max(things.begin[at] - moment, moment - things.finish[at], 0);
    if (away > 2 * pixel) continue;
    sharing++;
    if (away < least || (away === least && things.finish[at] - things.begin[at] < things.finish[best] - things.begin[best])) {
      [best, least] = [at, away];
    }
  }
  return best < 0 ? null : { at: best, others: pixel * 2 > things.finish[best] - things.begin[best] ? sharing - 1 : 0 };
}

function closestMessage(scene, x, y) {
  let best = null, least = REACH;
  eachMessage(scene, { messages: 0 }, (at) => {
    const line = messageLine(scene, at);
    if (!line) return;
    const across = line.x2 - line.x1, down = line.y2 - line.y1;
    const along = between(0, ((x - line.x1) * across + (y - line.y1) * down) / (across * across + down * down || 1), 1);
    const away = Math.hypot(x - line.x1 - along * across, y - line.y1 - along * down);
    if (away < least) [best, least] = [at, away];
  });
  return best;
}

/** What was found, in words: a title and rows of name and value. */
function describe(scene, found) {
  const { run, spans, waits, messages } = scene.trace;
  const { at } = found;
  if (found.type === "span") {
    const step = scene.focus?.spans.find((own) => own.at === at)?.step;
    const written = spans.read[at] + (spans.changed?.[at] ?? 0);
    return { title: `${actionText(spans, at)} ${run.parts[spans.part[at]]}`, rows: [
      ["stage", stageName(run, spans.stage[at])],
      step ? ["step", `${step.number}: ${step.text}`] : null,
      spans.sibling[at] ? ["increment of", stageName(run, spans.sibling[at])] : null,
      ["begins", moment(spans.begin[at])],
      ["took", duration(spans.finish[at] - spans.begin[at])],
      ["version", spans.read[at] === written ? `${count(written)}, only read` : `${count(spans.read[at])} → ${count(written)}`],
      found.others ? ["here too", `${plural(found.others, "more span")} in these pixels`] : null] };
  }
  if (found.type === "wait") {
    return { title: waits.blocked[at] ? "blocked" : "starved", rows: [
      ["stage", stageName(run, waits.stage[at])],
      ["waits for", `${run.kinds[waits.kind[at]] ?? "?"} of batch ${waits.batch[at]}`],
      ["from", stageName(run, waits.source[at])],
      ["begins", moment(waits.begin[at])],
      ["took", duration(waits.finish[at] - waits.begin[at])],
      found.others ? ["here too", `${plural(found.others, "more wait")} in these pixels`] : null] };
  }
  return { title: `${run.kinds[messages.kind[at]] ?? "?"} ${messages.batch[at]}`, rows: [
    ["from", stageName(run, messages.source[at])],
    ["to", stageName(run, messages.target[at])],
    ["sent", moment(messages.begin[at])],
    ["hop", duration(messages.finish[at] - messages.begin[at])]] };
}

/** Shows it beside the point, within the block that holds the canvas. */
function showTooltip(tooltip, { title, rows }, x, y, width, touch) {
  tooltip.replaceChildren(element("strong", { text: title }),
    element("dl", {}, rows.filter(Boolean).map(([name, value]) =>
      [element("dt", { text: name }), element("dd", { text: value })])));
  tooltip.hidden = false;
  const own = tooltip.getBoundingClientRect();
  const left = x + 14 + own.width > width ? Math.max(0, x - 14 - own.width) : x + 14;
  tooltip.style.left = `${Math.min(left, Math.max(0, width - own.width))}px`;
  tooltip.style.top = `${touch ? y - own.height - 16 : y + 16}px`;
}
