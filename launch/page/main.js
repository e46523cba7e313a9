// Knows the page as a whole: reads the data, draws head, contents and sections, switches runs, and says when it is ready.

const report = JSON.parse(document.getElementById("data").textContent);
const timelineOnly = report.sections?.length === 1 && report.sections[0] === "timeline";
const SECTIONS = [["timeline", "Timeline"], ["curves", "Cost and test images right", (run) => curvesOf([run])],
  ["waits", "Where the time went", waitsOf], ["path", "Critical path", pathOf], ["messages", "Messages", messagesOf],
  ["staleness", "Staleness", stalenessOf], ["oracles", "Oracles", oracleOf],
  ["predictions", "Predictions", predictionsOf], ["settings", "Configuration and environment", settingsOf]]
  .filter(([id]) => !report.sections || report.sections.includes(id));

// What only a trace can fill; a run that was not to have one goes without these sections, where they would be empty.
const HAS_TRACE = { timeline: (run) => run.spans?.count, waits: (run) => run.stats, path: (run) => run.stats,
  messages: (run) => run.stats, staleness: (run) => run.stats, oracles: (run) => run.oracle?.length };
const sectionsOf = (run) => SECTIONS.filter(([id]) => !run.untraced || !(id in HAS_TRACE) || HAS_TRACE[id](run));
const titled = (run, id, title) => (id === "curves" ? curvesTitle([run]) : title);
const several = report.runs.length > 1;
const state = { run: -1, timeline: null };
const STATUS = { done: "done", failed: "failed", interrupted: "interrupted", running: "still running", died: "died",
  simulated: "simulated", "summary.json cannot be read": "not known: summary.json cannot be read",
  "config.toml cannot be read": "not known: config.toml cannot be read" };

window.timebox = { firstDrawMs: null, get timeline() { return state.timeline?.api ?? null; } };

async function start() {
  document.getElementById("foot").textContent =
    `Made ${report.made ?? ""} by Timebox ${report.version ?? ""}. This page is whole: it asks no network.`;
  const content = document.getElementById("content");
  content.replaceChildren();
  if (!report.runs.length) { content.append(muted("This report holds no run.")); return; }
  const panel = element("div", { id: "panel" });
  const beside = several && !timelineOnly ? section("comparison", "Runs side by side", []) : null;
  if (several) document.getElementById("top").replaceChildren(title(report.runs));
  if (several) content.append(...(beside ? [beside] : []), tabs(), panel);
  else content.append(panel);
  await show(wanted().run);
  if (beside) beside.append(...comparisonOf(report.runs));
  addEventListener("hashchange", async () => {
    const { run, at } = wanted();
    if (run !== state.run) await show(run);
    if (at) scrollTo(at);
  });
  const { at } = wanted();
  if (at) scrollTo(at);
}

/** What the address asks for: #run=ID&at=SECTION. */
function wanted() {
  const asked = new URLSearchParams(location.hash.slice(1));
  return { run: Math.max(0, report.runs.findIndex((run) => run.run === asked.get("run"))), at: asked.get("at") };
}

const address = (run, at) => `#${new URLSearchParams({ run: report.runs[run].run, ...(at ? { at } : {}) })}`;

function scrollTo(id) {
  const found = document.getElementById(id);
  found?.scrollIntoView();
  found?.focus({ preventScroll: true });
}

function section(id, title, content) {
  return element("section", { id, tabindex: "-1", "aria-labelledby": `${id}-title` },
    element("h2", { id: `${id}-title`, text: title }), content);
}

/** The switch between runs: a list of tabs, as the keyboard expects it. */
function tabs() {
  const keys = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
  const onkeydown = (event) => {
    if (!(event.key in keys)) return;
    event.preventDefault();
    const last = report.runs.length - 1;
    const next = Number.isFinite(keys[event.key]) ? (state.run + keys[event.key] + last + 1) % (last + 1)
      : event.key === "Home" ? 0 : last;
    location.hash = address(next);
    document.getElementById(`tab-${next}`).focus();
  };
  return element("div", { role: "tablist", class: "tabs", "aria-label": "Runs", onkeydown }, report.runs.map((run, place) =>
    element("button", { type: "button", role: "tab", id: `tab-${place}`, "aria-controls": "panel", text: runTitle(run),
      onclick: () => { location.hash = address(place); } })));
}

/** Shows a run: the timeline first, because that is what one waits for, then the rest. */
async function show(place) {
  state.run = place;
  const run = report.runs[place];
  state.timeline?.close();
  state.timeline = null;
  document.getElementById("nav").replaceChildren(element("ul", {},
    [...(several && !timelineOnly ? [["comparison", "Side by side"]] : []), ...sectionsOf(run)]
    .map(([id, title]) => element("li", {}, element("a", { href: address(place, id), text: titled(run, id, title) })))));
  report.runs.forEach((_, at) => {
    const tab = document.getElementById(`tab-${at}`);
    tab?.setAttribute("aria-selected", String(at === place));
    tab?.setAttribute("tabindex", at === place ? "0" : "-1");
  });
  const panel = document.getElementById("panel");
  if (several) furnish(panel, { role: "tabpanel", "aria-labelledby": `tab-${place}` }, []);
  const own = several ? element("div", { class: "top" }, facts(run)) : null;
  if (!several) document.getElementById("top").replaceChildren(title(report.runs), ...facts(run));
  const chosen = sectionsOf(run);
  const sections = chosen.map(([id, title]) => section(id, titled(run, id, title), []));
  panel.replaceChildren(...(own ? [own] : []), ...sections);
  if (document.getElementById("timeline")) await showTimeline(run, place);
  window.timebox.firstDrawMs ??= performance.now();
  if (state.run !== place) return;
  chosen.forEach(([, , content], at) => { if (content) sections[at].append(...content(run).filter(Boolean)); });
}

async function showTimeline(run, place) {
  const block = element("div");
  document.getElementById("timeline").append(block);
  if (!run.spans?.count) { block.append(muted("This run has no trace: no worker wrote spans.")); return; }
  if (!canInflate()) {
    block.append(muted("This browser cannot inflate the packed trace (it has no DecompressionStream), " +
      "so there is no timeline. A current browser can."));
    return;
  }
  try {
    const trace = await readTrace(run);
    if (state.run === place) state.timeline = new Timeline(trace, block);
  } catch (error) {
    block.append(muted(`The trace in this page cannot be read: ${error.message}`));
  }
}

function title(runs) {
  const [run] = runs;
  const id = several || !run.name ? null : element("small", { class: "muted", text: ` ${run.run}` });
  const [from, to] = run.shown?.batches ?? [];
  const part = !run.shown ? "" : from === to ? `: batch ${from}` : `: batches ${from} to ${to}`;
  const kind = timelineOnly ? `Timebox timeline${part}`
    : several ? `Timebox report of ${runs.length} runs` : "Timebox report";
  return element("div", {}, element("p", { class: "muted", text: kind }),
    element("h1", {}, runs.map(runTitle).join(", "), id));
}

/** A run's facts in short: status and figures, error, warnings, and what recording it cost. */
function facts(run) {
  const { summary: all } = run;
  const tracing = run.stats?.tracing;
  const figures = [["status", STATUS[run.status] ?? run.status], ["schedule", scheduleOf(run)],
    ["stages", run.reference ? "one process"
      : run.stages.length > 4 ? `${run.stages.length}, ${run.stages[0]} to ${run.stages.at(-1)}` : run.stages.join(", ")],
    [rightWords(run), percent(all?.accuracy)], ["batches a second", figure(all?.batches_per_s)],
    ["time", seconds(all?.seconds)]];
  const cost = !isNumber(tracing?.share) ? null : `Recording this run took at least ${percent(tracing.share)} of the busiest ` +
    `worker's time; ${plural(tracing.records, "record")} of ${duration(tracing.record_ns / 1e6)}.`;
  return [
    element("dl", { class: "facts" }, figures.map(([name, value]) =>
      element("div", {}, element("dt", { text: name }),
        element("dd", { class: name === "status" ? `status ${run.status.split(" ")[0]}` : null, text: value })))),
    run.error ? element("p", { class: "note error", role: "note" }, element("strong", { text: "Error. " }), run.error) : null,
    run.warnings?.length ? element("div", { class: "note", role: "note" },
      element("strong", { text: run.warnings.length > 1 ? "Warnings" : "Warning" }),
      element("ul", {}, run.warnings.map((text) => element("li", { text })))) : null,
    run.untraced ? muted(sentence(run.untraced)) : null,
    cost ? muted(cost) : null,
  ].filter(Boolean);
}

window.timebox.ready = start();
