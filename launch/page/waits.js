// Knows where the stages' time went, from the run's statistics: bars, tables, bubbles, the critical path.

/** The pieces of a stage's time, in the order in which they are stacked: {name, words, seconds, className}. */
function piecesOf(stage) {
  const named = (record, words, className) => Object.entries(record ?? {}).map(([who, seconds]) =>
    ({ name: `${words} ${who}`, words: who, seconds, className }));
  return [
    { name: "compute", words: "compute", seconds: stage.compute_s, className: "compute" },
    { name: "serialise and copy", words: "copy", seconds: stage.copy_s, className: "copy" },
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
  [["compute", "compute"], ["copy", "serialise and copy"], ["starved", "starved by the stage named"],
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
      share(stage.missing_s), seconds(stage.cpu_s)];
  });
  const bubbles = stages.filter((stage) => stage.bubble).map(({ name, bubble }) => [name, percent(bubble.of_makespan),
    percent(bubble.theory_of_makespan), percent(bubble.of_busy), percent(bubble.theory_of_busy)]);
  return [
    waitLegend(), bars(stages, scale),
    table(["stage", "time", "compute", "copy", "starved", "by", "blocked", "by", "else", "missing", "processor"], rows,
      { align: " nnnn n nnn", caption: "Shares of each stage's time" }),
    bubbles.length ? table(["stage", "idle ÷ makespan", "in theory", "idle ÷ busy", "in theory"], bubbles,
      { align: " nnnn", caption: "Bubble, in both definitions" }) : muted("No bubble was computed."),
  ];
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
