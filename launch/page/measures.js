// Knows the measures of decoupling: how stale what was applied was, and how good the oracles' gradients were.

const STALENESS = { update: "update on a late gradient", target: "target of an oracle", increment: "increment of another box" };

/** The section "Staleness": histograms per stage and kind, counted in updates or in batches. */
function stalenessOf(run) {
  const stages = (run.stats?.stages ?? []).filter((stage) => Object.keys(stage.staleness ?? {}).length);
  if (!stages.length) return [muted("Nothing in this run can be stale, or no statistics were kept.")];
  const holder = element("div", { class: "histograms" });
  const draw = (unit) => holder.replaceChildren(...stages.flatMap((stage) => Object.keys(STALENESS)
    .filter((kind) => stage.staleness[kind]).map((kind) => histogram(stage.name, kind, stage.staleness[kind][unit] ?? {},
      unit))));
  draw("updates");
  const what = "How far the weights had moved between being read and what was derived from them being applied.";
  return [element("p", { text: what }),
    element("div", { class: "row" }, choice("unit of staleness", [["updates", "in updates"], ["batches", "in batches"]],
      "updates", draw)), holder];
}

const MOST_COLUMNS = 16;

/** Columns of counts by value; where there are many values, neighbours share a column. */
function histogram(stage, kind, counts, unit) {
  const pairs = Object.entries(counts).map(([value, number]) => [Number(value), number]).sort((a, b) => a[0] - b[0]);
  const total = pairs.reduce((sum, [, number]) => sum + number, 0);
  if (!total) return element("figure", {}, element("figcaption", { text: `${stage}: ${STALENESS[kind]}` }), muted("none"));
  const low = pairs[0][0], high = pairs[pairs.length - 1][0];
  const width = Math.max(1, Math.ceil((high - low + 1) / MOST_COLUMNS));
  const columns = Array.from({ length: Math.floor((high - low) / width) + 1 },
    (_, place) => ({ from: low + place * width, number: 0 }));
  for (const [value, number] of pairs) columns[Math.floor((value - low) / width)].number += number;
  const most = Math.max(...columns.map(({ number }) => number));
  const mean = pairs.reduce((sum, [value, number]) => sum + value * number, 0) / total;
  const spread = low === high ? `always ${low}` : `${low} to ${high}`;
  const words = `mean ${figure(mean, 3)}, ${spread} ${unit}, ${plural(total, "time")}`;
  const name = ({ from }) => (width > 1 ? `${from}–${from + width - 1}` : `${from}`);
  return element("figure", {}, element("figcaption", {}, element("strong", { text: stage }), ` ${STALENESS[kind]}`),
    element("div", { class: "columns", role: "img", "aria-label": `${stage}, ${STALENESS[kind]}: ${words}` },
      columns.map((column) =>
      element("span", { title: `${name(column)}: ${plural(column.number, "time")}, ${percent(column.number / total)}` },
        element("i", { style: { height: `${Math.max(column.number ? 2 : 0, (100 * column.number) / most)}%` } }),
        element("b", { text: columns.length > 8 && (column.from - low) / width % 4 ? "" : column.from })))),
    muted(words));
}

/** The section "Oracles": cosine and ratio of norms of the synthetic against the true gradient. */
function oracleOf(run) {
  const rows = run.oracle ?? [];
  if (!rows.length) return [muted("No oracle was probed in this run.")];
  const boxes = [...new Set(rows.map((row) => row.box))].sort((a, b) => a - b);
  const series = (key) => boxes.map((box) => ({ name: stageName(run, box), className: coloured(box - 1),
    dash: ["", "6 4", "2 3"][Math.floor((box - 1) / 6) % 3] || undefined,
    points: rows.filter((row) => row.box === box).sort((a, b) => a.batch - b.batch).map((row) => [row.batch, row[key]]) }));
  const late = boxes.map((box) => {
    const own = rows.filter((row) => row.box === box && isNumber(row.cosine));
    const last = own.slice(-Math.ceil(own.length / 4));
    return `${stageName(run, box)} ${figure(last.reduce((sum, row) => sum + row.cosine, 0) / last.length, 2)}`;
  });
  const without = rows.filter((row) => !isNumber(row.cosine)).length;
  const gaps = without ? ` Gaps: ${without} of ${plural(rows.length, "sample")} had no gradient to compare with.` : "";
  return [
    element("p", { text: "The oracles' synthetic gradients against the true gradients of the same batches. " +
      `A low cosine does not mean few test ${isTask(run) ? "examples" : "images"} right: a box needs a direction that lowers the loss, not the steepest one, ` +
      "and the head learns on the true loss in any case." }),
    lineChart(series("cosine"), { xLabel: "batch", yLabel: "cosine", range: [rows.some((row) => row.cosine < 0) ? -1 : 0, 1],
      label: `Cosine by batch; mean of the last quarter: ${late.join(", ")}` }),
    lineChart(series("norm_ratio"), { xLabel: "batch", yLabel: "norm, synthetic ÷ true", log: true, range: [1], height: 180,
      format: (ratio) => figure(ratio, 3, 1e4), label: "Ratio of the norms by batch, on a logarithmic scale" }),
    element("p", { text: "Where training has converged the true gradient vanishes, so this ratio grows beyond all bounds: " +
      "a large one late in a run tells of a small true gradient, not of a bad oracle." }),
    element("p", { text: `Mean cosine over the last quarter of the samples: ${late.join(", ")}.${gaps}` }),
  ];
}
