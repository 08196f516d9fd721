// The voting page with JavaScript: a pick shows the next group at once and travels to the server by itself.

import { Ahead } from "./ahead.js";
import { isOutdated } from "./api.js";
import { Flags } from "./flags.js";
import { listen } from "./keys.js";
import { Marks } from "./marks.js";
import { notice } from "./notices.js";
import { Outbox } from "./outbox.js";
import { Ranking } from "./ranking.js";
import { offer } from "./remap.js";
import { Stage } from "./stage.js";
import { Tabs } from "./tabs.js";
import { uuid } from "./uuid.js";

const POLL_EVERY = 2_000;
const COUNT_EVERY = 5;
const KEYS_ARE_KNOWN_AFTER = 30;
const UNDO_DEPTH = 20;
const RELOAD = [["Load it again", () => location.reload()]];

const byId = (id) => document.getElementById(id);
const ballot = byId("ballot");
const help = byId("help");
const { project, user } = ballot.dataset;
const outbox = new Outbox(user);
const stage = new Stage();
const flags = new Flags(stage);
const ranking = new Ranking(stage);
const marks = new Marks(stage);
const done = new Set(outbox.entries().map((entry) => entry.taskId));
const ahead = new Ahead(project, new Tabs(user, project), (taskId) => done.has(taskId), arrived);
const memory = `d3po.history.${user}.${project}`;
const history = JSON.parse(localStorage.getItem(memory) ?? "[]");
let counts = readCounts();
let shownAt = "";
let beats = 0;

const byKey = (act) => () => (learn(), act());
const acts = {
  number: (index) => (flags.on ? flags.number(index) : byKey(() => stage.picks[index] && pick(stage.picks[index].value))()),
  tie: byKey(() => answer("tie")), all_bad: byKey(() => answer("all_bad")), skip: byKey(() => answer("skip")),
  enter: () => modeOf(ahead.current) === "good_bad" && byKey(() => answer("rated"))(),
  undo, back: () => (ranking.started ? ranking.back() : undo()), flag: () => ahead.current && flags.toggle(),
  reveal: () => stage.reveal(), zoom: () => stage.zoom(true), whole: wholeScreen, help: () => (help.open = !help.open), close,
};

function start() {
  const leased = JSON.parse(byId("leased").textContent);
  if (leased && ahead.isFree(leased.task_id)) ahead.put(leased);
  for (const { body } of outbox.waiting()) if (body) count(body.outcome, +1);
  listen(stage, acts);
  offer(help);
  ballot.addEventListener("submit", submitted);
  byId("this-one").addEventListener("click", () => pick(stage.centred().value));
  byId("whole").addEventListener("click", wholeScreen);
  outbox.addEventListener("change", (event) => report(event.detail));
  outbox.addEventListener("stored", (event) => notice("late", event.detail?.surplus ? byId("late").content.textContent : ""));
  addEventListener("pageshow", (event) => event.persisted && location.reload());
  document.body.classList.toggle("keys-known", keyVotes() >= KEYS_ARE_KNOWN_AFTER);
  show();
  report(null);
  outbox.drain();
  setInterval(refresh, POLL_EVERY);
  top();
}

function submitted(event) {
  event.preventDefault();
  const button = event.submitter;
  if (button.id === "undo") return undo();
  if (!button.classList.contains("pick")) return answer(button.value);
  if (flags.on) return flags.choose(button.closest(".tile"));
  if (!document.body.classList.contains("swipe") || !isPicked(ahead.current)) pick(button.value);
}

// How people are asked: of two images one is better, there is no order to put them in.
const modeOf = (task) => (task?.mode === "ranking" && task.images.length === 2 ? "pairwise" : task?.mode);

// One press is the whole vote.
const isPicked = (task) => ["best", "pairwise"].includes(modeOf(task));

function pick(imageId) {
  if (!isSeen()) return;
  if (modeOf(ahead.current) === "good_bad") return marks.toggle(imageId);
  if (isPicked(ahead.current)) return cast("best", { best_image_id: imageId });
  const order = ranking.place(imageId);
  if (order) cast("ranking", { ranking: order });
}

// Whoever has not seen every image can only skip, and is told so.
function isSeen() {
  const task = ahead.current;
  if (task && !task.ready) notice("early", "Not every image of this group is here yet, so that did not count. Answer once they are, or skip.");
  return Boolean(task?.ready);
}

function answer(outcome) {
  if (outcome === "skip" ? !ahead.current : !isSeen()) return;
  if (modeOf(ahead.current) !== "good_bad" || outcome === "skip") return cast(outcome, {});
  if (outcome !== "tie") cast("rated", { ratings: marks.read(outcome !== "rated") });
}

function cast(outcome, choice) {
  const { elements, ready, missing, ...task } = ahead.current;
  const body = {
    vote_id: uuid(), outcome, best_image_id: null, ranking: [], ...choice, flags: flags.read(),
    shown_order: task.images.map((image) => image.id), shown_at: shownAt || null, decided_at: new Date().toISOString(),
  };
  if (!keep({ url: `/api/v1/tasks/${task.task_id}/votes`, body, voteId: body.vote_id, taskId: task.task_id })) return;
  stage.confirm(body.best_image_id ?? body.ranking[0]);
  done.add(task.task_id);
  remember([...history, { voteId: body.vote_id, task: { ...task, flags: body.flags, ratings: body.ratings }, outcome }]);
  count(outcome, +1);
  ahead.drop(task.task_id);
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
  ahead.drop(last.task.task_id);
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
  shownAt = "";
  stage.show(task);
  if (task) ballot.dataset.mode = modeOf(task);
  notice("early", "");
  flags.toggle(false);
  flags.write(task?.flags);
  if (modeOf(task) === "ranking") ranking.clear();
  else if (modeOf(task) === "good_bad") marks.write(task.ratings);
  else for (const each of stage.picks) stage.name(each, "pick as best");
  arrived(task);
  byId("progress").textContent = `${counts.voted} of ${counts.total}`;
  byId("undo").disabled = history.length === 0;
  for (const button of ballot.querySelectorAll(".answers button")) button.disabled = !task;
}

// The clock of a vote starts when every image is there to be seen.
function arrived(task) {
  if (!task || task !== stage.task) return;
  if (task.ready) {
    shownAt ||= new Date().toISOString();
    notice("early", "");
  }
  stage.mark(task.missing);
}

async function top() {
  const answer = await ahead.fill(outbox.waiting().length);
  if (answer.ok) notice("lease", "");
  else if (isOutdated(answer)) notice("lease", "You signed in or out elsewhere since this page was opened, so no more images come to it.", RELOAD);
  else notice("lease", `${answer.sentence} More images come as soon as it answers.`);
  if (ahead.current !== stage.task) show();
  return answer.ok;
}

// While nothing waits: ask again, and show what is being generated. While something does: now and then, how much there is.
async function refresh() {
  if (document.visibilityState === "hidden" || (ahead.current && ++beats % COUNT_EVERY)) return;
  if (!ahead.current && !(await top())) return;
  const response = await fetch(`/p/${project}/vote/waiting`, { signal: AbortSignal.timeout(POLL_EVERY * COUNT_EVERY) }).catch(() => null);
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
  const outdated = problem && isOutdated(problem);
  const why = outdated ? "You signed in or out elsewhere since this page was opened." : problem?.sentence;
  const text = `${why} ${kept} ${outdated ? "once this page is loaded again." : "when it answers."}`;
  notice("unsent", unsent && problem ? text : "", outdated ? RELOAD : []);
  const [first] = outbox.refused();
  notice("refused", first ? `A vote was not accepted: ${first.refused}` : "", first && [
    ["Try again", () => outbox.retry(first.key)],
    ["Discard it", () => outbox.remove(first.key)],
  ]);
}

function wholeScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else document.documentElement.requestFullscreen?.().catch(() => {});
}

function close() {
  help.open = false;
  flags.toggle(false);
}

const keyVotes = () => Number(localStorage.getItem("d3po.key-votes") ?? 0);

function learn() {
  localStorage.setItem("d3po.key-votes", keyVotes() + 1);
}

start();
