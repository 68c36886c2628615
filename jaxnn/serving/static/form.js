// A form for the columns of a table, or for a few numbers: the prediction moves with every change.
import { bars } from "./bars.js";
import { element, latest, say } from "./page.js";

const MOST = 64; // fields
const shown = (number) => (number === undefined || number === null ? "" : String(+number.toPrecision(4)));

const field = (column, at) => {
  const id = `field-${at}`;
  let input;
  if (column.kind === "category") {
    input = element("select", {});
    column.values.forEach((value, of) => input.append(element("option", { value: String(of), textContent: String(value), selected: value === column.usual })));
    input.append(element("option", { value: "", textContent: "not known", selected: column.usual === null }));
  } else if (column.kind === "date") {
    input = element("input", { type: "date", value: column.usual ?? "" });
  } else {
    input = element("input", { type: "number", step: "any", value: shown(column.usual), inputMode: "decimal", placeholder: "not known" });
  }
  Object.assign(input, { id, autocomplete: "off" });
  const label = element("label", { htmlFor: id, textContent: column.name.replaceAll("_", " ") });
  const read = () => {
    if (input.value === "") return null;
    if (column.kind === "category") return column.values[+input.value];
    return column.kind === "date" ? input.value : input.valueAsNumber;
  };
  const initial = input.value;
  const reset = () => { input.value = initial; };
  return { root: element("div", { className: "field" }, label, input), name: column.name, read, reset };
};

export const fills = (model, main, head) => {
  const table = model.kind === "table";
  const count = model.inputs.shape?.length === 1 ? model.inputs.shape[0] : 0;
  const columns = table ? model.columns
    : count && count <= MOST ? Array.from({ length: count }, (_, at) => ({ name: `input ${at + 1}`, kind: "number", usual: 0 })) : null;
  head(table ? "Fill in a row, and see what it predicts" : "Enter numbers, and see what it predicts");
  main.className = "filling";
  const result = bars(model);
  result.root.querySelector("h2").textContent = table ? model.labels.join(", ").replaceAll("_", " ") : "What it predicts";
  const wrong = element("p", { className: "wrong", id: "wrong", hidden: true });
  wrong.setAttribute("role", "alert");
  const send = latest((answer) => {
    wrong.hidden = true;
    result.show(answer);
    say(`It predicts ${document.getElementById("value").textContent}, ${document.getElementById("sure").textContent}`);
  }, (error) => {
    wrong.textContent = error;
    wrong.hidden = false;
  });

  const form = element("form", { className: "form", autocomplete: "off" });
  form.addEventListener("submit", (event) => event.preventDefault());
  const place = element("section", { className: "entry" }, element("h2", { textContent: table ? "The row" : "The inputs" }), form);
  place.setAttribute("aria-label", table ? "The row" : "The inputs");
  if (columns) {
    const fields = columns.map(field);
    const grid = element("div", { className: "fields" }, ...fields.map((each) => each.root));
    const reset = element("button", { type: "button", id: "reset", textContent: "Typical values" });
    form.append(grid, element("div", { className: "buttons" }, reset));
    const changed = () => send(table
      ? { rows: [Object.fromEntries(fields.map((each) => [each.name, each.read()]))] }
      : { inputs: [fields.map((each) => each.read() ?? 0)] });
    form.addEventListener("input", changed);
    reset.addEventListener("click", () => { fields.forEach((each) => each.reset()); changed(); });
    changed();
  } else {
    const zeros = ([first, ...rest]) => (first === undefined ? 0 : Array.from({ length: first ?? 1 }, () => zeros(rest)));
    const example = model.inputs.shape ? zeros(model.inputs.shape) : null;
    const area = element("textarea", { id: "json", rows: 10, spellcheck: false, value: JSON.stringify({ inputs: [example] }) });
    const go = element("button", { type: "submit", className: "first", textContent: "Predict" });
    form.append(element("label", { htmlFor: "json", textContent: "JSON" }), area, element("div", { className: "buttons" }, go));
    form.addEventListener("submit", () => {
      try {
        send(JSON.parse(area.value));
      } catch (error) {
        wrong.textContent = `It is not JSON: ${error.message}`;
        wrong.hidden = false;
      }
    });
  }
  result.root.append(wrong);
  main.append(place, result.root);
};
