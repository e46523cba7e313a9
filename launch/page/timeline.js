// Knows the timeline section: its canvas, its fields, the batch in focus. Joins view, paint, gestures, overview and tooltip.

const FEW_SPANS = 150; // up to so many, the opening view shows the whole run
const KEYS = [["← →", "earlier, later"], ["+ −", "zoom"], ["Home", "all that is here"], ["n p", "next, previous batch"],
  ["Esc", "no batch in focus"], ["?", "these keys"]];

class Timeline {
  /** `block` is where the section's content goes. */
  constructor(trace, block) {
    this.trace = trace;
    this.view = new View(trace.first, trace.end);
    this.options = { messages: true, credits: false };
    this.focus = null;
    this.times = [];
    this.frames = 0;
    this.build(block);
    this.theme = readTheme(trace.run.parts);
    this.open();
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.frame);
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.rescheme = () => {
      this.theme = readTheme(this.trace.run.parts);
      this.hatch = hatch(this.context, this.theme);
      this.changed();
    };
    this.scheme.addEventListener("change", this.rescheme);
    this.resize();
  }

  build(block) {
    const { trace } = this;
    this.canvas = element("canvas", { class: "lanes", tabindex: "0", role: "application",
      "aria-label": "Timeline: a lane for each stage. Press ? for its keys.",
      "aria-describedby": "timeline-now timeline-batch" });
    this.context = this.canvas.getContext("2d");
    this.aggregate = new Aggregate(this.context);
    this.overview = new Overview(trace, this.view, (start, end) => { this.view.set(start, end); this.changed(); });
    this.tooltip = element("div", { class: "tooltip", role: "tooltip", hidden: true });
    this.now = element("p", { id: "timeline-now", class: "muted now" });
    this.about = element("div", { id: "timeline-batch", "aria-live": "polite" });
    this.keys = element("dl", { class: "keys", hidden: true },
      KEYS.map(([key, what]) => element("div", {}, element("dt", { text: key }), element("dd", { text: what }))));
    this.frame = element("div", { class: "frame" }, this.overview.canvas, this.canvas, this.tooltip);
    block.replaceChildren(this.controls(), this.legend(), this.frame, this.now, this.keys, this.about);
    listen(this.canvas, this);
  }

  controls() {
    const { trace } = this;
    this.field = element("input", { type: "number", id: "batch", min: trace.firstBatch, max: trace.lastBatch, step: 1,
      value: trace.firstBatch, "aria-label": `batch, ${trace.firstBatch} to ${trace.lastBatch}` });
    const go = (event) => { event.preventDefault(); this.goTo(Number(this.field.value)); };
    const button = (text, label, act) =>
      element("button", { type: "button", text, "aria-label": label, title: label, onclick: () => { act(); this.changed(); } });
    const toggle = (text, name) => element("label", {}, element("input", { type: "checkbox", name,
      checked: this.options[name], onchange: (event) => { this.options[name] = event.target.checked; this.changed(); } }),
        ` ${text}`);
    const credits = trace.kinds.some((kind) => isCredit(trace.run.kinds[kind]));
    return element("form", { class: "controls", onsubmit: go, novalidate: true },
      element("span", {}, element("label", { for: "batch", text: "batch " }), this.field, " ",
        element("button", { text: "Go to batch" })),
      element("span", { class: "choice" }, button("‹", "previous batch on record (p)", () => this.step(-1)),
        button("›", "next batch on record (n)", () => this.step(1))),
      element("span", { class: "choice" }, button("−", "show more time (−)", () => this.view.zoom(1.6)),
        button("+", "show less time (+)", () => this.view.zoom(1 / 1.6)),
        button("All", `${trace.run.shown ? "all of this part" : "the whole run"} (Home)`, () => this.view.all())),
      trace.messages.count ? toggle("messages", "messages") : null, credits ? toggle("credits", "credits") : null,
      button("?", "keys (?)", () => this.help()));
  }

  legend() {
    const { trace } = this;
    const mark = (name, text) => element("li", {}, element("i", { class: `mark ${name}`, "aria-hidden": "true" }), text);
    const arrows = trace.messages.count
      ? [element("li", { class: "muted", text: "→ message (dashed: target; short dashes: increment; dots: credit)" })] : [];
    return element("ul", { class: "legend" },
      trace.parts.map((part) => mark(`part-${trace.run.parts[part]}`, trace.run.parts[part])),
      trace.waits.count ? [mark("starved", "starved: waits for a stage before it"),
        mark("blocked", "blocked: waits for a stage after it, or for credit")] : [],
      trace.gaps.count ? [mark("gap", "not on record: busy or idle, nobody knows")] : [], arrows);
  }

  /** The opening view: all of a short run, else a batch in the middle of what is on record. */
  open() {
    const { trace } = this;
    if (trace.lastBatch < 0) return;
    this.goTo(middleBatch(trace), trace.spans.count <= FEW_SPANS);
  }

  /** Brings a batch into focus, and into view unless it is to `stay`; false for a batch that has no span. */
  goTo(batch, stay = false, note = "") {
    const found = batchOf(this.trace, batch);
    if (!found) {
      const words = this.lack(batch);
      if (this.focus) {
        this.field.value = this.focus.batch;
        this.tell(`${words} Shown is batch ${this.focus.batch}.`);
      } else this.about.replaceChildren(element("p", { role: "status", text: words }));
      return false;
    }
    this.focus = found;
    this.field.value = batch;
    const margin = (found.end - found.start) * 0.12 + SHORTEST;
    if (!stay) this.view.set(found.start - margin, found.end + margin);
    this.tell(note);
    this.changed();
    return true;
  }

  /** Why a batch cannot be shown, in words. */
  lack(batch) {
    const { run, firstBatch, lastBatch, batches } = this.trace;
    const all = run.batches ?? lastBatch + 1;
    if (!(batch >= 0 && batch < all && Number.isInteger(batch))) {
      return `There is no batch ${batch}; this run has batches 0 to ${all - 1}.`;
    }
    const out = batch < firstBatch || batch > lastBatch;
    if (out && run.shown) return `Batch ${batch} is not in this page, which shows batches ${firstBatch} to ${lastBatch}.`;
    if (out) return `Batch ${batch} is not on record; on record are batches from ${firstBatch} to ${lastBatch}.`;
    const place = firstAtLeast(batches, 0, batches.length, batch);
    return `Batch ${batch} is not on record; the nearest that are: ${batches[place - 1]} and ${batches[place]}.`;
  }

  /** Goes to the next batch on record, and says which ones it passed over. */
  step(direction) {
    const { batches, lastBatch } = this.trace;
    if (lastBatch < 0) return;
    const from = this.focus ? this.focus.batch + direction : Number(this.field.value);
    const place = firstAtLeast(batches, 0, batches.length, direction > 0 ? from : from + 1) - (direction > 0 ? 0 : 1);
    const batch = batches[place];
    if (batch === undefined) {
      if (this.focus) this.tell(`This is the ${direction > 0 ? "last" : "first"} batch on record here.`);
      return;
    }
    const [low, high] = direction > 0 ? [from, batch - 1] : [batch + 1, from];
    const passed = low === high ? `Batch ${low} is` : `Batches ${low} to ${high} are`;
    const words = `${passed} not on record, or not whole. This is the ${direction > 0 ? "next" : "previous"} one that is.`;
    this.goTo(batch, false, low > high ? "" : words);
  }

  clear() { this.focus = null; this.about.replaceChildren(); this.changed(); }

  help() { this.keys.hidden = !this.keys.hidden; }

  /** The text of what is in focus: the numbered steps with their times; a note stands above it. */
  tell(note = "") {
    const { trace, focus } = this;
    const { spans, run } = trace;
    const own = focus.spans.filter(({ step }) => step).sort((a, b) => spans.begin[a.at] - spans.begin[b.at]);
    const more = focus.spans.length - own.length;
    const rows = own.map(({ at, step }) => [step.number, run.stages[spans.stage[at] - 1],
      `${actionText(spans, at)} ${step.part}`, step.text,
      duration(spans.begin[at] - focus.start), duration(spans.finish[at] - spans.begin[at])]);
    const words = `Batch ${focus.batch}: ${plural(own.length, "numbered step")} in ` +
      `${duration(focus.end - focus.start)}, from ${moment(focus.start)}` +
      `${more ? `; ${plural(more, "more span")} of it` : ""}. In the order in which they began:`;
    this.about.replaceChildren(...(note ? [element("p", {}, element("strong", { text: note }))] : []),
      element("p", { text: words }),
      table(["step", "stage", "action", "what it is", "begins", "took"], rows, { align: "n   nn", caption: "" }));
  }

  scene() {
    return { trace: this.trace, view: this.view, lay: this.lay, theme: this.theme, focus: this.focus, options: this.options,
      hatch: this.hatch, ratio: this.ratio };
  }

  resize() {
    const width = Math.floor(this.frame.clientWidth);
    const ratio = Math.min(3, window.devicePixelRatio || 1);
    if (!width || (width === this.lay?.whole && ratio === this.ratio)) return;
    this.ratio = ratio;
    this.lay = { ...layLanes(this.trace.run.stages, width), whole: width };
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(this.lay.bottom * ratio);
    this.canvas.style.height = `${this.lay.bottom}px`;
    this.overview.resize(width, this.lay.left, ratio);
    this.hatch = hatch(this.context, this.theme);
    this.draw();
  }

  /** Draws with the next frame, once, however often it is called until then. */
  changed() { this.wanted ??= requestAnimationFrame(() => this.draw()); }

  draw() {
    cancelAnimationFrame(this.wanted);
    this.wanted = undefined;
    if (!this.lay) return;
    const begun = performance.now();
    this.drawn = paint(this.context, this.aggregate, this.scene());
    this.overview.draw(this.theme);
    this.frames++;
    this.times.push(performance.now() - begun);
    if (this.times.length > 600) this.times.shift();
    clearTimeout(this.later);
    this.later = setTimeout(() => this.say(), 150);
  }

  say() {
    const { view, drawn, trace, options } = this;
    const hidden = options.messages && drawn.messages > drawn.arrows;
    const whole = view.start <= trace.first && view.end >= trace.end;
    const { shown, length_ms: all = trace.end } = trace.run;
    const [here, there] = shown?.batches ?? [];
    const part = shown && (here === there ? `batch ${here}` : `batches ${here} to ${there}`);
    const window = !whole ? `${moment(view.start)} to ${moment(view.end)}` : part ?? "the whole run";
    const length = whole && !part ? duration(all)
      : `${duration(whole ? trace.end - trace.first : view.length)} of the run's ${duration(all)}`;
    this.now.textContent = `Shown: ${window}, ${length}: ${plural(drawn.spans, "span")}, ${plural(drawn.waits, "wait")}, ` +
      `${plural(drawn.messages, "message")}${hidden ? " (zoom in to see them)" : ""}. ` +
      `${drawn.aggregated ? "Where spans are smaller than pixels, heights are shares of time. " : ""}` +
      sentence(trace.run.origin ?? "time zero is the begin of the run");
  }

  point(x, y, pointer) {
    const scene = this.scene();
    const found = findAt(scene, x, y);
    if (!found) { this.leave(); return; }
    const top = this.canvas.offsetTop;
    showTooltip(this.tooltip, describe(scene, found), x, y + top, this.frame.clientWidth, pointer === "touch");
  }

  leave() { this.tooltip.hidden = true; }

  close() {
    this.observer.disconnect();
    this.scheme.removeEventListener("change", this.rescheme);
    cancelAnimationFrame(this.wanted);
    clearTimeout(this.later);
  }

  /** What tests and curious people may ask. */
  get api() {
    return {
      view: () => ({ start: this.view.start, end: this.view.end }),
      setView: (start, end) => { this.view.set(start, end); this.changed(); },
      hit: (x, y) => {
        const found = findAt(this.scene(), x, y);
        return found && { ...found, ...describe(this.scene(), found) };
      },
      place: (ms, stage) => ({ x: placeOf(ms, this.view, this.lay), y: this.lay.top(stage - 1) + this.lay.height / 2 }),
      momentAt: (x) => momentAt(x, this.view, this.lay),
      focus: () => this.focus && { batch: this.focus.batch, spans: this.focus.spans.map((own) => own.at),
        steps: this.focus.spans.filter((own) => own.step).map((own) => own.step.number) },
      span: (at) => ({ stage: this.trace.spans.stage[at], begin: this.trace.spans.begin[at],
        finish: this.trace.spans.finish[at],
        step: this.focus?.spans.find((own) => own.at === at)?.step?.number ?? null }),
      stats: () => ({ frames: this.frames, times: [...this.times], ...this.drawn }),
    };
  }
}
