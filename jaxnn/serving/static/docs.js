// The paths as /openapi.json describes them, each with a request that can be copied.
const token = sessionStorage.getItem("token");
const headers = token ? { authorization: `Bearer ${token}` } : {};
const element = (name, text, ...children) => {
  const node = document.createElement(name);
  if (text) node.textContent = text;
  node.append(...children);
  return node;
};

const sample = (schema, name) => {
  if (!schema) return null;
  if (schema.oneOf) return sample(schema.oneOf[0]);
  if (schema.enum) return schema.enum[0];
  if (schema.type === "object") {
    return Object.fromEntries(Object.entries(schema.properties ?? {}).map(([key, each]) => [key, sample(each, key)]));
  }
  if (schema.type === "array") return Array.from({ length: schema.minItems ?? 1 }, () => sample(schema.items));
  const type = [schema.type].flat()[0];
  return type === "string" ? (name === "prompt" ? "Once" : "2026-11-28") : { length: 100, temperature: 0.8, top_k: 40, seed: 1 }[name] ?? 0;
};
const kinds = (schema) => (schema?.oneOf ?? []).map((each) => each.required[0]);

const start = async () => {
  const answer = await fetch("/openapi.json", { headers });
  const main = document.getElementById("main");
  if (!answer.ok) {
    main.append(element("p", (await answer.json()).error));
    return;
  }
  const document_ = await answer.json();
  document.getElementById("heading").textContent = `${document_.info.title}, for programs`;
  main.append(element("p", `${document_.info.summary}.`));
  for (const [path, methods] of Object.entries(document_.paths)) {
    for (const [method, of] of Object.entries(methods)) {
      const section = element("section", "", element("h2", `${method.toUpperCase()} ${path}`), element("p", `${of.summary}.`));
      const schema = of.requestBody?.content["application/json"]?.schema;
      const bearer = document_.security ? " \\\n  -H 'Authorization: Bearer TOKEN'" : "";
      let command = `curl ${location.origin}${path}${bearer}`;
      if (schema) {
        const body = JSON.stringify(sample(schema)).replaceAll("'", "'\\''");
        command += ` \\\n  -H 'Content-Type: application/json' \\\n  -d '${body}'`;
        if (kinds(schema).length > 1) section.append(element("p", `A body has one of: ${kinds(schema).join(", ")}.`));
      }
      const pre = element("pre", command);
      pre.tabIndex = 0;
      section.append(pre);
      if (schema) {
        const list = element("ul");
        for (const [status, { description }] of Object.entries(of.responses)) list.append(element("li", `${status}: ${description}`));
        section.append(list);
      }
      main.append(section);
    }
  }
};
start();
