"use strict";
// Checks the spec as it is typed, by the API's dry run, and starts it.

const form = document.getElementById("new"), spec = document.getElementById("spec");
const verdict = document.getElementById("verdict"), button = document.getElementById("submit");
let timer = null, asked = 0, key = crypto.getRandomValues(new Uint32Array(4)).join("-");

function address() {
  return /^["'{\s]*variants\b/m.test(spec.value) ? "/comparisons" : "/studies";
}

function send(query, more) {
  const headers = { "Content-Type": "application/yaml", ...more };
  return fetch(address() + query, { method: "POST", headers, body: spec.value });
}

function element(name, text, ...within) {
  const made = document.createElement(name);
  made.append(text, ...within);
  return made;
}

function show(good, ...parts) {
  verdict.className = good ? "fine" : "problem";
  verdict.replaceChildren(...parts);
  button.disabled = !good;
}

function faults(problem) {
  const list = document.createElement("ul");
  for (const fault of problem.errors || []) {
    list.append(element("li", element("code", fault.pointer || fault.path || "the document"), ` ${fault.detail}. ${fault.remedy}`));
  }
  show(false, element("p", problem.detail || problem.title), list);
}

async function check() {
  const mine = ++asked;
  try {
    const answer = await send("?dry_run=true");
    const said = await answer.json();
    if (mine !== asked) return; // something newer was typed
    if (!answer.ok) { faults(said); return; }
    const trials = said.trials ?? said.cost.trials, passes = said.passes_total ?? said.cost.passes_total;
    const unused = (said.unused || []).length ? ` Not used by this method: ${said.unused.join(", ")}.` : "";
    show(true, element("p", `Valid: ${trials} trials, ${passes.toLocaleString("en")} passes with the attack on the untouched model.${unused}`));
  } catch {
    if (mine === asked) show(false, element("p", "The server does not answer. Try again."));
  }
}

spec.addEventListener("input", () => {
  button.disabled = true;
  asked += 1;
  key = crypto.getRandomValues(new Uint32Array(4)).join("-");
  clearTimeout(timer);
  timer = setTimeout(check, 300);
});
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  button.disabled = true;
  try {
    const answer = await send("", { "Idempotency-Key": key });
    const said = await answer.json();
    if (answer.ok) location.assign("/ui" + said.links.self); else faults(said);
  } catch { show(true, element("p", "The server does not answer. Try again.")); }
});
check();
