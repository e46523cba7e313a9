// Knows how several runs stand beside each other: key figures, settings that differ, curves, waits on one scale.

/** Key figures of a run: [name, text]. */
function keyFigures(run) {
  const { summary: all = {}, stats } = run;
  return [["status", STATUS[run.status] ?? run.status], ["warnings", run.warnings?.length ?? 0], ["schedule", scheduleOf(run)],
    ["stages", run.reference ? "one process" : run.stages.length], [rightWords(run), percent(all?.accuracy)],
    ["batches a second", figure(all?.batches_per_s)], ["time", seconds(all?.seconds)],
    ["epochs", run.partial ? `${run.epochs.length - 1} and a part` : run.epochs?.length ?? 0],
    ["makespan", seconds(stats?.makespan_s)], ["cost at the end", figure(run.epochs?.at(-1)?.cost)],
    ["digest, first digits", (all?.digest ?? "–").slice(0, 12)]];
}

/** The content of "Runs side by side". */
function comparisonOf(runs) {
  const figures = runs.map(keyFigures);
  const rows = figures[0].map(([name], place) =>
    [name, ...figures.map((own) => ({ text: own[place][1], class: name.startsWith("digest") ? "code" : "" }))]);
  const measured = runs.filter((run) => run.stats?.stages?.length);
  const scale = Math.max(...measured.flatMap((run) => run.stats.stages.map((stage) => stage.total_s)), 1e-9);
  return [
    table(["", ...runs.map(runTitle)], rows, { align: ` ${"n".repeat(runs.length)}`, caption: "Key figures" }),
    differences(runs),
    element("h3", { text: curvesTitle(runs) }), ...curvesOf(runs),
    element("h3", { text: "Where the time went, on one scale" }),
    ...(measured.length ? [waitLegend(), ...measured.flatMap((run) =>
      [element("p", { class: "over" }, element("strong", { text: runTitle(run) }), ` ${seconds(run.stats.makespan_s)}`),
        bars(run.stats.stages, scale)])]
      : [muted("None of these runs left statistics.")]),
  ];
}

/** A table of the settings in which the runs differ. */
function differences(runs) {
  const settings = runs.map((run) => new Map(leaves(run.config ?? {})));
  const keys = [...new Set(settings.flatMap((own) => [...own.keys()]))]
    .filter((key) => new Set(settings.map((own) => own.get(key))).size > 1);
  if (!keys.length) return muted("The runs have the same configuration.");
  return table(["setting", ...runs.map(runTitle)],
    keys.map((key) => [key, ...settings.map((own) => ({ text: own.get(key) ?? "–", class: "code" }))]),
    { caption: "What was set differently" });
}
