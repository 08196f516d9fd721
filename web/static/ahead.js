// The tasks this person holds: the one on screen and the next three, with their images already decoded.

import { call, farewell } from "./api.js";

const HELD = 4;
const AT_MOST = 20;
const RENEW_EVERY = 30_000;
const ASK_AGAIN = 3_000;

export class Ahead {
  constructor(project, tabs, isDone, arrived) {
    Object.assign(this, { project, tabs, isDone, arrived });
    this.tasks = [];
    setInterval(() => this.renew(), RENEW_EVERY);
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.renew());
    addEventListener("pagehide", () => this.tasks.forEach((task) => farewell(`/api/v1/tasks/${task.task_id}/release`)));
  }

  get current() { return this.tasks[0]; }

  put(task, { first = false } = {}) {
    const held = { ...task, elements: task.images.map(element), missing: [], get ready() { return this.elements.every(isThere); } };
    if (first) this.#keep([held, ...this.tasks]);
    else this.#keep([...this.tasks, held]);
    this.#load(held);
  }

  drop(taskId) { this.#keep(this.tasks.filter((task) => task.task_id !== taskId)); }

  // Leases up to HELD tasks. Unsent votes and other tabs still hold theirs on the server, so they are asked for on top.
  async fill(unsent) {
    if (this.tasks.length >= HELD) return { ok: true };
    const count = Math.min(HELD + unsent + this.tabs.others().size, AT_MOST);
    const answer = await call("POST", `/api/v1/projects/${this.project}/tasks/next?count=${count}`);
    if (answer.ok) for (const task of answer.data) if (this.tasks.length < HELD && this.isFree(task.task_id)) this.put(task);
    return answer;
  }

  isFree(taskId) {
    return !this.tasks.some((task) => task.task_id === taskId) && !this.isDone(taskId) && !this.tabs.others().has(taskId);
  }

  // A task whose lease went to somebody else leaves the queue, unless it is on screen: a late vote is kept too.
  async renew() {
    this.#keep(this.tasks);
    for (const task of this.tasks.slice()) {
      const answer = await call("POST", `/api/v1/tasks/${task.task_id}/renew`);
      const lost = answer.status >= 400 && answer.status < 500 && answer.status !== 401;
      if (lost && task !== this.current) this.drop(task.task_id);
    }
  }

  #keep(tasks) {
    this.tasks = tasks;
    this.tabs.hold(tasks.map((task) => task.task_id));
  }

  // `arrived(task)` once every image is decoded, or once one did not come; those are asked for again and again.
  async #load(task) {
    const came = await Promise.allSettled(task.elements.map((image) => image.decode()));
    task.missing = came.map(({ status }) => status === "rejected");
    if (!this.tasks.includes(task)) return;
    this.arrived(task);
    if (task.missing.includes(true)) setTimeout(() => this.#loadAgain(task), ASK_AGAIN);
  }

  #loadAgain(task) {
    for (const [index, image] of task.elements.entries()) if (task.missing[index]) image.src = image.src;
    this.#load(task);
  }
}

const isThere = (image) => image.complete && image.naturalWidth > 0;

function element({ url }) {
  const image = new Image();
  image.alt = "";
  image.src = `${url}?size=view`;
  return image;
}
