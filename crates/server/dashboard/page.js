// What every view is made of: elements, words, and requests to the API. Nothing is loaded from elsewhere.

const roles = ["viewer", "operator", "admin"];

// Who is logged in, and what is done when the server says that nobody is.
export const session = { me: null, ended: () => {} };

// Elements: attributes by name, `on…` as handlers, text and elements as children.
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  fill(element, attributes, children);
  return element;
}

// The same for a picture.
export function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  fill(element, attributes, children);
  return element;
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element[name] = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child != null && child !== false && child !== ""));
}

const handlers = ["onclick", "onkeydown", "onsubmit"];
const keyOf = (node) => node.dataset?.key;

// Brings what is shown to what it should be, and touches nothing else: focus, a press that has begun, a selection and
// what was scrolled stay. Children with a `data-key` are found by it, others by their place.
export function become(box, ...wanted) {
  const keyed = new Map([...box.childNodes].filter(keyOf).map((node) => [keyOf(node), node]));
  let at = box.firstChild;
  for (const fresh of wanted.flat().filter((child) => child != null && child !== false && child !== "")) {
    const node = typeof fresh === "string" ? document.createTextNode(fresh) : fresh;
    let old = keyOf(node) ? keyed.get(keyOf(node)) : at;
    if (old && (old.nodeName !== node.nodeName || keyOf(old) !== keyOf(node))) old = null;
    if (!old) { box.insertBefore(node, at); continue; }
    if (old === at) at = at.nextSibling; else box.insertBefore(old, at);
    alter(old, node);
  }
  while (at) { const gone = at; at = at.nextSibling; gone.remove(); }
}

function alter(old, fresh) {
  if (old.nodeType === Node.TEXT_NODE) { if (old.data !== fresh.data) old.data = fresh.data; return; }
  for (const name of handlers) old[name] = fresh[name];
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name) && !(old.isBusy && name === "aria-busy")) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  become(old, ...fresh.childNodes);
}

export const may = (role) => session.me && roles.indexOf(session.me.role) >= roles.indexOf(role);
export const count = (number) => Number(number ?? 0).toLocaleString("en");
export const path = (...parts) => parts.map(encodeURIComponent).join("/");

export function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let at = 0;
  let value = Number(number ?? 0);
  while (value >= 1024 && at < units.length - 1) { value /= 1024; at += 1; }
  return `${at === 0 ? value : value.toFixed(1)} ${units[at]}`;
}

export function duration(seconds) {
  if (seconds == null) return "";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

// A moment in UTC, as people read it.
export const time = (at) => at.replace("T", " ").slice(0, 19);

// Backups tell their time in their ids.
export function taken(id) {
  const found = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z/.exec(id ?? "");
  return found ? `${found[1]}-${found[2]}-${found[3]} ${found[4]}:${found[5]}` : id;
}

export function say(text) {
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

export async function ask(method, where, body, accept = "application/json") {
  const headers = { Accept: accept, "X-Mendb-Request": "1" };
  if (body) headers["Content-Type"] = "application/json";
  if (method === "POST" && body) headers["Idempotency-Key"] = key();
  const response = await fetch(where, { method, headers, body: body && JSON.stringify(body), credentials: "same-origin" });
  if (response.status === 401 && session.me) { session.me = null; session.ended(); }
  if (!response.ok) throw new Problem(await response.json().catch(() => ({})), response.status);
  return response;
}

export const get = async (where) => (await ask("GET", where)).json();

// One press of a button is one order, however often it is sent.
function key() {
  const numbers = crypto.getRandomValues(new Uint32Array(4));
  return "dashboard-" + [...numbers].map((number) => number.toString(16)).join("");
}

export function problem(error) {
  const told = error.problem ?? {};
  return make("div", { class: "panel problem", role: "alert" },
    make("p", {}, error.message),
    told.hint && make("p", { class: "soft" }, told.hint));
}

// Asks before something is done. Resolves to whether it may be.
export function sure(title, text, yes) {
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

// A button that does something on the server, and goes where it leads. While it does, a press does nothing; it keeps
// the focus, which a disabled one would lose.
export function button(text, role, act, kind = "", label = null) {
  const does = async (event) => {
    const pressed = event.currentTarget;
    if (pressed.isBusy) return;
    pressed.isBusy = true;
    pressed.setAttribute("aria-busy", "true");
    try { await act(); } catch (error) { say(error.message + (error.problem?.hint ? ` – ${error.problem.hint}` : "")); }
    pressed.isBusy = false;
    pressed.removeAttribute("aria-busy");
  };
  return make("button", { type: "button", class: kind, disabled: !may(role), title: may(role) ? null : `takes the token of an ${role}`, "aria-label": label, onclick: does }, text);
}

// Orders something; an operation that begins is shown.
export async function order(method, where, body) {
  const response = await ask(method, where, body ?? (method === "POST" ? {} : undefined));
  const told = await response.json().catch(() => ({}));
  if (response.status === 202) location.hash = `#/operation/${encodeURIComponent(told.operation_id)}`;
  return told;
}

// A table; `#` at the end of a title has its column set as numbers, and `keyOf` tells a row from others. Where the window
// is narrow each row is a card (style.css), so that what it is to those who do not see it is said here.
export function table(label, titles, rows, empty, keyOf = () => null) {
  if (rows.length === 0) return make("p", { class: "soft" }, empty);
  const kind = (at) => titles[at].endsWith("#") ? "number" : null;
  const names = titles.map((title) => title.replace("#", ""));
  const head = names.map((name, at) => make("th", { scope: "col", role: "columnheader", class: kind(at) }, name));
  const cells = (row) => row.map((cell, at) => make("td", { role: "cell", class: kind(at), "data-title": names[at] }, cell ?? ""));
  return make("table", { role: "table", "aria-label": label },
    make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, head)),
    make("tbody", { role: "rowgroup" }, rows.map((row) => make("tr", { role: "row", "data-key": keyOf(row) }, cells(row)))));
}

// What a command tells, as it tells it.
export const text = (told, label) => make("pre", { tabindex: "0", role: "group", "aria-label": label }, told);

export const operationLink = (id) => id ? make("a", { href: `#/operation/${encodeURIComponent(id)}` }, id) : "";
