// Knows the strip above the timeline: the whole run in small, with the current window, which can be dragged or put elsewhere.

class Overview {
  /** `moved(start, end)` is called when the window is dragged. */
  constructor(trace, view, moved) {
    Object.assign(this, { trace, view, moved });
    this.whole = { start: view.least, end: view.most, length: view.most - view.least };
    this.canvas = element("canvas", { class: "overview", role: "img",
      "aria-label": "The whole run; the frame is the window that the timeline below shows. Drag it to move." });
    this.context = this.canvas.getContext("2d");
    this.aggregate = null;
    this.canvas.addEventListener("pointerdown", (event) => this.press(event));
    this.canvas.addEventListener("pointermove", (event) => this.drag(event));
    for (const name of ["pointerup", "pointercancel"]) this.canvas.addEventListener(name, () => { this.held = null; });
  }

  resize(width, left, ratio) {
    const lanes = this.trace.lanes;
    this.lane = between(2, Math.floor(56 / Math.max(1, lanes)), 12);
    this.height = Math.max(24, lanes * (this.lane + 1) + 7);
    Object.assign(this, { width, left, ratio, inner: Math.max(40, width - left - 8) });
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(this.height * ratio);
    this.canvas.style.height = `${this.height}px`;
    this.picture = null;
  }

  /** Draws the whole run once and keeps the picture; then only the frame moves. */
  draw(theme) {
    const { context, ratio, width, height, left, inner } = this;
    if (!this.picture || this.theme !== theme) {
      this.theme = theme;
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.fillStyle = theme.ground;
      context.fillRect(0, 0, width, height);
      for (let lane = 0; lane < this.trace.lanes; lane++) {
        this.aggregate ??= new Aggregate(context);
        this.aggregate.draw(this.trace, lane, this.whole, { x: Math.round(left * ratio), columns: Math.round(inner * ratio),
          y: Math.round((4 + lane * (this.lane + 1)) * ratio), height: Math.max(1, Math.round(this.lane * ratio)) },
          theme.pixels);
      }
      this.picture = context.getImageData(0, 0, this.canvas.width, this.canvas.height);
    } else context.putImageData(this.picture, 0, 0);
    const place = (moment) => left + ((moment - this.whole.start) / this.whole.length) * inner;
    const x = place(this.view.start), end = Math.max(place(this.view.end), x + 3);
    context.globalAlpha = 0.35;
    context.fillStyle = theme.ground;
    context.fillRect(left, 0, x - left, height);
    context.fillRect(end, 0, left + inner - end, height);
    context.globalAlpha = 1;
    context.strokeStyle = theme.focus;
    context.lineWidth = 2;
    context.strokeRect(x, 1, end - x, height - 2);
    context.fillStyle = theme.muted;
    context.font = theme.small;
    context.textAlign = "right";
    context.textBaseline = "middle";
    context.fillText("all", left - 8, height / 2);
  }

  moment(event) {
    const x = event.clientX - this.canvas.getBoundingClientRect().left;
    return this.whole.start + ((x - this.left) / this.inner) * this.whole.length;
  }

  press(event) {
    const moment = this.moment(event);
    const { start, end, length } = this.view;
    const inside = moment >= start && moment <= end;
    this.held = inside ? moment - start : length / 2;
    this.canvas.setPointerCapture(event.pointerId);
    this.drag(event);
    event.preventDefault();
  }

  drag(event) {
    if (this.held === null || this.held === undefined) return;
    const start = this.moment(event) - this.held;
    this.moved(start, start + this.view.length);
  }
}
