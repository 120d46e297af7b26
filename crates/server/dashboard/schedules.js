// The views of schedules and of the audit.

import { ask, become, button, get, make, may, operationLink, order, path, problem, sure, table, time } from "./page.js";

// Where a run of a schedule is.
const standing = (run) => run.outcome ?? (run.waits ? `waits: ${run.waits}` : "running");

export async function schedules(view) {
  const list = make("div");
  const show = async () => {
    const rows = (await get("/v1/schedules")).map((one) => [
      one.name, one.work, one.collection, make("code", {}, one.cron), one.time_zone,
      one.paused_at_ms ? "paused" : one.next_at ? time(one.next_at) : one.broken,
      one.last_run ? `${time(one.last_run.due_at)}: ${standing(one.last_run)}` : "",
      operationLink(one.last_run?.operation_id),
      make("div", { class: "row" },
        button("Run now", "operator", () => order("POST", `/v1/schedules/${path(one.name)}/run`, {}), "", `Run ${one.name} now`),
        button(one.paused_at_ms ? "Resume" : "Pause", "admin", async () => {
          await ask("POST", `/v1/schedules/${path(one.name)}/${one.paused_at_ms ? "resume" : "pause"}`, {});
          await show();
        }, "", `${one.paused_at_ms ? "Resume" : "Pause"} ${one.name}`),
        button("Remove", "admin", async () => {
          if (!await sure("Remove this schedule?", `${one.name} does nothing any more. What it did stays.`, "Remove")) return;
          await ask("DELETE", `/v1/schedules/${path(one.name)}`);
          await show();
          document.getElementById("main").focus();
        }, "", `Remove ${one.name}`)),
    ]);
    become(list, table("schedules", ["Name", "Work", "Collection", "Cron", "Zone", "Next (UTC)", "Last run (UTC)", "Operation", "To do"], rows,
      "There is none yet.", (row) => row[0]));
  };
  await show();
  view.append(make("h2", {}, "Schedules"), list);
  if (may("admin")) view.append(await addition(show));
}

// A form that adds a schedule.
async function addition(added) {
  const input = (name, attributes) => make("input", { id: `add-${name}`, required: true, ...attributes });
  const names = await get("/v1/collections").catch(() => []);
  const backedUp = await get("/v1/backups");
  const known = [...new Set([...names, ...backedUp].map((one) => one.collection))].sort();
  const fields = {
    name: input("name", { pattern: "[A-Za-z0-9_][A-Za-z0-9_.\\-]*", size: "14" }),
    collection: make("select", { id: "add-collection" }, known.map((one) => make("option", {}, one))),
    work: make("select", { id: "add-work" }, ["full", "increment", "verify", "prune", "drill"].map((one) => make("option", {}, one))),
    cron: input("cron", { value: "0 3 * * *", size: "14" }),
    time_zone: input("time_zone", { value: Intl.DateTimeFormat().resolvedOptions().timeZone ?? "UTC", size: "18" }),
    keep_last: input("keep_last", { type: "number", min: "1", value: "7", size: "5" }),
  };
  const said = make("div");
  const add = async (event) => {
    event.preventDefault();
    const wish = Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, field.value]));
    if (wish.work === "prune") wish.keep_last = Number(wish.keep_last); else delete wish.keep_last;
    try {
      await ask("POST", "/v1/schedules", wish);
      said.replaceChildren(make("p", { role: "status" }, `${wish.name} was added.`));
      fields.name.value = "";
      await added();
    } catch (error) { said.replaceChildren(problem(error)); }
  };
  const words = { name: "Name", collection: "Collection", work: "Work", cron: "Cron", time_zone: "Time zone", keep_last: "Keep the newest (prune)" };
  return make("section", { class: "panel", "aria-label": "add a schedule" }, make("h3", {}, "Add a schedule"),
    make("form", { onsubmit: add },
      make("div", { class: "row" }, Object.entries(fields).map(([name, field]) => make("label", { for: field.id }, `${words[name]} `, field)),
        make("button", { type: "submit", class: "main" }, "Add"))),
    said);
}

// What a request was told, as words.
const given = (told) => Object.entries(told ?? {}).map(([name, value]) =>
  `${name.replaceAll("_", " ")}: ${typeof value === "string" ? value : JSON.stringify(value)}`).join(", ");

export async function audit(view) {
  view.append(make("h2", {}, "Audit"));
  const rows = (await get("/v1/audit?limit=200")).map((one) => [
    time(one.at), one.who, one.peer, one.request, given(one.arguments), one.outcome ?? "cut off", operationLink(one.operation_id),
  ]);
  view.append(table("audit, the newest first", ["When (UTC)", "Who", "From", "Request", "With", "Outcome", "Operation"], rows, "Nothing was asked yet that changes something."));
}
