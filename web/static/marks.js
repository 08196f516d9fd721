// Each image is good or bad by itself: good until it is marked. A vote says 1 for good and 0 for bad.

export class Marks {
  #stage;

  constructor(stage) { this.#stage = stage; }

  toggle(imageId) {
    for (const pick of this.#stage.picks) if (pick.value === imageId) this.#write(pick, !isBad(pick));
  }

  // {image id: [1 or 0]}; `none`: no image is good.
  read(none = false) {
    return Object.fromEntries(this.#stage.picks.map((pick) => [pick.value, [none || isBad(pick) ? 0 : 1]]));
  }

  write(ratings) {
    for (const pick of this.#stage.picks) this.#write(pick, ratings?.[pick.value]?.[0] === 0);
  }

  #write(pick, bad) {
    pick.setAttribute("aria-pressed", bad);
    pick.querySelector(".rank").textContent = bad ? "bad" : "";
    this.#stage.name(pick, "bad");
  }
}

const isBad = (pick) => pick.getAttribute("aria-pressed") === "true";
