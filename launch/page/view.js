// Knows which window of time is shown and where lanes lie on the canvas. Pure arithmetic: no canvas, no events.

const AXIS = 24; // height of the time axis, in CSS pixels
const SHORTEST = 0.002; // ms: the narrowest window

/** A window of time [start, end], in ms, that stays within the run and some margin. */
class View {
  constructor(first, end) {
    const margin = Math.max((end - first) * 0.01, SHORTEST);
    this.least = first - margin;
    this.most = Math.max(end, first) + margin;
    this.set(this.least, this.most);
  }

  set(start, end) {
    const whole = this.most - this.least;
    const length = between(Math.min(SHORTEST, whole), end - start, whole);
    const middle = (start + end) / 2;
    this.start = between(this.least, middle - length / 2, this.most - length);
    this.end = this.start + length;
  }

  get length() { return this.end - this.start; }

  pan(share) {
    const moved = between(this.least - this.start, share * this.length, this.most - this.end);
    this.set(this.start + moved, this.end + moved);
  }

  /** Zooms by a factor (below 1 shows less) around the moment at a share of the window, which stays in place. */
  zoom(factor, share = 0.5) {
    const moment = this.start + share * this.length;
    const length = between(SHORTEST, this.length * factor, this.most - this.least);
    this.set(moment - share * length, moment + (1 - share) * length);
  }

  all() { this.set(this.least, this.most); }
}

/** Where the lanes lie on a canvas of some width: all in CSS pixels. */
function layLanes(names, width) {
  const many = names.length;
  const longest = Math.max(4, ...names.map((name) => String(name).length));
  const left = Math.min(Math.ceil(longest * 7 + 16), Math.max(56, Math.floor(width * 0.2)));
  const height = many <= 4 ? 40 : many <= 8 ? 32 : many <= 16 ? 24 : 15;
  const gap = many <= 8 ? 24 : many <= 16 ? 16 : 7;
  const top = (lane) => AXIS + gap + lane * (height + gap);
  return { left, width: Math.max(40, width - left - 8), height, gap, top, lanes: many, bottom: top(many) };
}

/** The x of a moment, in CSS pixels. */
const placeOf = (moment, view, lay) => lay.left + ((moment - view.start) / view.length) * lay.width;

/** The moment at an x. */
const momentAt = (x, view, lay) => view.start + ((x - lay.left) / lay.width) * view.length;

/** The lane at a y, or -1 between lanes. */
function laneAt(y, lay) {
  const lane = Math.floor((y - AXIS - lay.gap) / (lay.height + lay.gap));
  return lane >= 0 && lane < lay.lanes && y <= lay.top(lane) + lay.height ? lane : -1;
}
