// Keeps the parts of a page that change up to date: the server sends each as HTML, by name, when it differs.

const source = new EventSource(document.querySelector("[data-events]").dataset.events);

source.addEventListener("update", (event) => {
  for (const [name, html] of Object.entries(JSON.parse(event.data))) replace(name, html);
});

// The server says "end" when nothing on this page can change any more.
source.addEventListener("end", () => source.close());
addEventListener("pagehide", () => source.close());

function replace(name, html) {
  const part = document.querySelector(`[data-live="${name}"]`);
  const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
  part.innerHTML = html;
  if (focused) document.getElementById(focused)?.focus();
}
