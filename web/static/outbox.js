// Votes and undos that the server has not confirmed yet, sent one after another in the order they were made.
// Each has its own localStorage key, so they survive a reload and two tabs never overwrite each other. A vote carries
// its own UUID, so sending it twice does no harm. Tells "change", and "stored" with what the server made of a vote.

import { call, isOutdated } from "./api.js";

const LONGEST_PAUSE = 15_000;
const isFinal = (answer) => answer.status >= 400 && answer.status < 500 && ![408, 429].includes(answer.status) && !isOutdated(answer);

export class Outbox extends EventTarget {
  #prefix; #sending = null; #timer = 0; #pause = 500; #count = 0;

  constructor(user) {
    super();
    this.#prefix = `d3po.outbox.${user}.`;
    addEventListener("online", () => this.drain());
  }

  // An entry is {url, body, voteId, taskId}. Throws where the browser stores nothing.
  add(entry) {
    const order = `${Date.now()}`.padStart(15, "0") + `${this.#count++}`.padStart(6, "0");
    localStorage.setItem(this.#prefix + order, JSON.stringify(entry));
    this.drain();
  }

  entries() {
    const keys = Object.keys(localStorage).filter((key) => key.startsWith(this.#prefix)).sort();
    return keys.map((key) => ({ key, ...JSON.parse(localStorage.getItem(key)) }));
  }

  waiting() { return this.entries().filter((entry) => !entry.refused); }
  refused() { return this.entries().filter((entry) => entry.refused); }

  // Takes back a vote that was never sent; false when it is on its way or already there.
  withdraw(voteId) {
    const entry = this.entries().find((each) => each.voteId === voteId && each.body);
    if (!entry || entry.key === this.#sending) return false;
    this.remove(entry.key);
    return true;
  }

  remove(key) {
    localStorage.removeItem(key);
    this.#changed();
  }

  retry(key) {
    const { refused, ...entry } = JSON.parse(localStorage.getItem(key));
    localStorage.setItem(key, JSON.stringify(entry));
    this.drain();
  }

  async drain() {
    clearTimeout(this.#timer);
    if (this.#sending) return;
    for (let entry; (entry = this.waiting()[0]); ) {
      this.#sending = entry.key;
      const answer = await call("POST", entry.url, entry.body);
      this.#sending = null;
      if (!this.#settle(entry, answer)) return;
    }
    this.#changed();
  }

  // True when the entry needs no further sending.
  #settle({ key, ...entry }, answer) {
    if (answer.ok) {
      localStorage.removeItem(key);
      this.#pause = 500;
      this.#changed();
      if (entry.body) this.dispatchEvent(new CustomEvent("stored", { detail: answer.data }));
      return true;
    }
    if (isFinal(answer)) {
      localStorage.setItem(key, JSON.stringify({ ...entry, refused: answer.sentence }));
      this.#changed();
      return true;
    }
    this.#pause = Math.min(this.#pause * 2, LONGEST_PAUSE);
    this.#timer = setTimeout(() => this.drain(), this.#pause);
    this.#changed(answer);
    return false;
  }

  #changed(problem = null) { this.dispatchEvent(new CustomEvent("change", { detail: problem })); }
}
