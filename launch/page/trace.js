// Knows what happened in a run, from its columns: spans and waits by lane, messages, batches. Times are in milliseconds.
//
// Rules: a lane is a stage, lanes count from 0 while stages count from 1; spans and waits are sorted by lane, then begin;
// `reach[i]` is the latest end among a lane's first ones up to i, so that a window's first one is found by halving, even where
// some overlap. An evaluation (E) has a number of its own: it belongs to no batch.

const EVALUATION = "E".charCodeAt(0), FORWARD = "F".charCodeAt(0);

/** Inflates a run's columns; resolves to its trace. */
async function readTrace(run) {
  const unit = (run.unit_ns ?? 100) / 1e6;
  const [spans, waits, messages, gaps] =
    await Promise.all([run.spans, run.waits, run.messages, run.gaps].map(readColumns));
  const lanes = run.stages.length;
  placeInTime(spans, spans.start, spans.took, unit, lanes);
  placeInTime(waits, waits.start, waits.took, unit, lanes);
  placeInTime(messages, messages.sent, messages.hop, unit, 0);
  placeInTime(gaps, gaps.start, gaps.took, unit, lanes);
  let end = 0;
  for (const things of [spans, waits, messages, gaps]) for (const range of things.ranges) {
    if (range.to > range.from) end = Math.max(end, things.reach[range.to - 1]);
  }
  const batches = batchesOf(spans, run.shown?.batches ?? [0, Infinity]);
  const begins = spans.ranges.filter(({ from, to }) => to > from).map(({ from }) => spans.begin[from]);
  const first = begins.length ? Math.min(...begins) : 0;
  return { run, lanes, spans, waits, messages, gaps, first, end, batches, firstBatch: batches[0] ?? 0,
    lastBatch: batches.at(-1) ?? -1, parts: presentValues(spans.part, spans.count),
    kinds: presentValues(messages.kind, messages.count) };
}

/** The batches on record within [least, most], ascending: those with a forward, or with anything where none has one. */
function batchesOf(spans, [least, most]) {
  const begun = new Set(), found = new Set();
  for (let at = 0; at < spans.count; at++) {
    const batch = spans.batch[at];
    if (spans.action[at] === EVALUATION || batch < least || batch > most) continue;
    found.add(batch);
    if (spans.action[at] === FORWARD) begun.add(batch);
  }
  return Float64Array.from(begun.size ? begun : found).sort();
}

/** The middle batch of the middle stretch on record: at a stretch's edges something may be missing. */
function middleBatch({ batches }) {
  let from = batches.length >> 1, to = from;
  if (batches[0] + batches.length - 1 === batches.at(-1)) return batches[(batches.length - 1) >> 1];
  while (batches[from - 1] === batches[from] - 1) from--;
  while (batches[to + 1] === batches[to] + 1) to++;
  return batches[(from + to) >> 1];
}

/** Adds begin, finish and reach (Float64Array, ms) and the range of each lane; `gaps` are distances from the one before. */
function placeInTime(things, gaps, took, unit, lanes) {
  const size = things.count;
  things.begin = new Float64Array(size);
  things.finish = new Float64Array(size);
  things.reach = new Float64Array(size);
  things.ranges = Array.from({ length: Math.max(1, lanes) }, () => ({ from: size, to: size }));
  let ticks = 0, reach = 0, lane = -1;
  for (let at = 0; at < size; at++) {
    const own = lanes ? things.stage[at] - 1 : 0;
    if (own !== lane) {
      if (own < lane || own >= Math.max(1, lanes)) throw new Error(`a stage number ${own + 1} out of its order`);
      if (lane >= 0) things.ranges[lane].to = at;
      lane = own;
      things.ranges[lane].from = at;
      ticks = reach = 0;
    }
    ticks += gaps[at];
    things.begin[at] = ticks * unit;
    things.finish[at] = (ticks + took[at]) * unit;
    reach = Math.max(reach, things.finish[at]);
    things.reach[at] = reach;
  }
}

function presentValues(column, size) {
  const present = new Set();
  for (let at = 0; at < size; at++) present.add(column[at]);
  return [...present].sort((a, b) => a - b);
}

/** The first place in [from, to) whose value is at least `wanted`, in an ascending column. */
function firstAtLeast(column, from, to, wanted) {
  while (from < to) {
    const middle = (from + to) >> 1;
    if (column[middle] < wanted) from = middle + 1;
    else to = middle;
  }
  return from;
}

/** The places [from, to) of a lane's spans, waits or of messages (lane 0) that may touch the window. */
function visible(things, lane, start, end) {
  const { from, to } = things.ranges[lane];
  return { from: firstAtLeast(things.reach, from, to, start), to: firstAtLeast(things.begin, from, to, end) };
}

/** What belongs to a batch: places of spans with the numbers of their steps, places of messages, and when it all was. */
function batchOf(trace, batch) {
  const { run, spans, messages } = trace;
  const numbers = new Map(run.steps.map((step) => [`${step.stage} ${step.action} ${step.part}`, step]));
  const found = { batch, spans: [], messages: [], start: Infinity, end: -Infinity };
  for (let at = 0; at < spans.count; at++) {
    if (spans.batch[at] !== batch || spans.action[at] === EVALUATION) continue;
    const name = `${stageName(run, spans.stage[at])} ${String.fromCharCode(spans.action[at])} ${run.parts[spans.part[at]]}`;
    const step = spans.sibling[at] ? undefined : numbers.get(name);
    found.spans.push({ at, step });
    if (spans.sibling[at]) continue;
    found.start = Math.min(found.start, spans.begin[at]);
    found.end = Math.max(found.end, spans.finish[at]);
  }
  for (const { at } of found.end < 0 ? found.spans : []) {
    found.start = Math.min(found.start, spans.begin[at]);
    found.end = Math.max(found.end, spans.finish[at]);
  }
  for (let at = 0; at < messages.count; at++) {
    if (messages.batch[at] === batch && run.kinds[messages.kind[at]] !== "evaluation") found.messages.push(at);
  }
  return found.spans.length ? found : null;
}

/** The text of a span's action: F17, or U2.17 for box 2's increment. */
function actionText(spans, at) {
  const sibling = spans.sibling[at] ? `${spans.sibling[at]}.` : "";
  return `${String.fromCharCode(spans.action[at])}${sibling}${spans.batch[at]}`;
}

const isCredit = (kind) => String(kind).startsWith("credit");
