// What the network sees, and what each layer puts out: blue above zero, orange below.
import { element, rgb } from "./page.js";

const words = (name) => name.split("/").at(-1).replaceAll("_", " ").replace(/^activation (\d+)$/, "Layer $1");

const picture = (title, note) => {
  const canvas = element("canvas");
  canvas.setAttribute("aria-hidden", "true");
  const caption = element("figcaption", {}, element("b", { textContent: title }), element("span", { textContent: note }));
  return { canvas, root: element("figure", { className: "stage" }, caption, canvas) };
};

export const layers = (model) => {
  const [high, wide] = model.inputs.shape;
  const root = element("section", { className: "inside" }, element("h2", { textContent: "Inside" }));
  root.setAttribute("aria-label", "Inside the network");
  const seen = picture("What it sees", `${wide} × ${high} pixels`);
  seen.root.classList.add("seen");
  root.append(seen.root);
  if (!model.layers.length) root.append(element("p", { className: "note", textContent: "This model holds no program that shows its layers." }));

  let ink = [];
  let plus = [];
  let minus = [];
  const look = () => { [ink, plus, minus] = [rgb("--ink"), rgb("--plus"), rgb("--minus")]; };

  let image = new Array(high * wide).fill(0);
  const drawSeen = () => {
    seen.canvas.width = wide;
    seen.canvas.height = high;
    const pen = seen.canvas.getContext("2d");
    const pixels = pen.createImageData(wide, high);
    image.forEach((value, at) => pixels.data.set([...ink, Math.round(255 * value)], 4 * at));
    pen.putImageData(pixels, 0, 0);
  };

  const stages = [];
  const stage = (layer) => {
    const maps = layer.shape.length === 3;
    const count = layer.shape[0];
    const cut = count === (maps ? 16 : 128) ? "first " : ""; // the most that are sent
    const note = `${cut}${count} ${maps ? "filters" : "nodes"}`;
    const shown = picture(words(layer.name), note);
    root.append(shown.root);
    return { ...shown, maps, shape: layer.shape, now: new Float32Array(layer.shape.reduce((a, b) => a * b)), target: null };
  };

  const drawNodes = ({ canvas, now }) => {
    const width = canvas.clientWidth || 320;
    const ratio = Math.min(devicePixelRatio || 1, 3);
    // Full rows, if that leaves nodes large enough to be seen.
    const most = Math.min(now.length, Math.floor(width / 12.5));
    const full = Array.from({ length: most }, (_, at) => most - at).find((n) => now.length % n === 0);
    const columns = full >= most / 2 ? full : most;
    const cell = Math.min(width / columns, 24);
    const rows = Math.ceil(now.length / columns);
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(rows * cell * ratio);
    canvas.style.height = `${rows * cell}px`;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    now.forEach((value, at) => {
      const [x, y] = [(at % columns + 0.5) * cell, (Math.floor(at / columns) + 0.5) * cell];
      const share = Math.min(1, Math.abs(value));
      const of = value < 0 ? minus : plus;
      if (share > 0.35) { // it glows
        pen.fillStyle = `rgba(${of}, ${0.16 * share})`;
        pen.beginPath();
        pen.arc(x, y, cell * 0.49, 0, 7);
        pen.fill();
      }
      pen.beginPath();
      pen.arc(x, y, cell * 0.33, 0, 7);
      pen.fillStyle = `rgba(${ink}, 0.09)`;
      pen.fill();
      pen.fillStyle = `rgba(${of}, ${Math.sqrt(share)})`;
      pen.fill();
    });
  };

  const drawMaps = ({ canvas, now, shape: [count, tall, broad] }) => {
    const columns = Math.min(count, 8);
    const rows = Math.ceil(count / columns);
    const gap = 1;
    canvas.width = columns * (broad + gap) - gap;
    canvas.height = rows * (tall + gap) - gap;
    const pen = canvas.getContext("2d");
    const pixels = pen.createImageData(canvas.width, canvas.height);
    now.forEach((value, at) => {
      const map = Math.floor(at / (tall * broad));
      const top = Math.floor(map / columns) * (tall + gap) + Math.floor(at / broad) % tall;
      const left = (map % columns) * (broad + gap) + at % broad;
      const of = value < 0 ? minus : plus;
      const share = Math.min(1, Math.abs(value));
      pixels.data.set([...(share > 0.02 ? of : ink), Math.round(255 * Math.max(0.09, Math.sqrt(share)))], 4 * (top * canvas.width + left));
    });
    pen.putImageData(pixels, 0, 0);
  };
  const drawStage = (each) => (each.maps ? drawMaps : drawNodes)(each);

  const still = matchMedia("(prefers-reduced-motion: reduce)");
  let running = 0;
  const move = () => {
    let moving = false;
    for (const each of stages) {
      if (!each.target) continue;
      let most = 0;
      each.now.forEach((value, at) => {
        const far = each.target[at] - value;
        most = Math.max(most, Math.abs(far));
        each.now[at] = still.matches || Math.abs(far) < 0.01 ? each.target[at] : value + 0.3 * far;
      });
      if (most < 0.01) each.target = null;
      moving ||= most >= 0.01;
      drawStage(each);
    }
    running = moving ? requestAnimationFrame(move) : 0;
  };
  const run = () => { running ||= requestAnimationFrame(move); };

  const again = () => { look(); drawSeen(); stages.forEach(drawStage); };
  addEventListener("scheme", again);
  addEventListener("resize", again);

  const show = (answer) => {
    if (answer.seen) {
      const { high: top, inverted } = model.image;
      const flat = answer.seen.flat().map((pixel) => (Array.isArray(pixel) ? pixel[0] : pixel) / top);
      image = flat.map((value) => (inverted ? 1 - value : value));
      drawSeen();
    }
    (answer.layers ?? []).forEach((layer, at) => {
      if (!stages[at]) return;
      const bytes = Int8Array.from(atob(layer.data), (letter) => letter.charCodeAt(0));
      stages[at].target = Float32Array.from(bytes, (value) => value / 127);
    });
    run();
  };
  const rest = () => {
    image.fill(0);
    drawSeen();
    for (const each of stages) each.target = new Float32Array(each.now.length);
    run();
  };
  look();
  drawSeen();
  model.layers.forEach((layer, at) => { stages[at] = stage(layer); });
  if (model.layers.length) seen.root.append(element("p", { className: "note", textContent: "Each node below weighs what is before it. The stronger its colour, the more it puts out." }));
  requestAnimationFrame(again);
  return { root, show, rest };
};
