// The voting page with JavaScript: a pick shows the next group at once and travels to the server by itself.

import { Ahead } from "./ahead.js";
import { call } from "./api.js";
import { listen } from "./keys.js";
import { Outbox } from "./outbox.js";
import { Stage } from "./stage.js";
import { uuid } from "./uuid.js";

const POLL_EVERY = 2_000;
const COUNT_EVERY = 5;
const KEYS_ARE_KNOWN_AFTER = 30;
const UNDO_DEPTH = 20;

const byId = (id) => document.getElementById(id);
const ballot = byId("ballot");
const { project, user } = ballot.dataset;
const outbox = new Outbox(user);
const stage = new Stage();
const done = new Set(outbox.entries().map((entry) => entry.taskId));
const ahead = new Ahead(project, (taskId) => done.has(taskId));
const memory = `d3po.history.${user}.${project}`;
const history = JSON.parse(localStorage.getItem(memory) ?? "[]");
let counts = readCounts();
let shownAt = "";
let beats = 0;

const acts = { pick, answer, undo, help: () => toggleHelp(!byId("help").open), close: () => toggleHelp(false) };

function start() {
  const leased = JSON.parse(byId("leased").textContent);
  if (leased && !done.has(leased.task_id)) ahead.put(leased);
  for (const { body } of outbox.waiting()) if (body) count(body.outcome, +1);
  listen(stage, { ...acts, pick: (id) => (learn(), pick(id)), answer: (outcome) => (learn(), answer(outcome)) });
  ballot.addEventListener("submit", submitted);
  byId("this-one").addEventListener("click", () => pick(stage.centred().value));
  outbox.addEventListener("change", (event) => report(event.detail));
  addEventListener("pageshow", (event) => event.persisted && location.reload());
  document.body.classList.toggle("keys-known", keyVotes() >= KEYS_ARE_KNOWN_AFTER);
  show();
  report(null);
  outbox.drain();
  setInterval(refresh, POLL_EVERY);
  ahead.fill(outbox.waiting().length).then(() => ahead.current && !shownAt && show());
}

function submitted(event) {
  event.preventDefault();
  const button = event.submitter;
  if (button.id === "undo") return undo();
  if (!button.classList.contains("pick")) return answer(button.value);
  if (!document.body.classList.contains("swipe")) pick(button.value);
}

function pick(imageId) {
  stage.confirm(imageId);
  cast("best", imageId);
}

function answer(outcome) {
  if (ahead.current) cast(outcome, null);
}

function cast(outcome, imageId) {
  const { elements, ...task } = ahead.current;
  const body = {
    vote_id: uuid(), outcome, best_image_id: imageId, ranking: [], flags: {},
    shown_order: task.images.map((image) => image.id), shown_at: shownAt, decided_at: new Date().toISOString(),
  };
  if (!keep({ url: `/api/v1/tasks/${task.task_id}/votes`, body, voteId: body.vote_id, taskId: task.task_id })) return;
  done.add(task.task_id);
  remember([...history, { voteId: body.vote_id, task, outcome }]);
  count(outcome, +1);
  ahead.shift();
  show();
  top();
}

function undo() {
  const last = history.at(-1);
  if (!last) return;
  if (!outbox.withdraw(last.voteId) && !keep({ url: `/api/v1/votes/${last.voteId}/retract`, body: null, voteId: last.voteId, taskId: null })) return;
  remember(history.slice(0, -1));
  done.delete(last.task.task_id);
  count(last.outcome, -1);
  ahead.tasks = ahead.tasks.filter((task) => task.task_id !== last.task.task_id);
  ahead.put(last.task, { first: true });
  show();
}

// Nothing advances unless the vote is stored on this device first.
function keep(entry) {
  try {
    outbox.add(entry);
    return true;
  } catch {
    notice("storage", "This browser stores nothing for this page, so the vote was not taken. Allow site data, or free some space, and vote again.");
    return false;
  }
}

function show() {
  const task = ahead.current;
  shownAt = task ? new Date().toISOString() : "";
  stage.show(task);
  byId("progress").textContent = `${counts.voted} of ${counts.total}`;
  byId("undo").disabled = history.length === 0;
  for (const button of ballot.querySelectorAll(".answers button")) button.disabled = !task;
}

async function top() {
  const answer = await ahead.fill(outbox.waiting().length);
  if (!answer.ok) notice("lease", `${answer.sentence} More images come as soon as it answers.`);
  else notice("lease", "");
  if (ahead.current && !shownAt) show();
  return answer.ok;
}

// While nothing waits: ask again, and show what is being generated. While something does: now and then, how much there is.
async function refresh() {
  if (document.visibilityState === "hidden" || (ahead.current && ++beats % COUNT_EVERY)) return;
  if (!ahead.current && !(await top())) return;
  const response = await fetch(`/p/${project}/vote/waiting`).catch(() => null);
  if (!response?.ok || response.redirected) return;
  byId("waiting").innerHTML = await response.text();
  if (outbox.waiting().length === 0) counts = readCounts();
  byId("progress").textContent = `${counts.voted} of ${counts.total}`;
}

function readCounts() {
  const { voted, total } = document.querySelector("#waiting .waiting").dataset;
  return { voted: Number(voted), total: Number(total) };
}

function count(outcome, by) {
  if (outcome !== "skip") counts.voted += by;
}

function remember(votes) {
  history.splice(0, history.length, ...votes.slice(-UNDO_DEPTH));
  localStorage.setItem(memory, JSON.stringify(history));
}

function report(problem) {
  const unsent = outbox.waiting().length;
  const kept = unsent === 1 ? "1 vote is kept on this device and is sent" : `${unsent} votes are kept on this device and are sent`;
  const text = problem?.status === 401 ? `${problem.sentence} ${kept} after you sign in again.` : problem && `${problem.sentence} ${kept} when it answers.`;
  notice("unsent", unsent && problem ? text : "", problem?.status === 401 ? [["Sign in", () => location.reload()]] : []);
  const refused = outbox.refused();
  const [first] = refused;
  notice("refused", first ? `A vote was not accepted: ${first.refused}` : "", first && [
    ["Try again", () => outbox.retry(first.key)],
    ["Discard it", () => outbox.remove(first.key)],
  ]);
}

function notice(name, sentence, buttons = []) {
  document.querySelector(`[data-notice="${name}"]`)?.remove();
  if (!sentence) return;
  const line = Object.assign(document.createElement("p"), { className: "notice", textContent: `${sentence} ` });
  line.dataset.notice = name;
  for (const [label, act] of buttons) {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "quiet", textContent: label });
    button.addEventListener("click", act);
    line.append(button);
  }
  byId("notices").append(line);
}

function toggleHelp(open) {
  byId("help").open = open;
}

const keyVotes = () => Number(localStorage.getItem("d3po.key-votes") ?? 0);

function learn() {
  localStorage.setItem("d3po.key-votes", keyVotes() + 1);
}

start();
