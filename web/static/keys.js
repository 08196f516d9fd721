// One key, one meaning, whatever is on screen. Digits, arrows, Enter, Escape and Backspace are fixed; the verbs below have keys
// that each person can change (remap.js).

export const DEFAULTS = { tie: "0", all_bad: "x", skip: "s", undo: "u", flag: "f", zoom: "z", reveal: "b", whole: "e", help: "?" };
const MEMORY = "d3po.keys";

export const keys = { ...DEFAULTS, ...JSON.parse(localStorage.getItem(MEMORY) ?? "{}") };

export const keyOf = (event) => (event.key.length === 1 ? event.key.toLowerCase() : event.key);

export const isFree = (key) => key.length === 1 && !/[1-9\s]/.test(key);

// The verb that had the key gets the other one in exchange, so that nothing is ever out of reach.
export function remap(verb, key) {
  const before = Object.keys(keys).find((each) => keys[each] === key);
  if (before) keys[before] = keys[verb];
  keys[verb] = key;
  localStorage.setItem(MEMORY, JSON.stringify(keys));
}

export function forget() {
  Object.assign(keys, DEFAULTS);
  localStorage.removeItem(MEMORY);
}

// `acts` are the verbs of the voting page.
export function listen(stage, acts) {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    // A key held down votes once.
    if (event.repeat) return event.preventDefault();
    const act = meaning(keyOf(event), stage, acts);
    if (!act) return;
    event.preventDefault();
    act();
  });
  addEventListener("keyup", (event) => keyOf(event) === keys.zoom && stage.zoom(false));
  addEventListener("blur", () => stage.zoom(false));
}

function meaning(key, stage, acts) {
  if (/^[1-9]$/.test(key)) return () => acts.number(Number(key) - 1);
  if (stage.picks.length === 2 && key === "ArrowLeft") return () => acts.number(0);
  if (stage.picks.length === 2 && key === "ArrowRight") return () => acts.number(1);
  // A button or a link that has the focus is what Enter presses; an image is not, nor is a box: those are marked by Space.
  if (key === "Enter" && document.activeElement.matches("body, #prompt, .pick[aria-pressed], [type=checkbox]")) return acts.enter;
  if (key === "Backspace") return acts.back;
  if (key === "Escape") return acts.close;
  return acts[Object.keys(keys).find((verb) => keys[verb] === key)];
}
