"use strict";
// Posts the form as it is typed, and shows the answer: the text where a field was changed, the fields where the text
// was, and the verdict always. The server reads and writes the spec; without this its buttons do the same.

const form = document.getElementById("new"), submit = document.getElementById("submit");
let timer = null, asked = 0;

async function check(typed) {
  const mine = ++asked, body = new URLSearchParams(new FormData(form));
  try {
    const answer = await fetch("/ui/new", { method: "POST", body });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (mine !== asked) return; // something newer was typed
    if (!fresh.getElementById("verdict")) { say(refusal(answer.status)); return; }
    const spec = document.getElementById("spec"), fields = document.getElementById("fields");
    if (typed !== spec) spec.value = fresh.getElementById("spec").value;
    const others = fresh.getElementById("fields");
    if (!others.children.length) ; // of a text that cannot be read
    else if (!fields.contains(document.activeElement)) fields.replaceChildren(...others.childNodes);
    else for (const field of fields.querySelectorAll("input[type=hidden]")) { // not under one's hands
      const other = fresh.getElementsByName(field.name)[0];
      if (other) field.value = other.value;
    }
    const verdict = document.getElementById("verdict"), other = fresh.getElementById("verdict");
    verdict.className = other.className;
    verdict.replaceChildren(...other.childNodes);
    submit.disabled = verdict.className !== "fine";
  } catch {
    if (mine === asked) say("The server does not answer. Try again.");
  }
}

function say(text) {
  const verdict = document.getElementById("verdict");
  verdict.className = "problem";
  verdict.textContent = text;
}

function refusal(status) {
  if (status === 401) return "You are signed out. Sign in from another tab, then go on here: what was typed stays.";
  if (status === 403) return "Your token only reads. What was typed stays.";
  return `The server refuses this (status ${status}). What was typed stays.`;
}

form.addEventListener("input", (event) => {
  submit.disabled = true;
  asked += 1;
  clearTimeout(timer);
  timer = setTimeout(check, 300, event.target);
});
form.addEventListener("submit", () => { clearTimeout(timer); asked += 1; });
submit.disabled = document.getElementById("verdict").className !== "fine";
