// One key, one meaning, whatever is on screen. `acts` are the verbs of the voting page.

const ANSWERS = { 0: "tie", x: "all_bad", s: "skip" };

export function listen(stage, acts) {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    // A key held down votes once.
    if (event.repeat) return event.preventDefault();
    const act = meaning(event.key, stage, acts);
    if (!act) return;
    event.preventDefault();
    act();
  });
  addEventListener("keyup", (event) => event.key === "z" && stage.zoom(false));
  addEventListener("blur", () => stage.zoom(false));
}

function meaning(key, stage, acts) {
  const picks = stage.choices.children;
  const pick = (index) => picks[index] && (() => acts.pick(picks[index].value));
  if (/^[1-9]$/.test(key)) return pick(Number(key) - 1);
  if (picks.length === 2 && key === "ArrowLeft") return pick(0);
  if (picks.length === 2 && key === "ArrowRight") return pick(1);
  if (key in ANSWERS) return () => acts.answer(ANSWERS[key]);
  if (key === "u" || key === "Backspace") return acts.undo;
  if (key === "z") return () => stage.zoom(true);
  if (key === "?") return acts.help;
  if (key === "Escape") return acts.close;
}
