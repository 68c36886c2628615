// What the model says: the likeliest class and the probabilities of all, or numbers.
import { element, percent } from "./page.js";

const MOST = 12;
const text = (number) => (Math.abs(number) >= 1000 ? Math.round(number).toLocaleString("en") : String(+number.toPrecision(4)));

export const bars = (model) => {
  const root = element("section", { className: "result" }, element("h2", { textContent: "What it reads" }));
  root.setAttribute("aria-label", "What it reads");
  const value = element("p", { className: "value", id: "value", textContent: "?" });
  const sure = element("p", { className: "sure", id: "sure", textContent: "\u00a0" });
  root.append(element("div", { className: "answer" }, value, sure));
  const names = model.classes ?? [];
  const upright = model.kind === "image" && names.length > 1 && names.length <= MOST && names.every((name) => name.length <= 2);
  const list = element("ol", { className: upright ? "bars upright" : "bars", id: "bars" });
  list.setAttribute("aria-label", "Probabilities");
  root.append(list);
  let rows = [];

  const row = (name) => {
    const item = element("li", {}, element("span", { className: "name", textContent: name }),
      element("span", { className: "track" }, element("i")), element("span", { className: "share" }));
    list.append(item);
    return item;
  };
  const fill = (pairs, best) => {
    if (rows.length !== pairs.length) {
      list.replaceChildren();
      rows = pairs.map(([name]) => row(name));
    }
    pairs.forEach(([name, share, said], at) => {
      const [label, track, number] = rows[at].children;
      label.textContent = name;
      number.textContent = said;
      track.firstChild.style.setProperty("--share", share.toFixed(4));
      rows[at].classList.toggle("best", name === best);
    });
  };
  const shares = (of, shown) => {
    const pairs = of.map((share, at) => [names[at] ?? `output ${at + 1}`, share, percent(share)]);
    if (!upright && pairs.length > MOST) pairs.sort((a, b) => b[1] - a[1]).splice(MOST);
    value.textContent = shown;
    value.classList.toggle("long", shown.length > 3);
    sure.textContent = `${percent(Math.max(...of))} sure`;
    root.classList.add("live");
    fill(pairs, shown);
  };
  const numbers = (pairs) => {
    const [[name, number]] = pairs;
    value.textContent = typeof number === "number" ? text(number) : String(number);
    value.classList.toggle("long", value.textContent.length > 3);
    sure.textContent = pairs.length === 1 ? name : "";
    root.classList.add("live");
    if (pairs.length === 1) return list.replaceChildren();
    const top = Math.max(...pairs.map(([, each]) => Math.abs(+each))) || 1;
    fill(pairs.slice(0, MOST).map(([each, of]) => [each, Math.max(0, +of / top), typeof of === "number" ? text(of) : String(of)]), name);
  };

  const show = (answer) => {
    if (answer.probabilities) return shares(answer.probabilities[0], answer.predictions[0]);
    const said = answer.predictions?.[0];
    if (said && typeof said === "object") {
      const of = Object.entries(said).filter(([name]) => name.startsWith("probability of "));
      const [label] = model.labels;
      if (model.task === "classification") {
        names.splice(0, names.length, ...of.map(([name]) => name.slice("probability of ".length)));
        return shares(of.map(([, share]) => share), String(said[label]));
      }
      if (of.length) return shares(of.map(([, share]) => share), Object.keys(said).filter((name) => said[name] === true).join(", ") || "none");
      return numbers(Object.entries(said));
    }
    return numbers([answer.outputs].flat(3).map((number, at) => [`output ${at + 1}`, number]));
  };
  const rest = () => {
    value.textContent = "?";
    value.classList.remove("long");
    sure.textContent = "\u00a0";
    root.classList.remove("live");
    if (names.length && (upright || names.length <= MOST)) fill(names.map((name) => [name, 0, ""]), null);
  };
  rest();
  return { root, show, rest };
};
