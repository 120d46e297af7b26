// The views of operations: all of them as they move, and one with its steps and shards.

import { ask, become, button, bytes, count, duration, get, make, operationLink, order, path, say, sure, table, text, time } from "./page.js";

const standing = (one) => one.paused ? "paused" : one.state;
const isOver = (one) => ["done", "failed", "cancelled"].includes(one.state);
const kindOf = (one) => one.kind.replaceAll("_", " ");
const state = (one) => make("span", { class: `state-${standing(one)}` }, standing(one));

// So often at most what is shown changes, in milliseconds.
const PACE = 500;

// Has `heard` told of operations until the function that comes back is called.
function listen(where, heard) {
  const source = new EventSource(where);
  source.addEventListener("operation", (event) => heard(JSON.parse(event.data)));
  return () => source.close();
}

export async function operations(view) {
  view.append(make("h2", {}, "Operations"));
  const list = make("div");
  view.append(list);
  const shown = new Map();
  for (const one of (await get("/v1/operations?newest_first=true&limit=200")).reverse()) shown.set(one.operation_id, one);
  const show = () => {
    const newest = [...shown.values()].reverse();
    const rows = newest.map((one) => [
      operationLink(one.operation_id), kindOf(one), one.source ?? one.collection, state(one),
      isOver(one) ? "" : make("progress", { max: 100, value: one.percent, "aria-label": `progress of ${one.operation_id}` }),
      isOver(one) ? one.error ?? "" : `${one.step}${one.eta_seconds ? `, ${duration(one.eta_seconds)} left` : ""}`,
      count(one.rows_done), bytes(one.bytes_done), time(one.created_at),
    ]);
    become(list, table("operations, the newest first", ["Operation", "Kind", "Of", "State", "Progress", "Step", "Rows#", "Bytes#", "Begun (UTC)"],
      rows, "No operation has begun yet.", (row) => row[0].textContent));
  };
  show();
  let waits = false;
  return listen("/v1/events", (one) => {
    shown.set(one.operation_id, one);
    if (waits) return;
    waits = true;
    setTimeout(() => { waits = false; show(); }, PACE);
  });
}

const fates = { waiting: "waiting", running: "running", done: "done", retried: "done after a failure", failed: "failed" };

// What a map of shards shows of one.
function fate(shard, failedBefore) {
  if (shard.error) return "failed";
  const isDone = shard.status === "done";
  if (isDone && failedBefore.has(`${shard.step}: shard ${shard.shard_idx}`)) return "retried";
  return isDone || shard.status === "running" ? shard.status : "waiting";
}

// A map of the shards of an operation: one stop for those who go with the keyboard, arrows within.
function shardMap(tell) {
  const cells = new Map();
  const box = make("div", { class: "map", role: "group", "aria-label": "shards, with the arrow keys from one to the next" });
  const perLine = () => {
    const top = box.firstElementChild?.offsetTop;
    const next = [...box.children].findIndex((cell) => cell.offsetTop !== top);
    return next < 0 ? box.children.length : next;
  };
  box.onkeydown = (event) => {
    const move = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: perLine(), ArrowUp: -perLine(), Home: -Infinity, End: Infinity }[event.key];
    const all = [...box.children];
    const at = all.indexOf(document.activeElement);
    if (!move || at < 0) return;
    event.preventDefault();
    const next = all[Math.min(Math.max(at + move, 0), all.length - 1)];
    document.activeElement.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  };
  const show = (one) => {
    // Attempts are counted over all steps: only what happened tells which shard failed before.
    const failed = one.events.map((event) => /^(.*: shard \d+) (failed|has lost)/.exec(event.event)?.[1]);
    const failedBefore = new Set(failed.filter(Boolean));
    for (const shard of one.shards) {
      const name = `${shard.step}/${shard.shard_idx}`;
      let cell = cells.get(name);
      if (!cell) {
        cell = make("button", { type: "button", tabindex: cells.size === 0 ? "0" : "-1", onclick: () => tell(cell.shard) });
        cells.set(name, cell);
        box.append(cell);
      }
      cell.shard = shard;
      const kind = fate(shard, failedBefore);
      if (cell.kind === kind) continue;
      cell.kind = kind;
      cell.className = `shard ${kind}`;
      cell.setAttribute("aria-label", `${shard.step}, shard ${shard.shard_idx}: ${fates[kind]}`);
    }
    const sums = Object.keys(fates).map((kind) => [kind, [...cells.values()].filter((cell) => cell.kind === kind).length]);
    return make("ul", { class: "legend" }, sums.map(([kind, number]) =>
      make("li", {}, make("span", { class: `shard ${kind}`, "aria-hidden": "true" }), `${count(number)} ${fates[kind]}`)));
  };
  return { box, show };
}

const stays = "What is done stays done. Tables that a mend or restore works on stay closed to writers, and backups of the collection are refused until it is resumed or cancelled.";
const ends = {
  mend: "What is staged goes, and the tables are as they were before. What was made live already is taken back where that can be.",
  undo: "What is staged goes, and the tables are as they were before the undo.",
};

export async function operation(view, id) {
  const where = `/v1/operations/${path(id)}`;
  const [head, steps, legend, events, about] = [make("div"), make("div"), make("div"), make("div"), make("div", { "aria-live": "polite" })];
  const map = shardMap((shard) => about.replaceChildren(make("p", { class: "panel" },
    `${shard.step}, shard ${shard.shard_idx}${shard.table ? ` of ${shard.table}` : ""}: ${shard.status}, attempt ${shard.attempt}, ` +
    `${count(shard.rows)} rows, ${bytes(shard.bytes)} of ${bytes(shard.bytes_total)}${shard.error ? `: ${shard.error}` : ""}`)));
  view.append(make("h2", {}, id), head, make("h3", {}, "Steps"), steps, make("h3", {}, "Shards"),
    legend, map.box, about, make("h3", {}, "What happened"), events);
  let leave = () => {};
  let waits = false;
  const show = async () => {
    const one = await get(where);
    const act = (name, role, title, sentence) => button(title, role, async () => {
      if (sentence && !await sure(`${title} this operation?`, sentence, title)) return;
      await ask("POST", `${where}/${name}`, {});
      await follow();
    });
    const isMend = one.kind === "mend" || one.kind === "undo";
    become(head,
      make("p", {}, `${kindOf(one)} of ${one.source ?? one.collection}${one.backup_id ? `, ${one.backup_id}` : ""}: `, state(one),
        `, ${Math.floor(one.percent)} %, ${count(one.rows_done)} rows, ${bytes(one.bytes_done)}` +
        (isOver(one) || one.paused ? "" : `, ${bytes(one.bytes_per_second)}/s${one.eta_seconds ? `, ${duration(one.eta_seconds)} left` : ""}`)),
      make("progress", { max: 100, value: one.percent, "aria-label": "progress" }),
      one.error && make("p", { class: "panel problem", role: "alert" }, one.error),
      make("div", { class: "row" },
        !isOver(one) && !one.paused && act("pause", "operator", "Pause", stays),
        (one.paused || one.state === "failed") && act("resume", "operator", "Resume"),
        !["done", "cancelled"].includes(one.state) && act("cancel", "operator", "Cancel", ends[one.kind] ?? "What it has written so far is removed."),
        one.state === "done" && isMend && button("Undo", "operator", async () => {
          const told = await (await ask("POST", `${where}/undo`, { dry_run: true }, "text/plain")).text();
          about.replaceChildren(text(told, "what the undo would do"));
          if (await sure("Undo this mend?", `The tables are brought back to what they were before it. An undo can be undone.\n\n${told}`, "Undo")) await order("POST", `${where}/undo`, {});
        })));
    become(steps, table("steps", ["Step", "State", "Shards#", "Rows#", "Bytes#"], one.steps.map((step) => [
      step.step, make("span", { class: `state-${step.state}` }, step.state), `${step.shards_done}/${step.shards_total}`, count(step.rows), bytes(step.bytes),
    ]), "No steps."));
    become(legend, map.show(one));
    become(events, text(one.events.map((event) =>
      `${time(new Date(event.at_ms).toISOString())}  ${event.event}`).join("\n"), "what happened"));
    return one;
  };
  // Shows it until it is over. What the server says is asked for: an event may be of before it was resumed.
  const follow = async () => {
    leave();
    await show();
    leave = listen(`${where}/events`, () => {
      if (waits) return;
      waits = true;
      setTimeout(async () => {
        waits = false;
        try { if (isOver(await show())) leave(); } catch (error) { say(error.message); }
      }, PACE);
    });
  };
  await follow();
  return () => leave();
}
