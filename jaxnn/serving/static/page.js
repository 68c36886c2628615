// The page: asks the server what its model reads, and offers what fits.
import { draws } from "./drawing.js";
import { fills } from "./form.js";
import { writes } from "./writing.js";

export const $ = (id) => document.getElementById(id);

// The token comes behind #, which browsers do not send, and is then removed from the address.
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  sessionStorage.setItem("token", given);
  history.replaceState(null, "", location.pathname);
}

export const ask = (path, body, signal) => {
  const token = sessionStorage.getItem("token");
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  if (!body) return fetch(path, { headers, signal });
  headers["content-type"] = "application/json";
  return fetch(path, { method: "POST", headers, signal, body: JSON.stringify(body) });
};

// Sends the latest of what changes, one request at a time.
export const latest = (show, fail) => {
  let next = null;
  let busy = false;
  const send = async () => {
    busy = true;
    while (next) {
      const body = next;
      next = null;
      try {
        const answer = await ask("/predict", body);
        const content = await answer.json();
        if (answer.ok) show(content, body);
        else fail(content.error);
      } catch {
        fail("The server does not answer. It may have ended.");
      }
    }
    busy = false;
  };
  return (body) => {
    next = body;
    if (body && !busy) send();
  };
};

export const element = (name, attributes = {}, ...children) => {
  const node = Object.assign(document.createElement(name), attributes);
  node.append(...children);
  return node;
};

export const percent = (share) =>
  (share > 0.999 ? "over 99.9 %" : `${(100 * share).toFixed(share < 0.0995 || share > 0.99 ? 1 : 0)} %`);

// The numbers of a colour of the page, in light or in dark.
export const rgb = (name) => {
  const probe = element("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const parts = getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);
  probe.remove();
  return parts;
};

let timer = 0;
export const say = (text) => { // to those who hear the page, when it has come to rest
  clearTimeout(timer);
  timer = setTimeout(() => { $("said").textContent = text; }, 600);
};

const theme = $("theme");
const system = matchMedia("(prefers-color-scheme: dark)");
const turn = (dark) => {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  theme.textContent = dark ? "Light" : "Dark";
  theme.setAttribute("aria-pressed", String(dark));
  theme.setAttribute("aria-label", dark ? "Change to light colours" : "Change to dark colours");
  dispatchEvent(new Event("scheme"));
};
theme.addEventListener("click", () => turn(document.documentElement.dataset.theme !== "dark"));
system.addEventListener("change", (event) => turn(event.matches));
turn(system.matches);

const size = (shape) => shape.map((n) => n ?? "any").join(" × ");
const facts = (model) => {
  const reads = model.kind === "image" ? `reads ${size(model.inputs.shape)} pixels`
    : model.kind === "table" ? `reads ${model.columns.length} columns`
    : model.kind === "tokens" ? "writes text" : "reads numbers";
  const of = Object.entries(model.results).find(([name]) => /(^|\/)test\/accuracy$/.test(name));
  const what = model.kind === "tokens" ? "of held-out tokens foreseen" : "right on held-out examples";
  const right = of && `${(100 * of[1]).toFixed(1)} % ${what}`;
  return [model.name, reads, right].filter(Boolean).join(" · ");
};

const start = async () => {
  const answer = await ask("/model");
  if (answer.status === 401) {
    $("heading").textContent = "This server asks for a token";
    $("main").append(element("p", { textContent: "Open the address that was printed when it started: it ends with #token=…" }));
    return;
  }
  const model = await answer.json();
  document.title = `${model.name}: try it`;
  $("facts").textContent = facts(model);
  const offer = model.writes ? writes : model.kind === "image" ? draws : fills;
  offer(model, $("main"), (heading) => { $("heading").textContent = heading; });
};
start();
