// While a launch form is being filled in, its estimate follows.

const PAUSE = 250;

for (const place of document.querySelectorAll("[data-estimate]")) {
  const form = place.closest("form");
  let timer = 0;
  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => follow(place, form), PAUSE);
  });
}

async function follow(place, form) {
  const fields = new FormData(form);
  const prompts = (fields.get("prompts") ?? "").split("\n").filter((line) => line.trim()).length;
  if (prompts) fields.set("count", prompts);
  for (const name of ["csrf_token", "prompts"]) fields.delete(name);
  const response = await fetch(`${place.dataset.estimate}?${new URLSearchParams(fields)}`).catch(() => null);
  if (response?.ok) place.textContent = await response.text();
}
