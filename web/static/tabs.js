// Two tabs of one person share their leases on the server, so each writes down here which tasks it holds.

import { uuid } from "./uuid.js";

const SILENT_AFTER = 150_000;

export class Tabs {
  #prefix; #own;

  constructor(user, project) {
    this.#prefix = `d3po.tabs.${user}.${project}.`;
    this.#own = this.#prefix + uuid();
    addEventListener("pagehide", () => localStorage.removeItem(this.#own));
  }

  hold(taskIds) {
    try {
      localStorage.setItem(this.#own, JSON.stringify({ at: Date.now(), taskIds }));
    } catch {
      // A full store is told where it matters: when a vote cannot be kept.
    }
  }

  // What the other tabs hold; a tab that crashed is forgotten after a while.
  others() {
    const keys = Object.keys(localStorage).filter((key) => key.startsWith(this.#prefix) && key !== this.#own);
    const notes = keys.map((key) => JSON.parse(localStorage.getItem(key))).filter(({ at }) => Date.now() - at < SILENT_AFTER);
    return new Set(notes.flatMap(({ taskIds }) => taskIds));
  }
}
