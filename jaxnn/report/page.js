"use strict";
(() => {
  const $ = (id) => document.getElementById(id);

  // Light and dark: as the system has it, until the button is pressed.
  const theme = $("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  let dark = system.matches;
  const paint = () => {
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    theme.textContent = dark ? "Light" : "Dark";
    theme.setAttribute("aria-pressed", String(dark));
    theme.setAttribute("aria-label", dark ? "Change to light colours" : "Change to dark colours");
    draw();
  };
  const turn = (to) => { dark = to; paint(); };

  // What was recorded, if anything was.
  const block = $("recorded");
  const timeline = block ? JSON.parse(block.textContent) : null;
  const slider = $("moment");
  let draw = () => {};

  // Signed bytes: value = byte / 127 * scale; -128 is no number.
  const bytes = (packed, kind) => {
    const text = atob(packed.data);
    return kind.from(text, (letter) => letter.charCodeAt(0)); // Int8Array wraps 255 to -1
  };
  const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

  // The colours of negative, zero and positive, and of what is not finite.
  const [negative, zero, positive] = timeline ? timeline.colours.map(rgb) : [];
  const lost = timeline?.colours[3];
  const shade = (share) => {
    const end = share < 0 ? negative : positive;
    return `rgb(${zero.map((from, at) => Math.round(from + (end[at] - from) * Math.abs(share)))})`;
  };

  const moments = (packed, kind) => {
    const all = bytes(packed, kind);
    const size = all.length / packed.shape[0];
    return (at) => all.subarray(at * size, (at + 1) * size);
  };

  // Each returns a function that shows a moment.
  const examples = (shown_data) => {
    const figures = [...document.querySelectorAll(".examples.live .example")];
    const chances = shown_data.chances ? moments(shown_data.chances, Uint8Array) : null;
    const classes = shown_data.names.length;
    return (at) => figures.forEach((figure, place) => {
      const guess = figure.querySelector("b.guess bdi");
      if (shown_data.numbers) {
        guess.textContent = shown_data.numbers[at][place];
        return;
      }
      const said = shown_data.guesses[at][place];
      const label = shown_data.labels[place];
      const mark = figure.querySelector(".mark");
      const known = said >= 0;
      const right = said === label;
      guess.textContent = known ? shown_data.names[said] : "?";
      mark.className = known ? `mark ${right ? "right" : "wrong"}` : "mark";
      mark.textContent = !known ? "not finite"
        : right ? "✓ right" : `✗ wrong: it is ${shown_data.names[label] ?? label}`;
      figure.querySelector(".sure").textContent = known ? shown_data.sure[at][place] : "";
      if (!chances) return;
      const mine = chances(at).subarray(place * classes, (place + 1) * classes);
      figure.querySelectorAll(".bars i").forEach((bar, number) => {
        bar.classList.toggle("guess", number === said);
        const share = mine[number] === 255 ? 0 : mine[number] / 254; // not finite
        bar.firstChild.style.setProperty("--share", share.toFixed(3));
      });
    });
  };

  // As jaxnn.pictures draws them: a wire is 0.2 to 2.4 points wide, and 1 if its weight is lost.
  const wires = (layers) => {
    const paths = (id) => $(id)?.querySelectorAll("path") ?? [];
    const shows = layers.map((layer) => {
      const [lines, nodes] = [paths(layer.wires), paths(layer.nodes)];
      const weights = moments(layer.weights, Int8Array);
      const biases = layer.biases && moments(layer.biases, Int8Array);
      return (at) => {
        weights(at).forEach((weight, place) => {
          const line = lines[place];
          if (!line) return;
          line.style.stroke = weight === -128 ? lost : timeline.colours[weight < 0 ? 0 : 2];
          line.style.strokeWidth = weight === -128 ? 1 : 0.2 + 2.2 * Math.abs(weight) / 127;
        });
        biases?.(at).forEach((bias, place) => {
          if (nodes[place]) nodes[place].style.fill = bias === -128 ? "none" : shade(bias / 127);
        });
      };
    });
    return (at) => shows.forEach((show) => show(at));
  };

  const filters = (packed) => {
    const [, count, high, wide] = packed.shape;
    const columns = Math.min(count, count > 16 ? 8 : 4);
    const canvas = $("filters");
    canvas.width = columns * (wide + 1) - 1;
    canvas.height = Math.ceil(count / columns) * (high + 1) - 1;
    const pen = canvas.getContext("2d");
    const at = moments(packed, Int8Array);
    return (now) => {
      const weights = at(now);
      const image = pen.createImageData(canvas.width, canvas.height);
      weights.forEach((weight, place) => {
        const number = Math.floor(place / (high * wide));
        const [y, x] = [Math.floor(place / wide) % high, place % wide];
        const top = Math.floor(number / columns) * (high + 1) + y;
        const left = (number % columns) * (wide + 1) + x;
        const size = weight === -128 ? 0 : Math.abs(weight) * 2;
        image.data.set([...(weight < 0 ? negative : positive), Math.max(size, 14)], 4 * (top * canvas.width + left));
      });
      pen.putImageData(image, 0, 0);
    };
  };

  const surface = ({ strength, of, points, colours: palette }) => {
    const [, high, wide] = strength.shape;
    const canvas = $("surface");
    const side = 480;
    [canvas.width, canvas.height] = [side, side];
    const pen = canvas.getContext("2d");
    const small = new OffscreenCanvas(wide, high);
    const stronger = moments(strength, Uint8Array);
    const decided = moments({ data: of, shape: strength.shape }, Uint8Array);
    const colours = palette.map(rgb);
    return (now) => {
      const image = new ImageData(wide, high);
      const classes = decided(now);
      stronger(now).forEach((share, place) => {
        const row = high - 1 - Math.floor(place / wide); // the second input grows upwards
        const alpha = share === 255 ? 0 : 25 + share * 0.8;
        image.data.set([...colours[classes[place]], alpha], 4 * (row * wide + place % wide));
      });
      small.getContext("2d").putImageData(image, 0, 0);
      pen.clearRect(0, 0, side, side);
      pen.drawImage(small, 0, 0, side, side);
      points.forEach(([x, y, label]) => {
        pen.beginPath();
        pen.arc(x * side, (1 - y) * side, 10, 0, 7);
        pen.fillStyle = label < 0 ? "#24282e" : palette[label % palette.length];
        pen.fill();
        for (const [wide, colour] of [[5, "#24282e"], [3, "#ffffff"]]) { // seen on every colour
          pen.lineWidth = wide;
          pen.strokeStyle = colour;
          pen.stroke();
        }
      });
    };
  };

  // What is written at every moment stands folded in the page.
  const texts = (moments_of) => (at) => {
    const own = moments_of.children[at].querySelectorAll(".own");
    $("written").querySelectorAll(".own").forEach((text, place) => { text.textContent = own[place]?.textContent ?? ""; });
  };

  if (timeline && slider) {
    const parts = { examples, wires, filters, surface };
    const shows = Object.keys(parts).filter((name) => timeline[name]).map((name) => parts[name](timeline[name]));
    if ($("texts")) shows.push(texts($("texts")));
    const write = (id, words) => { if ($(id)) $(id).textContent = words; };
    const mark = $("mark");
    const play = $("play");
    const last = timeline.steps.length - 1;
    let timer = 0;

    draw = () => {
      const at = slider.valueAsNumber;
      const step = timeline.steps[at].toLocaleString("en");
      const named = `training step ${step}: ${timeline.figures[at]}${timeline.share ? " right" : ""}`;
      write("at-step", step);
      write("at-epoch", timeline.epochs ? timeline.epochs[at].toFixed(1) : "");
      write("at-second", timeline.seconds ? timeline.seconds[at] : "");
      write("at-state", timeline.states[at]);
      const value = $("at-value").firstChild;
      value.textContent = timeline.figures[at];
      value.value = timeline.values[at] ?? "";
      slider.setAttribute("aria-valuetext", named);
      mark.style.left = `${100 * at / last}%`;
      mark.style.top = `${100 - 100 * (timeline.heights[at] ?? 0)}%`;
      mark.hidden = timeline.heights[at] === null;
      shows.forEach((show) => show(at));
    };
    const pause = () => {
      clearInterval(timer);
      timer = 0;
      play.textContent = "▶ Play";
      $("said").textContent = slider.getAttribute("aria-valuetext");
    };
    const begin = () => {
      if (slider.valueAsNumber === last) slider.value = 0;
      draw();
      play.textContent = "❚❚ Pause";
      timer = setInterval(() => {
        slider.value = slider.valueAsNumber + 1;
        draw();
        if (slider.valueAsNumber === last) pause();
      }, 400);
    };
    play.addEventListener("click", () => (timer ? pause() : begin()));
    slider.addEventListener("input", () => { if (timer) pause(); draw(); });
  }

  // Paper unfolds everything.
  const unfold = () => document.querySelectorAll("details").forEach((each) => { each.open = true; });
  addEventListener("beforeprint", unfold);
  matchMedia("print").addEventListener("change", (event) => { if (event.matches) unfold(); });

  theme.addEventListener("click", () => turn(!dark));
  system.addEventListener("change", (event) => turn(event.matches));
  paint();
})();
