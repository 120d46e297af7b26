// The view of the tables of a row store.

import { ask, button, bytes, count, get, make, path, table, text } from "./page.js";

// The forms in which rows leave, as their files are named.
const forms = [["csv", "CSV"], ["jsonl", "JSON lines"], ["parquet", "Parquet"]];

export async function tables(view) {
  view.append(make("h2", {}, "Tables"));
  const shown = make("div", { role: "status" });
  const describe = async (name) => {
    const response = await ask("GET", `/v1/tables/${path(name)}`, undefined, "text/plain");
    shown.replaceChildren(make("section", { "aria-label": `table ${name}` },
      make("h3", {}, name), text(await response.text(), `what ${name} is`)));
  };
  const rows = (await get("/v1/tables")).map((one) => [
    one.table, one.rows == null ? "unknown" : count(one.rows), bytes(one.bytes), standing(one),
    make("div", { class: "row" },
      button("Describe", "viewer", () => describe(one.table), "", `Describe ${one.table}`),
      // A server that refuses a table may know nothing of its rows.
      !one.refused && forms.map(([form, words]) => make("a", {
        href: `/v1/tables/${path(one.table)}/rows?format=${form}`, download: `${one.table}.${form}`, "aria-label": `${one.table} as ${words}`,
      }, words))),
  ]);
  view.append(table("tables", ["Table", "Rows#", "Bytes#", "State", "To do"], rows, "There is none yet."), shown);
}

// What holds a table, or keeps it from being backed up.
function standing(one) {
  if (one.refused) return `is not backed up: ${one.refused}`;
  const held = { backup: "is backed up", restoring: "is restored", mending: "is mended" }[one.state];
  return held ? `${held} by ${one.operation}` : "ready";
}
