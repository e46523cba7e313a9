// Knows the final predictions: draws each test image with its label and what the network made of it, wrong ones first; of a
// task that is drawn by seed, whose examples are no pictures, a table.

const SIDE = 28, FIRST_SHOWN = 120;

/** The section "Predictions". */
function predictionsOf(run) {
  const all = run.predictions;
  if (all?.rows) {
    return [element("p", { text: `${all.words}. The least right ones come first.` }),
      table(all.columns, all.rows.map((row) => row.map((cell) => ({ text: short(cell) }))), { align: "nnnn", caption: "Predictions" })];
  }
  const given = all?.labels?.length ?? 0;
  if (!given) return [muted("This run ended without predictions.")];
  const pixels = fromBase64(all.pixels ?? "");
  const wrong = (at) => all.labels[at] !== all.predictions[at];
  const order = Array.from({ length: given }, (_, at) => at).sort((a, b) => wrong(b) - wrong(a) || a - b);
  const missed = order.filter(wrong).length;
  const list = element("ul", { class: "digits" });
  const add = (from, to) => list.append(...order.slice(from, to).map((at) => digit(all, pixels, at, wrong(at))));
  add(0, FIRST_SHOWN);
  const more = given > FIRST_SHOWN ? element("button", { type: "button", text: `Show all ${count(given)}`,
    onclick: (event) => { event.target.remove(); add(FIRST_SHOWN, given); } }) : null;
  const part = given < all.total ? ` ${count(given)} of them are kept here, ${missed} of these wrong.` : "";
  const words = `${count(all.right)} of ${count(all.total)} ${judged(run)} images right (${percent(all.right / all.total)}).${part}` +
    `${missed ? " Wrong ones come first and are marked: label → prediction." : ""}`;
  return [element("p", { text: words }), list, more];
}

/** A number in few digits. */
const short = (cell) => (cell.length > 8 ? String(Number(Number(cell).toPrecision(4))) : cell);

function digit(all, pixels, at, isWrong) {
  const canvas = element("canvas", { width: SIDE, height: SIDE, "aria-hidden": "true" });
  const image = new ImageData(SIDE, SIDE);
  for (let place = 0; place < SIDE * SIDE; place++) image.data[4 * place + 3] = pixels[at * SIDE * SIDE + place] ?? 0; // ink
  canvas.getContext("2d").putImageData(image, 0, 0);
  const label = all.labels[at], prediction = all.predictions[at];
  const words = isWrong ? `${label} → ${prediction} ✗` : String(prediction);
  return element("li", { class: isWrong ? "wrong" : null,
    title: `image ${all.places?.[at] ?? at}: label ${label}, prediction ${prediction}` },
    canvas, element("span", { text: words }));
}
