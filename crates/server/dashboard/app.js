// The dashboard: what the API tells, and buttons for what it does. Nothing is loaded from elsewhere.

const main = document.getElementById("main");
const roles = ["viewer", "operator", "admin"];
let me = null;
let leave = () => {};

// Elements: attributes by name, `on…` as listeners, text and elements as children.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child != null && child !== false));
  return element;
}

const may = (role) => me && roles.indexOf(me.role) >= roles.indexOf(role);
const count = (number) => Number(number ?? 0).toLocaleString("en");
const path = (...parts) => parts.map(encodeURIComponent).join("/");

function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let at = 0;
  let value = Number(number ?? 0);
  while (value >= 1024 && at < units.length - 1) { value /= 1024; at += 1; }
  return `${at === 0 ? value : value.toFixed(1)} ${units[at]}`;
}

function duration(seconds) {
  if (seconds == null) return "";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

// Backups tell their time in their ids.
function taken(id) {
  const found = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z/.exec(id ?? "");
  return found ? `${found[1]}-${found[2]}-${found[3]} ${found[4]}:${found[5]}` : id;
}

function say(text) {
  const said = document.getElementById("said");
  said.replaceChildren(make("p", {}, text));
  clearTimeout(say.timer);
  say.timer = setTimeout(() => said.replaceChildren(), 8000);
}

class Problem extends Error {
  constructor(problem, status) {
    super(problem.detail ?? `the server answers with ${status}`);
    this.problem = problem;
    this.status = status;
  }
}

async function ask(method, where, body, accept = "application/json") {
  const headers = { Accept: accept, "X-Mendb-Request": "1" };
  if (body) headers["Content-Type"] = "application/json";
  if (method === "POST" && body) headers["Idempotency-Key"] = key();
  const response = await fetch(where, { method, headers, body: body && JSON.stringify(body), credentials: "same-origin" });
  if (response.status === 401 && me) { me = null; show(); }
  if (!response.ok) throw new Problem(await response.json().catch(() => ({})), response.status);
  return response;
}

const get = async (where) => (await ask("GET", where)).json();

// One press of a button is one order, however often it is sent.
function key() {
  const numbers = crypto.getRandomValues(new Uint32Array(4));
  return "dashboard-" + [...numbers].map((number) => number.toString(16)).join("");
}

function problem(error) {
  const told = error.problem ?? {};
  return make("div", { class: "panel problem", role: "alert" },
    make("p", {}, error.message),
    told.hint && make("p", { class: "soft" }, told.hint));
}

// Asks before something is done. Resolves to whether it may be.
function sure(title, text, yes) {
  const dialog = document.getElementById("ask");
  document.getElementById("ask-title").textContent = title;
  document.getElementById("ask-text").textContent = text;
  document.getElementById("ask-yes").textContent = yes;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

// A button that does something on the server, and goes where it leads.
function button(text, role, act, kind = "") {
  const does = async (event) => {
    const pressed = event.currentTarget;
    pressed.disabled = true;
    try { await act(); } catch (error) { say(error.message + (error.problem?.hint ? ` — ${error.problem.hint}` : "")); }
    pressed.disabled = false;
  };
  return make("button", { type: "button", class: kind, disabled: !may(role), title: may(role) ? null : `takes an ${role}`, onclick: does }, text);
}

// Orders something; an operation that begins is shown.
async function order(method, where, body) {
  const response = await ask(method, where, body ?? (method === "POST" ? {} : undefined));
  const told = await response.json().catch(() => ({}));
  if (response.status === 202) location.hash = `#/operation/${encodeURIComponent(told.operation_id)}`;
  return told;
}

function table(titles, rows, empty) {
  if (rows.length === 0) return make("p", { class: "soft" }, empty);
  const head = titles.map((title) => make("th", { scope: "col", class: title.endsWith("#") ? "number" : null }, title.replace("#", "")));
  const cells = (row) => row.map((cell, at) => make("td", { class: titles[at].endsWith("#") ? "number" : null }, cell ?? ""));
  return make("div", { class: "scroll" }, make("table", {},
    make("thead", {}, make("tr", {}, head)),
    make("tbody", {}, rows.map((row) => make("tr", {}, cells(row))))));
}

const operationLink = (id) => id ? make("a", { href: `#/operation/${encodeURIComponent(id)}` }, id) : "";

// Collections ---------------------------------------------------------------------------------------------------

async function collections(view) {
  const [known, backups] = await Promise.all([get("/v1/collections").catch(() => []), get("/v1/backups")]);
  const names = new Set([...known.map((one) => one.collection), ...backups.map((one) => one.collection)]);
  view.append(make("h2", {}, "Collections"));
  if (names.size === 0) {
    view.append(make("p", {}, "There is none yet. On the machine of the server, mendb collection create NAME --table TABLE names what is backed up together."));
  }
  for (const name of [...names].sort()) {
    const tables = known.find((one) => one.collection === name)?.tables ?? [];
    view.append(collection(name, tables, backups.filter((one) => one.collection === name)));
  }
}

function collection(name, tables, backups) {
  const below = make("div");
  let chosen = [];
  const buttons = [];
  const choose = (backup, pressed) => {
    chosen = chosen.includes(backup) ? chosen.filter((one) => one !== backup) : [...chosen, backup].slice(-2);
    for (const [one, element] of buttons) element.setAttribute("aria-pressed", String(chosen.includes(one)));
    below.replaceChildren(...about(name, chosen, below));
    pressed.focus();
  };
  const mark = (backup) => {
    const isBefore = backup.label?.startsWith("before-");
    const kind = backup.damage ? "damaged" : isBefore ? "before" : backup.kind === "full" ? "full" : "";
    const words = backup.damage ? "damaged" : isBefore ? "state before a mend" : backup.kind;
    const element = make("button", {
      type: "button", class: `backup ${kind}`, "aria-pressed": "false",
      onclick: () => choose(backup, element),
    }, backup.label && !isBefore ? backup.label : taken(backup.backup_id),
    make("small", {}, `${words}, ${count(backup.rows)} rows, ${bytes(backup.new_bytes)}`));
    buttons.push([backup, element]);
    return make("li", {}, element);
  };
  // A chain is a full backup and what stands on it.
  const chains = [];
  const chainOf = new Map();
  for (const backup of backups) {
    const chain = chainOf.get(backup.parent) ?? [];
    if (chain.length === 0) chains.push(chain);
    chain.push(backup);
    chainOf.set(backup.backup_id, chain);
  }
  const newest = [...backups].reverse().find((one) => one.complete && !one.damage);
  return make("section", { class: "panel", "aria-label": `collection ${name}` },
    make("h3", {}, name),
    make("p", { class: "soft" }, tables.length ? `${tables.join(", ")}. ` : "",
      newest ? `Newest complete backup: ${taken(newest.backup_id)} UTC, ${bytes(newest.bytes)}. ` : "No backup yet.",
      newest && (newest.last_proven_restorable_at ? `Last proved restorable by a drill: ${newest.last_proven_restorable_at}.` : "No drill has proved it restorable yet.")),
    make("div", { class: "row" },
      button("Full backup", "operator", () => order("POST", `/v1/collections/${path(name)}/backups`, {}), "main"),
      button("Increment", "operator", () => order("POST", `/v1/collections/${path(name)}/backups`, { incremental: true })),
      button("Verify", "operator", async () => {
        say("Every backup is being read; the answer comes when that is done.");
        const response = await ask("POST", `/v1/collections/${path(name)}/verify`, {}, "text/plain");
        below.replaceChildren(make("pre", { tabindex: "0" }, await response.text()));
      }),
      button("Drill", "operator", () => order("POST", `/v1/collections/${path(name)}/drills`, {})),
      button("Retention", "admin", async () => below.replaceChildren(retention(name)))),
    chains.map((chain) => make("ol", { class: "chain", "aria-label": `chain of ${taken(chain[0].backup_id)}` }, chain.map(mark))),
    backups.length > 0 && make("p", { class: "soft" }, "Choose a backup to restore to, or two to see what differs."),
    below);
}

// Which backups rules would keep, before any goes.
function retention(name) {
  const where = `/v1/collections/${path(name)}/prune`;
  const told = make("div");
  const rules = { keep_last: "newest", keep_daily: "days", keep_weekly: "weeks", keep_monthly: "months", keep_yearly: "years" };
  const inputs = Object.entries(rules).map(([rule, of]) => [rule, make("input", { type: "number", min: "0", max: "9999", id: `${name}-${rule}`, size: "5" }), of]);
  const wish = () => Object.fromEntries(inputs.filter(([, input]) => Number(input.value) > 0).map(([rule, input]) => [rule, Number(input.value)]));
  const look = async () => {
    const rulesNow = wish();
    const text = await (await ask("POST", where, { ...rulesNow, dry_run: true }, "text/plain")).text();
    told.replaceChildren(make("pre", { tabindex: "0" }, text), make("div", { class: "row" },
      button("Carry out", "admin", async () => {
        const sentence = "What is removed or folded is no restore point any more. Backups that stay restore what they did before.";
        if (await sure("Remove what the rules do not want?", sentence, "Carry out")) await order("POST", where, rulesNow);
      }, "main")));
  };
  return make("section", { "aria-label": `retention of ${name}` },
    make("h3", {}, "Keep the newest backup of each of so many"),
    make("div", { class: "row" }, inputs.map(([, input, of]) => make("label", { for: input.id }, `${of} `, input)), button("Preview", "admin", look, "main")),
    told);
}

function about(name, chosen, below) {
  if (chosen.length === 0) return [];
  const named = (backup) => `${name}/${backup.backup_id}`;
  if (chosen.length === 2) {
    const [before, after] = [...chosen].sort((a, b) => a.backup_id.localeCompare(b.backup_id));
    const compare = async () => {
      const query = new URLSearchParams({ before: named(before), after: named(after) });
      const response = await ask("GET", `/v1/diff?${query}`, undefined, "text/plain");
      below.append(make("pre", { tabindex: "0" }, await response.text()));
    };
    return [make("div", { class: "row" }, button(`What changed from ${taken(before.backup_id)} to ${taken(after.backup_id)}`, "viewer", compare, "main"))];
  }
  const [backup] = chosen;
  const facts = [backup.backup_id, backup.label && `label ${backup.label}`, `${count(backup.tables.length)} tables`,
    `${count(backup.rows)} rows`, `${bytes(backup.bytes)}`, backup.parent && `stands on ${taken(backup.parent)}`,
    backup.proven_restorable_at && `proved restorable ${backup.proven_restorable_at}`,
    !backup.complete && "lacks tables", backup.damage].filter(Boolean).join(" · ");
  return [make("p", {}, facts),
    make("div", { class: "row" },
      button("Preview a mend to it", "operator", () => preview(name, backup, below), "main"),
      button("What changed since", "viewer", async () => {
        const response = await ask("GET", `/v1/diff?${new URLSearchParams({ before: named(backup) })}`, undefined, "text/plain");
        below.append(make("pre", { tabindex: "0" }, await response.text()));
      }),
      button("Delete", "admin", async () => {
        const where = `/v1/backups/${path(named(backup))}`;
        if (await sure("Delete this backup?", `${named(backup)} is no restore point any more. Increments that stand on it keep it from going.`, "Delete")) await order("DELETE", where);
      }))];
}

// What a mend would do, before it is approved: the button carries out what is shown, or is refused.
async function preview(name, backup, below) {
  const where = `/v1/collections/${path(name)}/restores`;
  const wish = { in_place: true, to: backup.backup_id };
  const response = await ask("POST", where, { ...wish, dry_run: true }, "text/plain");
  const plan = response.headers.get("Mendb-Plan");
  const go = async () => {
    const text = plan
      ? "What the preview shows is done, or nothing where the tables have changed since. Writers are kept out while it works; readers see the tables as before until all is there. It can be undone."
      : "Tables are planned anew and brought to the backup. What would be lost is kept where there is room, so that it can be undone.";
    if (!await sure("Mend the live tables?", text, "Mend")) return;
    await (plan ? order("POST", `/v1/plans/${path(plan)}`, {}) : order("POST", where, wish));
  };
  below.append(make("section", { "aria-label": "preview of the mend" },
    make("h3", {}, `A mend of ${name} to ${taken(backup.backup_id)} would do this`),
    make("pre", { tabindex: "0" }, await response.text()),
    make("div", { class: "row" }, button("Mend", "operator", go, "main"))));
}

// Operations ----------------------------------------------------------------------------------------------------

const standing = (one) => one.paused ? "paused" : one.state;
const isOver = (one) => ["done", "failed", "cancelled"].includes(one.state);

function listen(where, heard) {
  const source = new EventSource(where);
  source.addEventListener("operation", (event) => heard(JSON.parse(event.data)));
  leave = () => source.close();
}

async function operations(view) {
  view.append(make("h2", {}, "Operations"));
  const list = make("div");
  view.append(list);
  const shown = new Map();
  for (const one of (await get("/v1/operations?newest_first=true&limit=200")).reverse()) shown.set(one.operation_id, one);
  const draw = () => {
    const rows = [...shown.values()].reverse().map((one) => [
      operationLink(one.operation_id), one.kind.replaceAll("_", " "), one.source ?? one.collection,
      make("span", { class: `state-${standing(one)}` }, standing(one)),
      isOver(one) ? "" : make("progress", { max: 100, value: one.percent, "aria-label": `${Math.round(one.percent)} %` }),
      isOver(one) ? one.error ?? "" : `${one.step}${one.eta_seconds ? `, ${duration(one.eta_seconds)} left` : ""}`,
      count(one.rows_done), bytes(one.bytes_done), one.created_at.replace("T", " ").replace("Z", ""),
    ]);
    list.replaceChildren(table(["Operation", "Kind", "Of", "State", "Progress", "Step", "Rows#", "Bytes#", "Begun (UTC)"], rows, "No operation has begun yet."));
  };
  draw();
  let waits = false;
  listen("/v1/events", (one) => {
    shown.set(one.operation_id, one);
    if (waits) return;
    waits = true;
    // Focus stays where it is while somebody uses the list.
    setTimeout(() => { waits = false; if (!list.contains(document.activeElement)) draw(); }, 500);
  });
}

async function operation(view, id) {
  const where = `/v1/operations/${path(id)}`;
  const head = make("div");
  const steps = make("div");
  const map = make("div", { class: "map", role: "group", "aria-label": "shards" });
  const about = make("div", { "aria-live": "polite" });
  const events = make("div");
  const legend = ["waiting", "running", "done", "retried", "failed"].map((kind) =>
    make("li", {}, make("span", { class: `shard ${kind}`, "aria-hidden": "true" }), kind));
  view.append(make("h2", {}, id), head, make("h3", {}, "Steps"), steps, make("h3", {}, "Shards"),
    make("ul", { class: "legend" }, legend), map, about, make("h3", {}, "What happened"), events);
  const cells = new Map();
  // Attempts are counted over all steps: only what happened tells which shard failed before.
  let failedBefore = new Set();
  const fate = (shard) => {
    if (shard.error) return "failed";
    if (failedBefore.has(`${shard.step}: shard ${shard.shard_idx}`)) return "retried";
    return shard.status === "done" || shard.status === "running" ? shard.status : "waiting";
  };
  const tell = (shard) => about.replaceChildren(make("p", { class: "panel" },
    `${shard.step}, shard ${shard.shard_idx}${shard.table ? ` of ${shard.table}` : ""}: ${shard.status}, attempt ${shard.attempt}, ` +
    `${count(shard.rows)} rows, ${bytes(shard.bytes)} of ${bytes(shard.bytes_total)}${shard.error ? `: ${shard.error}` : ""}`));
  map.addEventListener("keydown", (event) => {
    const move = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 20, ArrowUp: -20 }[event.key];
    const all = [...map.children];
    const at = all.indexOf(document.activeElement);
    if (!move || at < 0) return;
    event.preventDefault();
    const next = all[Math.min(Math.max(at + move, 0), all.length - 1)];
    document.activeElement.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
  const draw = async () => {
    const one = await get(where);
    const act = (name, role, title, text) => button(title, role, async () => {
      if (!text || await sure(`${title}?`, text, title)) { await ask("POST", `${where}/${name}`, {}); await draw(); }
    });
    const isMend = one.kind === "mend" || one.kind === "undo";
    head.replaceChildren(
      make("p", {}, `${one.kind.replaceAll("_", " ")} of ${one.source ?? one.collection}${one.backup_id ? `, ${one.backup_id}` : ""}: `,
        make("span", { class: `state-${standing(one)}` }, standing(one)),
        `, ${Math.floor(one.percent)} %, ${count(one.rows_done)} rows, ${bytes(one.bytes_done)}` +
        (isOver(one) ? "" : `, ${bytes(one.bytes_per_second)}/s${one.eta_seconds ? `, ${duration(one.eta_seconds)} left` : ""}`)),
      make("progress", { max: 100, value: one.percent, "aria-label": "progress" }),
      one.error ? make("p", { class: "panel problem" }, one.error) : "",
      make("div", { class: "row" },
        !isOver(one) && !one.paused && act("pause", "operator", "Pause"),
        (one.paused || one.state === "failed") && act("resume", "operator", "Resume"),
        !["done", "cancelled"].includes(one.state) && act("cancel", "operator", "Cancel",
          isMend ? "What is staged goes, and the tables are as they were before. What was made live already is taken back where that can be."
            : "What it has written so far is removed."),
        one.state === "done" && isMend && button("Undo", "operator", async () => {
          const text = await (await ask("POST", `${where}/undo`, { dry_run: true }, "text/plain")).text();
          about.replaceChildren(make("pre", { tabindex: "0" }, text));
          if (await sure("Undo this mend?", "The tables are brought back to what they were before it; what the undo would do is shown below. An undo can be undone.", "Undo")) await order("POST", `${where}/undo`, {});
        })));
    steps.replaceChildren(table(["Step", "State", "Shards#", "Rows#", "Bytes#"], one.steps.map((step) => [
      step.step, make("span", { class: `state-${step.state}` }, step.state), `${step.shards_done}/${step.shards_total}`, count(step.rows), bytes(step.bytes),
    ]), "No steps."));
    failedBefore = new Set(one.events.map((event) => /^(.*: shard \d+) (failed|has lost)/.exec(event.event)?.[1]).filter(Boolean));
    for (const shard of one.shards) {
      const name = `${shard.step}/${shard.shard_idx}`;
      let cell = cells.get(name);
      if (!cell) {
        cell = make("button", { type: "button", tabindex: cells.size === 0 ? "0" : "-1" });
        cell.addEventListener("click", () => tell(cell.shard));
        cells.set(name, cell);
        map.append(cell);
      }
      cell.shard = shard;
      const kind = fate(shard);
      if (cell.kind !== kind) {
        cell.kind = kind;
        cell.className = `shard ${kind}`;
        cell.setAttribute("aria-label", `${shard.step}, shard ${shard.shard_idx}: ${kind}`);
      }
    }
    events.replaceChildren(make("pre", { tabindex: "0" }, one.events.map((event) =>
      `${new Date(event.at_ms).toISOString().replace("T", " ").slice(0, 19)}  ${event.event}`).join("\n")));
    return one;
  };
  await draw();
  let waits = false;
  listen(`${where}/events`, (heard) => {
    if (isOver(heard)) leave();
    if (waits && !isOver(heard)) return;
    waits = true;
    setTimeout(() => { waits = false; draw().catch((error) => say(error.message)); }, isOver(heard) ? 0 : 500);
  });
}

// Schedules and the audit ---------------------------------------------------------------------------------------

async function schedules(view) {
  view.append(make("h2", {}, "Schedules"));
  const rows = (await get("/v1/schedules")).map((one) => [
    one.name, one.work, one.collection, make("code", {}, one.cron), one.time_zone,
    one.paused_at_ms ? "paused" : (one.next_at ?? one.broken ?? "").replace("T", " "),
    one.last_run ? `${one.last_run.due_at.replace("T", " ")}: ${standing(one.last_run)}` : "",
    operationLink(one.last_run?.operation_id),
    make("div", { class: "row" },
      button("Run now", "operator", () => order("POST", `/v1/schedules/${path(one.name)}/run`, {})),
      button(one.paused_at_ms ? "Resume" : "Pause", "admin", async () => {
        await ask("POST", `/v1/schedules/${path(one.name)}/${one.paused_at_ms ? "resume" : "pause"}`, {});
        await show();
      }),
      button("Remove", "admin", async () => {
        if (!await sure("Remove this schedule?", `${one.name} does nothing any more. What it did stays.`, "Remove")) return;
        await ask("DELETE", `/v1/schedules/${path(one.name)}`);
        await show();
      })),
  ]);
  view.append(table(["Name", "Work", "Collection", "Cron", "Zone", "Next", "Last run", "Operation", ""], rows,
    "There is none yet."));
  if (may("admin")) view.append(await addSchedule());
}

/** Where a run of a schedule is. */
function standing(run) {
  return run.outcome ?? (run.waits ? `waits: ${run.waits}` : "running");
}

async function addSchedule() {
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
    try { await ask("POST", "/v1/schedules", wish); await show(); } catch (error) { said.replaceChildren(problem(error)); }
  };
  const words = { name: "Name", collection: "Collection", work: "Work", cron: "Cron", time_zone: "Time zone", keep_last: "Keep the newest (prune)" };
  return make("section", { class: "panel", "aria-label": "add a schedule" }, make("h3", {}, "Add a schedule"),
    make("form", { onsubmit: add },
      make("div", { class: "row" }, Object.entries(fields).map(([name, field]) => make("label", { for: field.id }, `${words[name]} `, field)),
        make("button", { type: "submit", class: "main" }, "Add"))),
    said);
}

async function audit(view) {
  view.append(make("h2", {}, "Audit"));
  const rows = (await get("/v1/audit?limit=200")).map((one) => [
    one.at.replace("T", " "), one.who, one.peer, one.request, JSON.stringify(one.arguments), one.outcome ?? "cut off", operationLink(one.operation_id),
  ]);
  view.append(table(["When", "Who", "From", "Request", "With", "Outcome", "Operation"], rows, "Nothing was asked yet that changes something."));
}

// Views ---------------------------------------------------------------------------------------------------------

function login(view) {
  const token = make("input", { type: "password", id: "token", autocomplete: "current-password", required: true });
  const wrong = make("div");
  const enter = async (event) => {
    event.preventDefault();
    try {
      me = await (await ask("POST", "/login", { token: token.value })).json();
      await show();
    } catch (error) { wrong.replaceChildren(problem(error)); token.select(); }
  };
  view.append(make("section", { class: "panel" },
    make("h2", {}, "Log in"),
    make("p", {}, "With a token: on the machine of the server, mendb token create NAME --role viewer|operator|admin makes one."),
    make("form", { onsubmit: enter }, make("label", { for: "token" }, "Token"), token, " ", make("button", { type: "submit", class: "main" }, "Log in")),
    wrong));
  token.focus();
}

async function show() {
  leave();
  leave = () => {};
  const [, name, id] = location.hash.split("/");
  const view = make("div");
  document.getElementById("nav").hidden = !me;
  document.getElementById("who").hidden = !me;
  if (!me) {
    login(view);
    main.replaceChildren(view);
    view.querySelector("input").focus();
    return;
  }
  document.getElementById("name").textContent = `${me.name} (${me.role})`;
  for (const link of document.querySelectorAll("#nav a")) {
    link.hidden = Boolean(link.dataset.role) && !may(link.dataset.role);
    const isHere = link.hash === `#/${name === "operation" ? "operations" : name ?? "collections"}`;
    if (isHere) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  const views = { operations, operation, schedules, audit };
  const where = location.hash;
  try { await (views[name] ?? collections)(view, decodeURIComponent(id ?? "")); } catch (error) { view.append(problem(error)); }
  if (location.hash !== where || !me) return;
  main.replaceChildren(view);
  document.title = `${view.querySelector("h2")?.textContent ?? "mendb"} – mendb`;
}

document.getElementById("logout").addEventListener("click", async () => {
  await ask("POST", "/logout", {}).catch(() => {});
  me = null;
  location.hash = "";
  await show();
});
addEventListener("hashchange", async () => { await show(); main.focus(); });

me = await get("/v1/whoami").catch(() => null);
await show();
