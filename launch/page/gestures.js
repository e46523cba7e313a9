// Knows what hands do on the timeline: wheel, drag, pinch, double click, keys. Tells a target what they mean.
//
// The target has: view, lay, changed(), point(x, y, pointer), leave(), step(direction), help(), clear().

const PAN_KEYS = { ArrowLeft: -0.15, ArrowRight: 0.15, PageUp: -0.9, PageDown: 0.9 };

/** Listens on a canvas for the target. */
function listen(canvas, target) {
  const pointers = new Map();
  let far = 0; // how far the pointer has moved since it was pressed: a tap is no drag
  const local = (event) => {
    const edge = canvas.getBoundingClientRect();
    return { x: event.clientX - edge.left, y: event.clientY - edge.top };
  };
  const share = (x) => between(0, (x - target.lay.left) / target.lay.width, 1);

  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1;
    const across = event.shiftKey && !event.deltaX ? event.deltaY : event.deltaX;
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) target.view.pan((across * lines) / target.lay.width);
    else target.view.zoom(Math.exp(between(-240, event.deltaY * lines, 240) * (event.ctrlKey ? 0.01 : 0.0022)),
      share(local(event).x));
    target.changed();
  }, { passive: false });

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    pointers.set(event.pointerId, local(event));
    far = 0;
    canvas.setPointerCapture(event.pointerId);
  });

  canvas.addEventListener("pointermove", (event) => {
    const now = local(event), before = pointers.get(event.pointerId);
    if (!before) { target.point(now.x, now.y, event.pointerType); return; }
    const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      const [old, distance] = [before, now].map((point) => Math.max(12, Math.abs(point.x - other.x)));
      target.view.zoom(old / distance, share((now.x + other.x) / 2));
      target.view.pan(-(now.x - before.x) / 2 / target.lay.width);
      far = Infinity;
    } else {
      far += Math.abs(now.x - before.x) + Math.abs(now.y - before.y);
      if (far > 4) target.view.pan(-(now.x - before.x) / target.lay.width);
    }
    pointers.set(event.pointerId, now);
    if (far > 4) { target.leave(); target.changed(); }
  });

  canvas.addEventListener("pointerup", (event) => {
    if (pointers.delete(event.pointerId) && far <= 4) {
      const { x, y } = local(event);
      target.point(x, y, event.pointerType);
    }
  });
  canvas.addEventListener("pointercancel", (event) => pointers.delete(event.pointerId));
  canvas.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") target.leave(); });

  canvas.addEventListener("dblclick", (event) => {
    target.view.zoom(event.shiftKey ? 3 : 1 / 3, share(local(event).x));
    target.changed();
  });

  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { key } = event;
    if (key in PAN_KEYS) target.view.pan(PAN_KEYS[key]);
    else if (key === "+" || key === "=" || key === "ArrowUp") target.view.zoom(0.7);
    else if (key === "-" || key === "_" || key === "ArrowDown") target.view.zoom(1 / 0.7);
    else if (key === "Home") target.view.all();
    else if (key === "n") target.step(1);
    else if (key === "p") target.step(-1);
    else if (key === "?") target.help();
    else if (key === "Escape") target.clear();
    else return;
    event.preventDefault();
    target.leave();
    target.changed();
  });
}
