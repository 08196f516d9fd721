// What is on screen: the images of one task as large as the window allows, the zoom, the blink that confirms a pick.

import { bestGrid, wantsSwipe } from "./grid.js";

const byId = (id) => document.getElementById(id);
const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Stage {
  #task = null;

  constructor() {
    this.stage = byId("stage");
    this.choices = byId("choices");
    new ResizeObserver(() => this.measure()).observe(this.stage);
    this.choices.addEventListener("scroll", () => this.#count());
    this.stage.addEventListener("pointermove", (event) => this.#aim(event));
  }

  show(task) {
    const focused = [...this.choices.children].indexOf(document.activeElement);
    this.#task = task;
    byId("prompt").textContent = task ? task.prompt : "Nothing waits for you";
    byId("waiting").hidden = Boolean(task);
    this.choices.hidden = !task;
    this.choices.replaceChildren(...(task ? task.images.map((image, index) => this.#pick(task, image, index)) : []));
    this.choices.scrollLeft = 0;
    this.measure();
    if (focused >= 0) this.choices.children[focused]?.focus({ preventScroll: true });
  }

  #pick(task, image, index) {
    // Imported, not cloned: an image that passes through the template's own document would be decoded anew.
    const button = document.importNode(byId("pick").content.firstElementChild, true);
    button.value = image.id;
    button.setAttribute("aria-label", `Image ${index + 1} of ${task.images.length}: pick as best`);
    button.querySelector(".badge").textContent = index + 1;
    button.querySelector("img").replaceWith(task.elements[index]);
    return button;
  }

  measure() {
    if (!this.#task) return;
    const { images } = this.#task;
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
  centred() { return this.choices.children[this.#place()]; }

  #place() { return Math.round(this.choices.scrollLeft / this.choices.clientWidth); }

  #count() { byId("which").textContent = `(${this.#place() + 1} of ${this.choices.children.length})`; }

  confirm(imageId) {
    const button = [...this.choices.children].find((each) => each.value === imageId);
    if (!button || still.matches) return;
    const place = button.getBoundingClientRect();
    const around = this.stage.getBoundingClientRect();
    const copy = button.querySelector("img").cloneNode();
    copy.className = "confirm";
    Object.assign(copy.style, { left: `${place.left - around.left}px`, top: `${place.top - around.top}px`, width: `${place.width}px`, height: `${place.height}px` });
    copy.addEventListener("animationend", () => copy.remove());
    this.stage.append(copy);
  }

  zoom(on) { document.body.classList.toggle("zoomed", on); }

  #aim(event) {
    const pick = event.target.closest(".pick");
    if (!pick) return;
    const box = pick.getBoundingClientRect();
    this.choices.style.setProperty("--zoom-x", `${((event.clientX - box.left) / box.width) * 100}%`);
    this.choices.style.setProperty("--zoom-y", `${((event.clientY - box.top) / box.height) * 100}%`);
  }
}
