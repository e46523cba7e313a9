// Knows where the stages' time went, from the run's statistics: bars, tables, bubbles, the critical path.

/** The pieces of a stage's time, in the order in which they are stacked: {name, words, seconds, className}. */
function piecesOf(stage) {
  const named = (record, words, className) => Object.entries(record ?? {}).map(([who, seconds]) =>
    ({ name: `${words} ${who}`, words: who, seconds, className }));
  return [
    { name: "compute", words: "compute", seconds: stage.compute_s, className: "compute" },
    { name: "messages", words: "messages", seconds: stage.copy_s, className: "copy" },
    ...named(stage.starved_s, "starved by", "starved"),
    ...named(stage.blocked_s, "blocked by", "blocked"),
    { name: "everything else", words: "else", seconds: stage.other_s, className: "other" },
    { name: "missing", words: "missing", seconds: stage.missing_s, className: "missing" },
  ].filter(({ seconds }) => isNumber(seconds) && seconds > 0);
}

/** A stage's bar; `scale` is how many seconds the full width stands for. */
function stackedBar(stage, scale) {
  const pieces = piecesOf(stage);
  const label = pieces.map(({ name, seconds: spent }) => `${name} ${percent(spent / stage.total_s)}`).join(", ");
  return element("div", { class: "bar", role: "img", "aria-label": `${stage.name}: ${label}` }, pieces.map((piece) =>
    element("span", { class: `piece ${piece.className}`,
      title: `${piece.name}: ${seconds(piece.seconds)}, ${percent(piece.seconds / stage.total_s)}`,
      style: { width: `${(100 * piece.seconds) / scale}%` }, text: piece.seconds / scale > 0.07 ? piece.words : "" })));
}

function bars(stages, scale) {
  return element("div", { class: "bars" }, stages.map((stage) =>
    [element("span", { class: "name", text: stage.name }), stackedBar(stage, scale)]));
}

const waitLegend = () => element("ul", { class: "legend" },
  [["compute", "compute"], ["copy", "messages: encode, send, receive, decode"], ["starved", "starved by the stage named"],
    ["blocked", "blocked by the stage named"],
    ["other", "everything else"], ["missing", "missing: not accounted for"]].map(([name, text]) =>
    element("li", {}, element("i", { class: `mark ${name}`, "aria-hidden": "true" }), text)));

/** The section "Where the time went". */
function waitsOf(run) {
  const stages = run.stats?.stages ?? [];
  if (!stages.length) return [muted("This run left no statistics of its stages' time.")];
  const scale = Math.max(...stages.map((stage) => stage.total_s), 1e-9);
  const sum = (record) => Object.values(record ?? {}).reduce((total, value) => total + value, 0);
  const list = (record, total) =>
    Object.entries(record ?? {}).map(([who, spent]) => `${who} ${percent(spent / total)}`).join(", ") || "–";
  const rows = stages.map((stage) => {
    const share = (value) => percent(value / stage.total_s);
    return [stage.name, seconds(stage.total_s), share(stage.compute_s), share(stage.copy_s), share(sum(stage.starved_s)),
      list(stage.starved_s, stage.total_s), share(sum(stage.blocked_s)), list(stage.blocked_s, stage.total_s),
      share(stage.other_s),
      share(stage.missing_s), isNumber(stage.cpu_s) ? stage.cpu_s.toFixed(2) : "–"];
  });
  const bubbles = stages.filter((stage) => stage.bubble).map(({ name, bubble }) => [name, percent(bubble.of_makespan),
    percent(bubble.theory_of_makespan), ratio(bubble.of_busy), ratio(bubble.theory_of_busy)]);
  return [
    waitLegend(), bars(stages, scale),
    table(["stage", "time", "compute", "messages", "starved", "by", "blocked", "by", "else", "missing", "cpu s"], rows,
      { align: " nnnn n nnn", caption: "Shares of each stage's time" }),
    bubbles.length ? table(["stage", "idle ÷ makespan", "by the schedule", "idle ÷ busy", "by the schedule"], bubbles,
      { align: " nnnn", caption: "Bubble, in both definitions" }) : muted("No bubble was computed."),
    bubbles.length ? muted("By the schedule: the same actions at their mean times, messages free, a processor for each stage.")
      : null,
    reasonsOf(stages),
  ];
}

const ratio = (value) => (isNumber(value) ? value.toFixed(2) : "–");
const WHY = { window: "window full", credit: "no credit", drain: "drain" };
const MOST_WAITS = 12;

/** The longest waits by who was waited for, for what and why; null where there is none. */
function reasonsOf(stages) {
  const all = stages.flatMap((stage) => (stage.waits ?? []).map((wait) => ({ stage, ...wait })))
    .filter((wait) => wait.seconds > 0).sort((a, b) => b.seconds - a.seconds);
  if (!all.length) return null;
  const rows = all.slice(0, MOST_WAITS).map(({ stage, ...wait }) => [stage.name,
    wait.from ? `${wait.way} by ${wait.from}` : "its schedule", wait.for || "–", WHY[wait.why] ?? "–", count(wait.count),
    wait.seconds.toFixed(3), percent(wait.seconds / stage.total_s)]);
  const more = all.length > MOST_WAITS ? `, the longest ${MOST_WAITS} of ${all.length}` : "";
  return table(["stage", "waits", "for", "why", "times", "seconds", "of its time"], rows,
    { align: "    nnn", caption: `Waits by reason${more}` });
}

/** Labelled bars of shares: rows are [name, share, text]. */
function shareBars(rows, caption) {
  return element("figure", { class: "shares" }, element("figcaption", { text: caption }),
    element("div", { class: "bars" }, rows.map(([name, share, text]) => [element("span", { class: "name", text: name }),
      element("div", { class: "bar thin" },
        element("span", { class: "piece compute", style: { width: `${between(0, 100 * share, 100)}%` } }),
        element("span", { class: "beside", text }))])));
}

/** The section "Critical path". */
function pathOf(run) {
  const path = run.stats?.critical_path;
  if (!path) return [muted("No critical path was computed for this run.")];
  const rows = (list, key) => [...(list ?? [])].sort((a, b) => b.seconds - a.seconds)
    .map((row) => [row[key], row.share, `${percent(row.share)}, ${seconds(row.seconds)}`]);
  const of = isNumber(run.stats.makespan_s) ? ` of a makespan of ${seconds(run.stats.makespan_s)}` : "";
  const words = `The longest chain of work and messages that had to follow one another: ${seconds(path.seconds)}${of}.`;
  return [element("p", { text: words }),
    element("div", { class: "pair" }, shareBars(rows(path.by_stage, "stage"), "by stage"),
      shareBars(rows(path.by_kind, "kind"), "by kind"))];
}
