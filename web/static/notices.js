// Sentences about what went wrong, each under a name, so that the same trouble is told once.

const place = document.getElementById("notices");

// `buttons` are [label, act]; an empty sentence takes the notice away.
export function notice(name, sentence, buttons = []) {
  place.querySelector(`[data-notice="${name}"]`)?.remove();
  if (!sentence) return;
  const line = Object.assign(document.createElement("p"), { className: "notice", textContent: `${sentence} ` });
  line.dataset.notice = name;
  for (const [label, act] of buttons) {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "quiet", textContent: label });
    button.addEventListener("click", act);
    line.append(button);
  }
  place.append(line);
}
