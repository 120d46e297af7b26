// The view of collections: chains of backups, what they hold, what a mend to one would do.

import { ask, button, bytes, count, draw, get, make, may, order, path, sure, table, taken, text } from "./page.js";

export async function collections(view) {
  const [known, backups] = await Promise.all([get("/v1/collections").catch(() => []), get("/v1/backups")]);
  const names = new Set([...known.map((one) => one.collection), ...backups.map((one) => one.collection)]);
  view.append(make("h2", {}, "Collections"));
  if (!may("operator")) view.append(make("p", { class: "soft" }, "A viewer can look. Backups, mends and drills take the token of an operator."));
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
  const marks = new Map();
  const choose = (backup) => {
    chosen = chosen.includes(backup) ? chosen.filter((one) => one !== backup) : [...chosen, backup].slice(-2);
    for (const one of backups) marks.get(one.backup_id).element.setAttribute("aria-pressed", String(chosen.includes(one)));
    below.replaceChildren(...about(name, chosen, below));
  };
  const mark = (backup) => {
    const isBefore = backup.label?.startsWith("before-");
    const kind = backup.damage ? "damaged" : isBefore ? "before" : backup.kind === "full" ? "full" : "";
    const words = [backup.damage ? "damaged" : isBefore ? `state before a mend (${backup.kind})` : backup.kind,
      !backup.complete && "lacks tables", `${count(backup.rows)} rows`, bytes(backup.new_bytes), backup.proven_restorable_at && "proved restorable"];
    const kept = make("small", { hidden: true });
    const element = make("button", { type: "button", class: `backup ${kind}`, "aria-pressed": "false", onclick: () => choose(backup) },
      backup.label && !isBefore ? backup.label : taken(backup.backup_id),
      make("small", {}, words.filter(Boolean).join(", ")), kept);
    marks.set(backup.backup_id, { element, kept });
    return make("li", {}, element);
  };
  const keep = (fates) => {
    for (const one of fates) {
      const kept = marks.get(one.backup_id)?.kept;
      if (!kept) continue;
      kept.hidden = false;
      kept.textContent = fate(one);
    }
  };
  const newest = [...backups].reverse().find((one) => one.complete && !one.damage);
  return make("section", { class: "panel", "aria-label": `collection ${name}` },
    make("h3", {}, name),
    make("p", { class: "soft" }, tables.length ? `${tables.join(", ")}. ` : "",
      newest ? `Newest complete backup: ${taken(newest.backup_id)} UTC, ${bytes(newest.bytes)}. ` : "No backup yet.",
      newest && (newest.last_proven_restorable_at ? `Last proved restorable by a drill: ${newest.last_proven_restorable_at}.` : "No drill has proved it restorable yet.")),
    make("div", { class: "row" },
      button("Full backup", "operator", () => order("POST", `/v1/collections/${path(name)}/backups`, {}), "main", `Full backup of ${name}`),
      button("Increment", "operator", () => order("POST", `/v1/collections/${path(name)}/backups`, { incremental: true }), "", `Increment of ${name}`),
      button("Verify", "operator", async () => {
        below.replaceChildren(make("p", { role: "status" }, "Every backup is being read; the answer comes here when that is done."));
        const response = await ask("POST", `/v1/collections/${path(name)}/verify`, {}, "text/plain");
        below.replaceChildren(text(await response.text(), "what verify found"));
      }, "", `Verify ${name}`),
      button("Drill", "operator", () => order("POST", `/v1/collections/${path(name)}/drills`, {}), "", `Drill of ${name}`),
      button("Retention", "admin", async () => below.replaceChildren(retention(name, keep)), "", `Retention of ${name}`)),
    chains(backups).map((chain) => make("ol", { class: "chain", "aria-label": `chain of ${taken(chain[0].backup_id)}` }, chain.map(mark))),
    backups.length > 0 && make("p", { class: "soft" }, "Choose a backup to mend to, or two to see what differs."),
    below,
    backups.length > 1 && growth(name, backups));
}

// A chain is a full backup and what stands on it.
function chains(backups) {
  const all = [];
  const chainOf = new Map();
  for (const backup of backups) {
    const chain = chainOf.get(backup.parent) ?? [];
    if (chain.length === 0) all.push(chain);
    chain.push(backup);
    chainOf.set(backup.backup_id, chain);
  }
  return all;
}

// How large the backups that are there have made the repository, one after another.
function growth(name, backups) {
  const most = 60;
  const [width, height] = [600, 80];
  let sum = 0;
  const sums = backups.map((backup) => [backup, sum += backup.new_bytes]);
  // Where there are many, each bar is where a run of them led.
  const each = Math.ceil(sums.length / most);
  const bars = sums.filter((_, at) => (at + 1) % each === 0 || at === sums.length - 1);
  const step = width / bars.length;
  const bar = ([backup, bytesThen], at) => {
    const tall = sum === 0 ? 0 : bytesThen / sum * height;
    return draw("rect", { x: at * step + 1, y: height - tall, width: Math.max(step - 2, 1), height: tall },
      draw("title", {}, `${taken(backup.backup_id)}: ${bytes(bytesThen)}`));
  };
  const told = `From ${taken(backups[0].backup_id)} to ${taken(backups.at(-1).backup_id)} ${count(backups.length)} backups came to ${bytes(sum)}. What was removed since is not counted.`;
  return make("details", {}, make("summary", {}, "Growth in the repository"),
    make("p", { class: "soft" }, told),
    draw("svg", { class: "growth", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": `growth of ${name}: ${told}` }, bars.map(bar)));
}

const fate = (one) => one.fate === "stays" ? `kept by: ${one.kept_by.join(", ")}` : one.into ? `folded into ${taken(one.into)}` : one.fate;

// Which backups rules would keep, before any goes.
function retention(name, keep) {
  const where = `/v1/collections/${path(name)}/prune`;
  const told = make("div");
  const rules = { keep_last: "Newest", keep_daily: "Days", keep_weekly: "Weeks", keep_monthly: "Months", keep_yearly: "Years" };
  const inputs = Object.entries(rules).map(([rule, of]) => [rule, make("input", { type: "number", min: "0", max: "9999", id: `${name}-${rule}` }), of]);
  const wish = () => Object.fromEntries(inputs.filter(([, input]) => Number(input.value) > 0).map(([rule, input]) => [rule, Number(input.value)]));
  const look = async () => {
    const rulesNow = wish();
    const { backups } = await (await ask("POST", where, { ...rulesNow, dry_run: true })).json();
    keep(backups);
    told.replaceChildren(
      table(`what rules keep of ${name}`, ["Backup", "Label", "Kind", "Bytes#", "What becomes of it"],
        backups.map((one) => [taken(one.backup_id), one.label, one.kind, bytes(one.bytes), fate(one)]), "There is no backup."),
      make("div", { class: "row" }, button("Carry out", "admin", async () => {
        const sentence = "What is removed or folded is no restore point any more. Backups that stay restore what they did before.";
        if (await sure("Remove what the rules do not want?", sentence, "Carry out")) await order("POST", where, rulesNow);
      }, "main")));
  };
  return make("section", { "aria-label": `retention of ${name}` },
    make("h3", {}, "Keep the newest backup of each of so many"),
    make("div", { class: "row" }, inputs.map(([, input, of]) => make("label", { for: input.id }, `${of} `, input)), button("Preview", "admin", look, "main")),
    told);
}

// What can be done with a backup that is chosen, or with two.
function about(name, chosen, below) {
  if (chosen.length === 0) return [];
  const named = (backup) => `${name}/${backup.backup_id}`;
  const shown = make("div", { role: "status" });
  const compare = async (wish) => {
    const response = await ask("GET", `/v1/diff?${new URLSearchParams(wish)}`, undefined, "text/plain");
    shown.replaceChildren(text(await response.text(), "what differs"));
  };
  if (chosen.length === 2) {
    const [before, after] = [...chosen].sort((a, b) => a.backup_id.localeCompare(b.backup_id));
    const wish = { before: named(before), after: named(after) };
    return [make("div", { class: "row" }, button(`What changed from ${taken(before.backup_id)} to ${taken(after.backup_id)}`, "viewer", () => compare(wish), "main")), shown];
  }
  const [backup] = chosen;
  const tables = `${count(backup.tables.length)} ${backup.tables.length === 1 ? "table" : "tables"}`;
  const facts = [backup.backup_id, backup.label && `label ${backup.label}`, tables,
    `${count(backup.rows)} rows`, `${bytes(backup.bytes)}`, backup.parent && `stands on ${taken(backup.parent)}`,
    backup.proven_restorable_at && `proved restorable ${backup.proven_restorable_at}`,
    !backup.complete && "lacks tables", backup.damage].filter(Boolean).join(" · ");
  return [make("p", {}, facts),
    make("div", { class: "row" },
      button("Preview a mend to it", "operator", () => preview(name, backup, shown), "main"),
      button("What changed since", "viewer", () => compare({ before: named(backup) })),
      button("Delete", "admin", async () => {
        const where = `/v1/backups/${path(named(backup))}`;
        if (await sure("Delete this backup?", `${named(backup)} is no restore point any more. Increments that stand on it keep it from going.`, "Delete")) await order("DELETE", where);
      })), shown];
}

// What a mend would do, before it is approved: the button carries out what is shown, or is refused.
async function preview(name, backup, shown) {
  const where = `/v1/collections/${path(name)}/restores`;
  const wish = { in_place: true, to: backup.backup_id };
  const response = await ask("POST", where, { ...wish, dry_run: true }, "text/plain");
  const plan = response.headers.get("Mendb-Plan");
  const go = async () => {
    const sentence = plan
      ? "What the preview shows is done, or nothing where the tables have changed since. Writers are kept out while it works; readers see the tables as before until all is there. It can be undone."
      : "Tables are planned anew and brought to the backup. What would be lost is kept where there is room, so that it can be undone.";
    if (!await sure("Mend the live tables?", sentence, "Mend")) return;
    await (plan ? order("POST", `/v1/plans/${path(plan)}`, {}) : order("POST", where, wish));
  };
  shown.replaceChildren(make("section", { "aria-label": "preview of the mend" },
    make("h3", {}, `A mend of ${name} to ${taken(backup.backup_id)} would do this`),
    text(await response.text(), "the plan"),
    make("div", { class: "row" }, button("Mend", "operator", go, "main"))));
}
