// Knows how the cost and the test images right went by epoch, for one run or several over each other.

const coloured = (place) => `colour-${place % 6}`;
const values = (run, key) => run.epochs.filter((row) => key in row).map((row) => [row.epoch, row[key]]);

/** The section's content for these runs. */
function curvesOf(runs) {
  const shown = runs.filter((run) => run.epochs?.length);
  if (!shown.length) return [muted("No epoch ended in this run, so there is no cost to draw.")];
  const several = runs.length > 1;
  const title = (run, what) => (several ? `${runTitle(run)}: ${what}` : what);
  const costs = shown.flatMap((run) => {
    const place = runs.indexOf(run);
    const tested = values(run, "test_cost");
    const hollow = run.partial ? run.epochs.at(-1).epoch : undefined;
    return [{ name: title(run, "training cost"), points: values(run, "cost"), hollow,
      className: coloured(several ? place : 0) },
      ...(tested.length ? [{ name: title(run, `${judged(run)} cost`), points: tested, hollow, className: coloured(several ? place : 1),
        dash: "6 4" }] : [])];
  });
  const rights = shown.map((run) => ({ name: title(run, rightWords(run)), points: values(run, "accuracy"),
    className: coloured(several ? runs.indexOf(run) : 1) })).filter(({ points }) => points.length);
  const holder = element("div");
  // One axis of epochs for both, and where sequences grow: a cost that jumps there is no harm.
  const epochs = shown.flatMap((run) => run.epochs.map((row) => row.epoch));
  const domain = epochs.length ? [Math.min(...epochs), Math.max(...epochs)] : [];
  const marks = several ? [] : shown[0].epochs.slice(1).flatMap((row, place) =>
    row.level && row.level !== shown[0].epochs[place].level ? [[row.epoch - 0.5, `level ${row.level}`]] : []);
  const draw = (log) => holder.replaceChildren(lineChart(costs, { xLabel: "epoch", yLabel: `cost, ${costWords(shown[0])}`, log,
    range: log ? [] : [0], domain, marks, label: `Cost by epoch. ${shown.map(summary).join(" ")}` }));
  draw(false);
  return [
    element("div", { class: "row" }, choice("scale of the cost", [[false, "linear"], [true, "logarithmic"]], false, draw)),
    holder,
    rights.length ? lineChart(rights, { xLabel: "epoch", yLabel: rightWords(shown[0]), range: [0, 1], height: 170, domain, marks,
      label: `${isTask(shown[0]) ? "Right" : "Images right"} by epoch. ${shown.map(summary).join(" ")}`, format: shortPercent })
      : muted(`No test ${isTask(shown[0]) ? "examples" : "images"} were evaluated in this run.`),
    ...shown.map((run) => element("p", { text: several ? `${runTitle(run)}: ${summary(run)}` : summary(run) })),
  ];
}

/** Whether a run's data are drawn by seed, and no images. */
const isTask = (run) => !/^mnist/.test(run.config?.data?.name ?? "mnist");

/** Which images a run was judged on: test, or validation. */
const judged = (run) => run.config?.data?.judge ?? "test";

/** What an accuracy is a share of: images right, or bits, or sums. */
const rightWords = (run) => run.right_words ?? `${judged(run)} images right`;

/** What a cost is: the mean per image, or of a task what it is counted in. */
const costWords = (run) => run.cost_words ?? "mean per image";

const shortPercent = (share) => percent(share, Number.isInteger(Math.round(share * 1e6) / 1e4) ? 0 : 1);

/** What the curves of these runs are called. */
const curvesTitle = (runs) => (runs.some(isTask) ? "Cost and share right" : "Cost and test images right");

/** What the curves show, in words. */
function summary(run) {
  const rows = run.epochs;
  const first = rows[0], last = rows[rows.length - 1];
  const broken = rows.filter((row) => !isNumber(row.cost)).map((row) => row.epoch);
  const best = rows.filter((row) => isNumber(row.accuracy))
    .reduce((top, row) => (!top || row.accuracy > top.accuracy ? row : top), null);
  const whole = plural(rows.length - (run.partial ? 1 : 0), run.partial ? "whole epoch" : "epoch");
  const partial = run.partial ? ` Of epoch ${last.epoch}, drawn as a hollow point, there is only ${run.partial}.` : "";
  return `${whole}: training cost from ${figure(first.cost)} to ${figure(last.cost)}` +
    `${isNumber(last.test_cost) ? `, ${judged(run)} cost at the end ${figure(last.test_cost)}` : ""}` +
    `${best ? `; most ${rightWords(run)} ${percent(best.accuracy)}, first at epoch ${best.epoch}` : ""}.${partial}` +
    (broken.length ? ` Epochs whose cost is not finite: ${broken.slice(0, 5).join(", ")}${broken.length > 5 ? ", …" : ""}.` : "");
}
