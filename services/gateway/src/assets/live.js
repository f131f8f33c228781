// Keeps the page current: asks for it again and puts in the parts that changed, except where somebody is typing.
"use strict";
const PERIOD_MS = 2000;
const SLOW_MS = 15000;

function held(part) {
  const active = document.activeElement;
  if (active && active !== document.body && part.contains(active)) return true;
  for (const field of part.querySelectorAll("input:not([type=hidden]), select")) {
    const chosen = field.tagName === "SELECT" ? field.selectedIndex > 0 : field.value !== field.defaultValue;
    if (chosen) return true;
  }
  return false;
}

function open(part) {
  return Array.from(part.querySelectorAll("details[open][id]"), (detail) => detail.id);
}

async function refresh() {
  const answer = await fetch(location.href, { headers: { accept: "text/html" }, redirect: "error", cache: "no-store" });
  if (!answer.ok) throw new Error("no page");
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const known = document.querySelectorAll("[data-live]");
  if (fresh.querySelectorAll("[data-live]").length !== known.length) {
    // A part came or went, such as the plan: only the whole page has it, and it must not be taken from under a hand.
    if (!held(document.body)) location.reload();
    return;
  }
  for (const part of known) {
    const next = fresh.querySelector(`[data-live="${part.dataset.live}"]`);
    if (!next || next.innerHTML === part.dataset.shown || held(part)) continue;
    if (part.dataset.shown === undefined && next.innerHTML === part.innerHTML) {
      part.dataset.shown = next.innerHTML;
      continue;
    }
    const opened = open(part);
    const shown = next.innerHTML;
    part.replaceChildren(...next.childNodes);
    part.dataset.shown = shown;
    for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
  }
}

let wait = PERIOD_MS;
async function turn() {
  try {
    if (!document.hidden) await refresh();
    wait = PERIOD_MS;
  } catch {
    // The server is away or the session ended: ask more rarely, and keep what is shown.
    wait = SLOW_MS;
  }
  setTimeout(turn, wait);
}
setTimeout(turn, wait);
