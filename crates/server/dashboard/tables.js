// The view of what the target has: the tables of a row store, or the servers of a cluster.

import { ask, button, bytes, count, get, make, path, table, text } from "./page.js";

// The forms in which rows leave, as their files are named.
const forms = [["csv", "CSV"], ["jsonl", "JSON lines"], ["parquet", "Parquet"]];

export async function tables(view) {
  // Another target has none, and says so.
  const cluster = await get("/v1/cluster").catch(() => null);
  if (cluster) return servers(view, cluster);
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

function servers(view, cluster) {
  const rows = cluster.servers.map((one) => [
    one.shard, one.replica, one.server, one.version ?? "unknown",
    one.unreachable ? `is not reachable: ${one.unreachable}` : lag(one.replicated),
  ]);
  view.append(make("h2", {}, `Cluster ${cluster.cluster}`),
    table("servers", ["Shard", "Replica", "Server", "Version", "Replicated tables"], rows, "It has none."));
}

// How far the replicas of a server are behind the others.
function lag(replicated) {
  const readOnly = replicated.filter((one) => one.is_read_only).map((one) => one.table);
  const behind = Math.max(0, ...replicated.map((one) => one.delay_s));
  const steps = replicated.reduce((sum, one) => sum + one.queue, 0);
  return [
    `${count(replicated.length)}`, behind > 0 && `${count(behind)} s behind`, steps > 0 && `${count(steps)} steps to do`,
    readOnly.length > 0 && `read-only: ${readOnly.join(", ")}`,
  ].filter(Boolean).join(", ");
}

// What holds a table, or keeps it from being backed up.
function standing(one) {
  if (one.refused) return `is not backed up: ${one.refused}`;
  const held = { backup: "is backed up", restoring: "is restored", mending: "is mended" }[one.state];
  return held ? `${held} by ${one.operation}` : "ready";
}
