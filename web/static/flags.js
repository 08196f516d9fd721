// Words about single images, such as "distorted". The checkboxes on the images hold them until the vote takes them along.
// Flag, a number, a number: the image, then the word. With a pointer: Flag, then the word on the image.

const byId = (id) => document.getElementById(id);

// "image a few words"
const parts = (value) => [value.slice(0, value.indexOf(" ")), value.slice(value.indexOf(" ") + 1)];

export class Flags {
  #stage; #button = byId("flag"); #tile = null;

  constructor(stage) {
    this.#stage = stage;
    this.#button.hidden = !byId("tile").content.querySelector(".word");
    this.#button.addEventListener("click", () => this.toggle());
  }

  get on() { return document.body.classList.contains("flagging"); }

  toggle(on = !this.on) {
    if (this.#button.hidden) return;
    document.body.classList.toggle("flagging", on);
    this.#button.setAttribute("aria-pressed", on);
    this.choose(null);
  }

  // The first number is an image, the second one of its words.
  number(index) {
    if (!this.#tile) return this.choose(this.#stage.tiles[index]);
    const word = this.#tile.querySelectorAll(".word input")[index];
    if (!word) return;
    word.checked = !word.checked;
    this.toggle(false);
  }

  choose(tile) {
    this.#tile?.classList.remove("chosen");
    this.#tile = tile ?? null;
    this.#tile?.classList.add("chosen");
    if (tile) this.#stage.say(`Flag ${tile.querySelector(".pick").dataset.name} as: ${[...tile.querySelectorAll(".word")].map((word, index) => `${index + 1} ${word.textContent.trim()}`).join(", ")}`);
  }

  // {image id: [words]}, as a vote carries them.
  read() {
    const found = {};
    for (const { value } of this.#stage.choices.querySelectorAll(".word :checked")) {
      const [image, word] = parts(value);
      (found[image] ??= []).push(word);
    }
    return found;
  }

  write(flags) {
    for (const word of this.#stage.choices.querySelectorAll(".word input")) {
      const [image, name] = parts(word.value);
      word.checked = Boolean(flags?.[image]?.includes(name));
    }
  }
}
