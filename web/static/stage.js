// What is on screen: the images of one task as large as the window allows, the zoom, the blink that confirms a pick.

import { bestGrid, wantsSwipe } from "./grid.js";

const byId = (id) => document.getElementById(id);
const still = matchMedia("(prefers-reduced-motion: reduce)");
const cannotHover = matchMedia("(hover: none)");

export class Stage {
  constructor() {
    this.task = null;
    this.stage = byId("stage");
    this.choices = byId("choices");
    new ResizeObserver(() => this.measure()).observe(this.stage);
    this.choices.addEventListener("scroll", () => this.#count());
    this.choices.addEventListener("click", (event) => this.#lift(event), { capture: true });
    this.stage.addEventListener("pointermove", (event) => this.#aim(event));
  }

  get tiles() { return [...this.choices.children]; }
  get picks() { return this.tiles.map((tile) => tile.querySelector(".pick")); }

  show(task) {
    const focused = this.picks.indexOf(document.activeElement);
    this.task = task;
    byId("prompt").textContent = task ? task.prompt : "Nothing waits for you";
    byId("waiting").hidden = Boolean(task);
    this.choices.hidden = !task;
    this.choices.replaceChildren(...(task ? task.images.map((image, index) => this.#tile(task, image, index)) : []));
    this.choices.scrollLeft = 0;
    byId("reveal").hidden = !task?.images.some((image) => image.blur);
    this.reveal(false);
    this.measure();
    if (focused >= 0) this.picks[focused]?.focus({ preventScroll: true });
  }

  #tile(task, image, index) {
    // Imported, not cloned: an image that passes through the template's own document would be decoded anew.
    const tile = document.importNode(byId("tile").content.firstElementChild, true);
    const pick = tile.querySelector(".pick");
    pick.value = image.id;
    tile.classList.toggle("blurred", Boolean(image.blur));
    pick.dataset.name = `Image ${index + 1} of ${task.images.length}${image.blur ? ", blurred" : ""}`;
    pick.querySelector(".badge").textContent = index + 1;
    pick.querySelector("img").replaceWith(task.elements[index]);
    const words = tile.querySelector(".words");
    if (words) words.open = true;
    for (const word of tile.querySelectorAll(".word input")) {
      word.value = `${image.id}${word.value}`;
      word.setAttribute("aria-label", `${word.parentElement.textContent.trim()}, image ${index + 1}`);
    }
    return tile;
  }

  name(pick, meaning) { pick.setAttribute("aria-label", `${pick.dataset.name}: ${meaning}`); }

  // Images that did not come say so where they would be.
  mark(missing) {
    for (const [index, tile] of this.tiles.entries()) tile.classList.toggle("missing", Boolean(missing[index]));
    if (missing.includes(true)) this.say("An image of this group is missing. Skip the group, or wait: the image is asked for again.");
  }

  say(sentence) { byId("said").textContent = sentence; }

  measure() {
    if (!this.task) return;
    const { images } = this.task;
    const gap = images.length === 2 ? 2 : 8;
    const { clientWidth: width, clientHeight: height } = this.stage;
    const grid = bestGrid(images.length, width, height, images[0], gap);
    const swipe = wantsSwipe(grid, width, images[0]);
    document.body.classList.toggle("swipe", swipe);
    byId("this-one").hidden = !swipe;
    if (swipe) this.#count();
    this.choices.className = `choices measured${images.length === 2 ? " pairwise" : ""}`;
    this.choices.style.gridTemplateColumns = `repeat(${grid.columns}, ${grid.width}px)`;
    this.choices.style.gridAutoRows = `${grid.height}px`;
  }

  // The image in the middle of a swiped stage.
  centred() { return this.picks[this.#place()]; }

  #place() { return Math.round(this.choices.scrollLeft / this.choices.clientWidth); }

  #count() { byId("which").textContent = `(${this.#place() + 1} of ${this.choices.children.length})`; }

  confirm(imageId) {
    const pick = this.picks.find((each) => each.value === imageId);
    if (!pick || still.matches || pick.closest(".blurred")) return;
    const place = pick.getBoundingClientRect();
    const around = this.stage.getBoundingClientRect();
    const copy = pick.querySelector("img").cloneNode();
    copy.className = "confirm";
    Object.assign(copy.style, { left: `${place.left - around.left}px`, top: `${place.top - around.top}px`, width: `${place.width}px`, height: `${place.height}px` });
    copy.addEventListener("animationend", () => copy.remove());
    this.stage.append(copy);
  }

  // Of this group; the next one is blurred again.
  reveal(on = !this.#shows.checked) { this.#shows.checked = on; }

  get #shows() { return byId("reveal").querySelector("input"); }

  // Without a pointer that hovers, the first tap on a blurred image shows it, and only the next one is an answer.
  #lift(event) {
    const tile = event.target.closest(".blurred:not(.seen)");
    const touched = event.pointerType === "touch" || (event.detail > 0 && cannotHover.matches);
    if (!tile || !touched || this.#shows.checked) return;
    event.preventDefault();
    tile.classList.add("seen");
  }

  zoom(on) { document.body.classList.toggle("zoomed", on); }

  #aim(event) {
    const tile = event.target.closest(".tile");
    if (!tile) return;
    const box = tile.getBoundingClientRect();
    this.choices.style.setProperty("--zoom-x", `${((event.clientX - box.left) / box.width) * 100}%`);
    this.choices.style.setProperty("--zoom-y", `${((event.clientY - box.top) / box.height) * 100}%`);
  }
}
