// A pad to draw on: with every stroke, what the network sees, its layers, and what it reads.
import { bars } from "./bars.js";
import { examples } from "./examples.js";
import { layers } from "./layers.js";
import { element, latest, percent, rgb, say } from "./page.js";

export const draws = (model, main, head) => {
  const digits = model.classes?.length === 10 && model.classes.every((name, n) => name === String(n));
  const thing = digits ? "a digit" : "something";
  head(digits ? "Draw a digit, and watch it being read" : "Draw, and watch it being read");

  const canvas = element("canvas", { id: "pad", width: 720, height: 720 });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `A pad to draw ${thing} on, by mouse, pen or finger`);
  const hint = element("p", { className: "hint", textContent: `Draw ${thing} here` });
  const clear = element("button", { type: "button", id: "clear", textContent: "Clear" });
  const undo = element("button", { type: "button", id: "undo", textContent: "Undo" });
  const show = element("button", { type: "button", id: "show", textContent: "Show me one" });
  const pad = element("div", { className: "pad" }, canvas, hint);
  const buttons = element("div", { className: "buttons" }, clear, undo, ...(digits ? [show] : []));
  const left = element("section", { className: "draw" }, element("h2", { className: "unseen", textContent: "Drawing" }), pad, buttons);
  left.setAttribute("aria-label", "Drawing");

  const inside = layers(model);
  const result = bars(model);
  const wrong = element("p", { className: "wrong", id: "wrong", hidden: true });
  wrong.setAttribute("role", "alert");
  result.root.append(wrong);
  main.className = "drawing";
  main.append(left, inside.root, result.root);

  const strokes = [];
  let current = null;
  let playing = 0;
  const pen = canvas.getContext("2d");
  const paint = () => {
    const side = canvas.width;
    pen.clearRect(0, 0, side, side);
    pen.strokeStyle = `rgb(${rgb("--ink")})`;
    pen.lineWidth = side * 0.058;
    pen.lineCap = pen.lineJoin = "round";
    for (const stroke of strokes) {
      const points = stroke.map(([x, y]) => [x * side, y * side]);
      pen.beginPath();
      pen.moveTo(...points[0]);
      for (let at = 1; at < points.length - 1; at += 1) { // curves through the middles
        const [[x, y], [nextX, nextY]] = [points[at], points[at + 1]];
        pen.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
      }
      pen.lineTo(...points.at(-1));
      pen.stroke();
    }
    hint.hidden = strokes.length > 0;
    clear.disabled = undo.disabled = strokes.length === 0;
  };

  const send = latest((answer) => {
    if (!strokes.length) return;
    wrong.hidden = true;
    inside.show(answer);
    result.show(answer);
    const best = answer.predictions?.[0];
    if (best !== undefined) say(`Read as ${best}, ${percent(Math.max(...answer.probabilities[0]))} sure`);
  }, (error) => {
    wrong.textContent = error;
    wrong.hidden = false;
  });
  const changed = () => {
    paint();
    if (strokes.length) {
      const round = (n) => Math.round(n * 1e4) / 1e4;
      send({ strokes: strokes.map((stroke) => stroke.map((point) => point.map(round))), layers: true });
    } else {
      send(null);
      inside.rest();
      result.rest();
    }
  };
  const stop = () => {
    cancelAnimationFrame(playing);
    if (playing) strokes.length = 0;
    playing = 0;
  };

  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    const share = (n, from, length) => Math.min(1, Math.max(0, (n - from) / length));
    return [share(event.clientX, box.left, box.width), share(event.clientY, box.top, box.height)];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary || event.button > 0) return;
    stop();
    canvas.setPointerCapture(event.pointerId);
    current = [place(event)];
    strokes.push(current);
    changed();
    event.preventDefault();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!current || !event.isPrimary) return;
    const moves = event.getCoalescedEvents?.() ?? [];
    for (const each of moves.length ? moves : [event]) {
      const point = place(each);
      const last = current.at(-1);
      if (Math.hypot(point[0] - last[0], point[1] - last[1]) > 0.004) current.push(point);
    }
    changed();
  });
  const lift = () => { current = null; };
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, lift);
  // No page scrolls under a finger that draws.
  canvas.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });

  const wipe = () => { stop(); strokes.length = 0; changed(); };
  clear.addEventListener("click", wipe);
  undo.addEventListener("click", () => { stop(); strokes.pop(); changed(); });
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") wipe();
    if (event.key === "z" && (event.ctrlKey || event.metaKey)) undo.click();
  });

  // Draws an example as a hand would.
  let number = 2;
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  show.addEventListener("click", () => {
    wipe();
    const whole = examples[(number += 1) % 10];
    if (still.matches) {
      strokes.push(...whole.map((stroke) => [...stroke]));
      changed();
      return;
    }
    const points = whole.flatMap((stroke, of) => stroke.map((point) => [of, point]));
    const start = performance.now();
    let done = 0;
    const step = (now) => {
      const until = Math.min(points.length, Math.ceil((now - start) / 900 * points.length));
      for (; done < until; done += 1) {
        const [of, point] = points[done];
        (strokes[of] ??= []).push(point);
      }
      if (strokes.length) changed();
      playing = done < points.length ? requestAnimationFrame(step) : 0;
    };
    playing = requestAnimationFrame(step);
  });

  addEventListener("scheme", paint);
  changed();
};
