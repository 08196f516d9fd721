// The tasks this person holds: the one on screen and the next three, with their images already decoded.

import { call, farewell } from "./api.js";

const HELD = 4;
const RENEW_EVERY = 30_000;

export class Ahead {
  constructor(project, isDone) {
    this.project = project;
    this.isDone = isDone;
    this.tasks = [];
    setInterval(() => this.renew(), RENEW_EVERY);
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.renew());
    addEventListener("pagehide", () => this.tasks.forEach((task) => farewell(`/api/v1/tasks/${task.task_id}/release`)));
  }

  get current() { return this.tasks[0]; }

  put(task, { first = false } = {}) {
    const held = { ...task, elements: task.images.map(element) };
    if (first) this.tasks.unshift(held);
    else this.tasks.push(held);
  }

  shift() { return this.tasks.shift(); }

  // Leases up to HELD tasks. Unsent votes still hold their leases on the server, so they are asked for on top.
  async fill(unsent) {
    if (this.tasks.length >= HELD) return { ok: true };
    const answer = await call("POST", `/api/v1/projects/${this.project}/tasks/next?count=${Math.min(HELD + unsent, 20)}`);
    if (answer.ok) for (const task of answer.data) if (!this.has(task) && !this.isDone(task.task_id)) this.put(task);
    return answer;
  }

  has({ task_id }) { return this.tasks.some((task) => task.task_id === task_id); }

  // A task whose lease went to somebody else leaves the queue, unless it is on screen: a late vote is kept too.
  async renew() {
    for (const task of this.tasks.slice()) {
      const answer = await call("POST", `/api/v1/tasks/${task.task_id}/renew`);
      const lost = answer.status >= 400 && answer.status < 500 && answer.status !== 401;
      if (lost && task !== this.current) this.tasks = this.tasks.filter((each) => each !== task);
    }
  }
}

function element({ url }) {
  const image = new Image();
  image.alt = "";
  image.src = `${url}?size=view`;
  image.decode().catch(() => image.classList.add("broken"));
  return image;
}
