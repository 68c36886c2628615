// A text that the model continues, piece by piece as it writes.
import { ask, element, say } from "./page.js";

export const writes = (model, main, head) => {
  head("Begin a text, and let it write on");
  main.className = "writing";
  const prompt = element("textarea", { id: "prompt", rows: 3, value: "The ", spellcheck: false });
  const range = (id, name, low, high, step, value) => {
    const input = element("input", { type: "range", id, min: low, max: high, step, value });
    const shown = element("output", { textContent: value });
    shown.htmlFor = id;
    input.addEventListener("input", () => { shown.textContent = input.value; });
    return { input, root: element("div", { className: "field range" }, element("label", { htmlFor: id, textContent: name }), shown, input) };
  };
  const warmth = range("temperature", "Temperature: low is safe, high is wild", 0, 2, 0.05, 0.8);
  const length = range("length", "Tokens", 20, 1000, 20, 300);
  const go = element("button", { type: "submit", id: "write", className: "first", textContent: "Write" });
  const stop = element("button", { type: "button", id: "stop", textContent: "Stop", disabled: true });
  const form = element("form", { className: "form" }, element("label", { htmlFor: "prompt", textContent: "The beginning" }), prompt,
    element("div", { className: "fields" }, warmth.root, length.root), element("div", { className: "buttons" }, go, stop));
  const given = element("span", { className: "given" });
  const own = element("span", { className: "own" });
  const page = element("p", { className: "text", id: "text" }, given, own);
  const wrong = element("p", { className: "wrong", id: "wrong", hidden: true });
  wrong.setAttribute("role", "alert");
  const entry = element("section", { className: "entry" }, element("h2", { className: "unseen", textContent: "The beginning" }), form);
  const result = element("section", { className: "result" }, element("h2", { textContent: "What it writes" }), page, wrong);
  main.append(entry, result);

  let running = null;
  const busy = (is) => { go.disabled = is; stop.disabled = !is; page.classList.toggle("busy", is); };
  stop.addEventListener("click", () => running?.abort());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (running) return;
    running = new AbortController();
    busy(true);
    wrong.hidden = true;
    given.textContent = prompt.value;
    own.textContent = "";
    const body = { prompt: prompt.value, temperature: warmth.input.valueAsNumber, length: length.input.valueAsNumber, seed: Math.floor(Math.random() * 2 ** 32) };
    try {
      const answer = await ask("/generate", body, running.signal);
      if (!answer.ok) throw new Error((await answer.json()).error);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        const events = (rest + part.value).split("\n\n");
        rest = events.pop();
        for (const each of events) {
          const data = JSON.parse(each.slice(each.indexOf("data: ") + 6));
          if (data.error) throw new Error(data.error);
          if (data.text) own.textContent += data.text;
        }
      }
      say("It has written to the end");
    } catch (error) {
      if (error.name !== "AbortError") {
        wrong.textContent = error.message;
        wrong.hidden = false;
      }
    }
    running = null;
    busy(false);
  });
};
