// Refreshes the numbers in place, and presses buttons without leaving the page. Without this script
// the page reloads itself and its forms work as forms do.
"use strict";

const EVERY = 2000;

function take(text) {
  const fresh = new DOMParser().parseFromString(text, "text/html");
  document.title = fresh.title;
  for (const old of document.querySelectorAll("[data-live]")) {
    const now = fresh.getElementById(old.id);
    // Whoever is about to press a button or read what he opened is not disturbed.
    const inUse = old.contains(document.activeElement) || old.querySelector("details[open]");
    if (now && !inUse && old.innerHTML !== now.innerHTML) {
      old.className = now.className;
      old.replaceChildren(...now.childNodes);
    }
  }
}

async function refresh() {
  let lost = true;
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    if (answer.ok) {
      take(await answer.text());
      lost = false;
    }
  } catch {
    // The node is not there: the line below says so until it is.
  }
  document.getElementById("lost").hidden = !lost;
}

async function press(event) {
  const form = event.target;
  if (form.method !== "post") return;
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    // Not form.action: that is the field of this name.
    await fetch(form.getAttribute("action"), { method: "POST", body: new URLSearchParams(new FormData(form)) });
  } finally {
    button.disabled = false;
    button.blur();
    for (const each of document.querySelectorAll("details[open]")) each.open = false;
    await refresh();
  }
}

document.addEventListener("submit", press);
setInterval(() => { if (!document.hidden) refresh(); }, EVERY);
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
