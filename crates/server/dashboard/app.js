// The dashboard: what the API tells, and buttons for what it does.

import { collections } from "./collections.js";
import { operation, operations } from "./operations.js";
import { ask, get, make, may, problem, session } from "./page.js";
import { audit, schedules } from "./schedules.js";
import { tables } from "./tables.js";

const main = document.getElementById("main");
const views = { collections, operations, operation, tables, schedules, audit };

// Ends what the view that is shown listens to.
let leave = () => {};

function login(view) {
  const token = make("input", { type: "password", id: "token", autocomplete: "current-password", required: true });
  const wrong = make("div");
  const enter = async (event) => {
    event.preventDefault();
    try {
      session.me = await (await ask("POST", "/login", { token: token.value })).json();
      await show();
      begin();
    } catch (error) { wrong.replaceChildren(problem(error)); token.select(); }
  };
  view.append(make("section", { class: "panel" },
    make("h2", {}, "Log in"),
    make("p", {}, "With a token: on the machine of the server, ", make("code", {}, "mendb token create NAME --role viewer|operator|admin"), " makes one."),
    make("form", { onsubmit: enter }, make("label", { for: "token" }, "Token"),
      make("div", { class: "row" }, token, make("button", { type: "submit", class: "main" }, "Log in"))),
    wrong));
}

// A view that was gone to begins at its top, for the eye and for the keyboard.
function begin() {
  scrollTo(0, 0);
  main.focus({ preventScroll: true });
}

// How often a view was asked for: one that was left before it was ready is not shown.
let asked = 0;

async function show() {
  const mine = asked += 1;
  leave();
  leave = () => {};
  const [, name, id] = location.hash.split("/");
  const view = make("div");
  document.getElementById("nav").hidden = !session.me;
  document.getElementById("who").hidden = !session.me;
  if (!session.me) {
    login(view);
    main.replaceChildren(view);
    view.querySelector("input").focus();
    document.title = "Log in – mendb";
    return;
  }
  document.getElementById("name").textContent = `${session.me.name} (${session.me.role})`;
  for (const link of document.querySelectorAll("#nav a")) {
    link.hidden = Boolean(link.dataset.role) && !may(link.dataset.role);
    const isHere = link.hash === `#/${name === "operation" ? "operations" : name ?? "collections"}`;
    if (isHere) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  let left = () => {};
  try {
    left = await (views[name] ?? collections)(view, decodeURIComponent(id ?? "")) ?? left;
  } catch (error) { view.append(problem(error)); }
  if (mine !== asked || !session.me) { left(); return; }
  leave = left;
  main.replaceChildren(view);
  document.title = `${view.querySelector("h2")?.textContent ?? "mendb"} – mendb`;
}

session.ended = show;
document.getElementById("logout").addEventListener("click", async () => {
  await ask("POST", "/logout", {}).catch(() => {});
  session.me = null;
  location.hash = "";
  await show();
});
addEventListener("hashchange", async () => { await show(); if (session.me) begin(); });

session.me = await get("/v1/whoami").catch(() => null);
await show();
