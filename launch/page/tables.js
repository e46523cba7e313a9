// Knows the tables that only list: messages, configuration, environment, summary.

/** The section "Messages". */
function messagesOf(run) {
  const rows = run.stats?.messages ?? [];
  if (!rows.length) return [muted("No messages are on record for this run.")];
  return [table(["kind", "from", "to", "count", "bytes", "each", "hop, median", "hop, 99 %", "awaited hop, median"],
  rows.map((row) => [row.kind, row.from, row.to, count(row.count), bytes(row.bytes), bytes(row.bytes / row.count),
    seconds(row.hop_median_s), seconds(row.hop_p99_s), seconds(row.awaited_hop_median_s)]),
  { align: "   nnnnnn", caption: "Messages by kind and way" })];
}

const LONG = 12; // values of a list that are shown

/** A value of JSON in one line. */
function plain(value) {
  if (value === null || value === undefined || value === "") return "–";
  if (Array.isArray(value) && value.length > LONG) {
    return `${JSON.stringify(value.slice(0, LONG)).slice(0, -1)}, … ${value.length} in all]`;
  }
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** The leaves of nested JSON: [dotted name, value in one line]; lists are leaves, but for those of objects. */
function leaves(value, prefix = "") {
  const list = Array.isArray(value) && value.length > 0 && value.every(isObject);
  if ((!isObject(value) && !list) || !Object.keys(value).length) return [[prefix, plain(value)]];
  const entries = list ? value.map((inner, at) => [inner.name ?? at, inner]) : Object.entries(value);
  return entries.flatMap(([key, inner]) => leaves(inner, prefix ? `${prefix}.${key}` : key));
}

/** Nested JSON as one collapsible table a group; single values of the top stand in a group of their own. */
function groups(value, rest) {
  const entries = Object.entries(value ?? {});
  const nested = ([, inner]) => isObject(inner);
  const single = entries.filter((entry) => !nested(entry));
  return [...(single.length ? [[rest, Object.fromEntries(single)]] : []), ...entries.filter(nested)]
    .map(([name, inner]) => collapsible(name, leaves(inner)));
}

function collapsible(name, rows) {
  return element("details", {}, element("summary", {}, element("span", { text: name }),
    element("span", { class: "muted", text: ` ${plural(rows.length, "value")}` })),
  table(["key", "value"], rows.map(([key, value]) => [key, { text: value, class: "code" }]), { caption: "" }));
}

/** The section "Configuration and environment". */
function settingsOf(run) {
  const parts = [["Configuration", groups(run.config, "run")], ["Environment", groups(run.environment, "general")],
    ["Summary", groups(run.summary, "summary")]];
  const block = element("div", { class: "settings" }, parts.map(([name, found]) =>
    element("div", {}, element("h3", { text: name }), found.length ? found : muted(`No ${name.toLowerCase()} is on record.`))));
  const all = (open) => block.querySelectorAll("details").forEach((one) => { one.open = open; });
  return [element("div", { class: "row choice" },
    element("button", { type: "button", text: "Open all", onclick: () => all(true) }),
    element("button", { type: "button", text: "Close all", onclick: () => all(false) })), block];
}
