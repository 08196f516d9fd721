// All images in order, best first: each pick takes the next place, until every image has one.

export class Ranking {
  #stage; #order = [];

  constructor(stage) { this.#stage = stage; }

  get started() { return this.#order.length > 0; }

  clear() { this.#write([]); }

  back() { this.#write(this.#order.slice(0, -1)); }

  // Gives the image the next place, or takes its place back; the whole order once it is complete.
  place(imageId) {
    const placed = this.#order.includes(imageId);
    this.#write(placed ? this.#order.filter((each) => each !== imageId) : [...this.#order, imageId]);
    return this.#order.length === this.#stage.picks.length ? this.#order : null;
  }

  #write(order) {
    this.#order = order;
    for (const pick of this.#stage.picks) {
      const place = order.indexOf(pick.value) + 1;
      pick.querySelector(".rank").textContent = place || "";
      this.#stage.name(pick, place ? `place ${place}, press to take it back` : `give it place ${order.length + 1}`);
    }
  }
}
