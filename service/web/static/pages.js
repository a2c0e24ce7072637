"use strict";
// Pages are whole without this. It freshens the parts marked data-live with those of the same page asked for again, and
// lets buttons call the REST API.

const PAUSE = 1000; // milliseconds between two times that a page is asked for, however much happens
let busy = false, due = false, skipped = false;

async function freshen() {
  if (busy || document.hidden) { due = true; return; }
  busy = true; due = false; skipped = false;
  try {
    const answer = await fetch(location.href);
    if (answer.status === 401) { location.reload(); return; } // leads to the form, and back
    if (answer.ok) {
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const part of document.querySelectorAll("[data-live]")) {
        const other = fresh.getElementById(part.id);
        if (!other || other.innerHTML === part.innerHTML) continue;
        if (part !== document.activeElement && part.contains(document.activeElement)) skipped = true; // not under one's hands
        else part.replaceChildren(...other.childNodes);
      }
    }
  } catch { due = true; } finally {
    setTimeout(() => { busy = false; if (due) freshen(); }, PAUSE);
  }
}
document.addEventListener("focusout", () => { if (skipped) freshen(); });

// A study's stream says when something happened. A browser has few connections to one address: none for hidden pages.
const { stream, every } = document.body.dataset;
let source = null, again = null;
function listen() {
  const said = document.getElementById("connection");
  clearTimeout(again);
  source = new EventSource(stream);
  source.onopen = () => { said.textContent = "live"; };
  source.onerror = () => {
    said.textContent = "connection lost: trying again";
    if (source.readyState === EventSource.CLOSED) { again = setTimeout(listen, 5000); freshen(); } // refused: browsers give up
  };
  source.onmessage = freshen;
  for (const name of ["standing", "curves"]) source.addEventListener(name, freshen);
  source.addEventListener("deleted", () => { source.close(); location.assign("/"); });
}
if (stream) listen();
if (every) setInterval(freshen, 1000 * Number(every));
document.addEventListener("visibilitychange", () => {
  if (stream) { if (document.hidden) { clearTimeout(again); source.close(); } else listen(); }
  if (!document.hidden && due) freshen();
});

function refuse(problem) {
  const place = document.getElementById("refusal");
  place.hidden = false;
  place.textContent = problem.detail || problem.title || "Refused.";
}

async function post(address, body) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  try {
    const answer = await fetch(address, { method: "POST", headers, body: body && JSON.stringify(body) });
    if (answer.ok) location.reload(); else refuse(await answer.json());
  } catch { refuse({ detail: "The server does not answer. Try again." }); }
}
document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-post]");
  if (button && (!button.dataset.confirm || confirm(button.dataset.confirm))) post(button.dataset.post);
});
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.post && form.id !== "new") {
    event.preventDefault();
    post(form.dataset.post, Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, Number(value)])));
  }
});
