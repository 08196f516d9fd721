// The panel under "?": every key that can be changed is a button; press it, then the new key.

import { forget, isFree, keyOf, keys, remap } from "./keys.js";

export function offer(panel) {
  for (const place of panel.querySelectorAll("dt [data-key]")) place.replaceWith(button(place.dataset.key, place.closest("dt").nextElementSibling));
  const reset = Object.assign(document.createElement("button"), { type: "button", className: "quiet first-keys", textContent: "Give every key its first meaning again" });
  reset.addEventListener("click", () => (forget(), write()));
  panel.querySelector("dl").after(reset);
  write();
}

function button(verb, meaning) {
  const made = Object.assign(document.createElement("button"), { type: "button", className: "key" });
  made.dataset.key = verb;
  made.dataset.meaning = meaning.textContent;
  made.addEventListener("click", () => wait(made));
  return made;
}

// The next key is the new one. A key that has a fixed meaning, or a click elsewhere, leaves everything as it was.
function wait(made) {
  const end = new AbortController();
  const stop = () => (end.abort(), write());
  made.textContent = "press a key";
  made.addEventListener("blur", stop, { signal: end.signal });
  addEventListener("keydown", (event) => {
    event.preventDefault();
    event.stopImmediatePropagation();
    if (isFree(keyOf(event))) remap(made.dataset.key, keyOf(event));
    stop();
  }, { capture: true, signal: end.signal });
}

function write() {
  for (const place of document.querySelectorAll("[data-key]")) {
    place.textContent = keys[place.dataset.key];
    if (place.dataset.meaning) place.setAttribute("aria-label", `${place.dataset.meaning}: key ${place.textContent}; change it`);
  }
}
