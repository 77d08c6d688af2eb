// One problem: its question and answers, its transcript step by step, and its requests.

import { ask, askPatiently, follow } from "./api.js";
import { callLanes, callTable } from "./calls_view.js";
import { h, put } from "./dom.js";
import { bind } from "./keys.js";
import { listOf, neighbourKeys, neighbourLinks, placeOf, unplaced } from "./list_place.js";
import { go, href } from "./router.js";
import { gradeChip, showLink, showWay } from "./shell.js";
import { stepView } from "./step_view.js";
import { textBlock } from "./step_parts.js";
import { label, seconds, spaced } from "./words.js";

/** Open a problem of a run. @param {import("./shell.js").Context} context */
export async function openProblem({ main, query, signal }) {
  const { run = "", row = "" } = query;
  const path = `runs/${encodeURIComponent(run)}`;
  main.classList.add("scrolls");
  put(main, h("p", { class: "loading", role: "status" }, "Loading the problem …"));
  /** @type {any} */
  let about = null;
  const isRead = async () => {
    about = await ask(path, {}, signal);
    return about.index.complete || about.index.error !== null;
  };
  const problem = await askPatiently(`${path}/problems/${encodeURIComponent(row)}`, {}, isRead, signal);
  const known = await placeOf(`${path}/problems`, {}, query, (one) => one.row, signal);
  const { previous, next } = problem;
  const place = known ?? { previous: unplaced(previous), next: unplaced(next), at: "", matching: null };
  const where = { run, ...listOf(query) };
  const back = { ...where, at: place.at };
  const name = label(problem.id, problem.sample);
  showWay([{ text: about.run.name, to: href("/run", back) }, { text: name }]);
  const article = h("article", { class: "problem" });
  const shown = (/** @type {any} */ answer) => put(article, head(answer, name, place, where), body(answer));
  shown(problem);
  put(main, article);
  if (problem.finish === null) void grow(`${path}/problems/${encodeURIComponent(row)}`, main, shown, signal);
  return {
    close: bind([
      ...neighbourKeys(place, "/problem", where, "problem"),
      ...stepKeys(main),
      { keys: ["e"], does: "next escalated step", act: () => stepTo(main, 1, ".with-rejected") },
      { keys: ["Escape"], does: "back to the list", act: () => go("/run", back) },
    ]),
  };
}

/**
 * Show a problem that has not ended again, whenever it has got further. The place of its reader stays.
 * @param {string} path
 * @param {HTMLElement} main
 * @param {(problem: any) => void} shown
 * @param {AbortSignal} signal
 */
function grow(path, main, shown, signal) {
  const isLive = (/** @type {any} */ problem) => problem.finish === null;
  let live = true;
  const changed = (/** @type {any} */ problem) => {
    const { scrollTop } = main;
    live = isLive(problem);
    const focused = document.activeElement?.id;
    shown(problem);
    main.scrollTop = scrollTop;
    if (focused?.startsWith("step-")) document.getElementById(focused)?.focus({ preventScroll: true });
  };
  const failed = (/** @type {unknown} */ error) => showLink("lost", error);
  return follow(path, { changed, failed, answered: () => showLink(live ? "live" : "still"), isLive }, signal);
}

/**
 * Keys that move the focus from step to step.
 * @param {HTMLElement} main
 * @returns {import("./keys.js").Binding[]}
 */
export const stepKeys = (main) => [
  { keys: ["j"], does: "next step", act: () => stepTo(main, 1) },
  { keys: ["k"], does: "previous step", act: () => stepTo(main, -1) },
];

/**
 * Move the focus to another step.
 * @param {HTMLElement} main
 * @param {number} direction
 * @param {string} [which] A selector of steps.
 */
export function stepTo(main, direction, which = ".step") {
  const steps = /** @type {HTMLElement[]} */ ([...main.querySelectorAll(which)]);
  const top = main.getBoundingClientRect().top;
  const at = document.activeElement?.closest(".step");
  const line = at && at !== document.body ? at.getBoundingClientRect().top - top : 8;
  const beyond = steps.filter((step) => (step.getBoundingClientRect().top - top - line) * direction > 1);
  const next = direction > 0 ? beyond[0] : beyond[beyond.length - 1];
  if (!next) return false;
  next.focus({ preventScroll: true });
  next.scrollIntoView({ block: "start" });
  return undefined;
}

/** @param {any} problem @param {string} name @param {import("./list_place.js").Place} place @param {Record<string, string>} where */
function head(problem, name, place, where) {
  const others =
    problem.samples.length > 1 &&
    h(
      "p",
      { class: "samples" },
      "Samples: ",
      problem.samples
        .map((/** @type {any} */ one) => [
          one.row === problem.row
            ? h("strong", {}, `#${one.sample}`)
            : h("a", { href: href("/problem", { ...where, row: one.row }) }, `#${one.sample}`),
          " ",
        ])
        .flat(),
    );
  return h(
    "header",
    {},
    h(
      "div",
      { class: "problem-title" },
      h("h1", {}, name, " ", gradeChip(problem.grade)),
      neighbourLinks(place, "/problem", where),
    ),
    others,
  );
}

/** @param {any} problem */
export function question(problem) {
  const system =
    problem.turns.length > 0 &&
    h(
      "details",
      { class: "turns", open: !problem.question },
      h("summary", {}, `The conversation before it: ${problem.turns.length}`),
      problem.turns.map((/** @type {any} */ turn) =>
        h("div", { class: "turn" }, h("h3", {}, turn.role), textBlock(turn.text, "empty")),
      ),
    );
  const given =
    problem.given.length > 0 &&
    h(
      "details",
      { class: "turns" },
      h("summary", {}, `Steps that were given: ${problem.given.length}`),
      problem.given.map((/** @type {any} */ step) =>
        h("div", { class: "turn" }, h("h3", {}, step.author), textBlock(step.text, "empty")),
      ),
    );
  return h(
    "section",
    { class: "question", "aria-label": "Question" },
    system,
    textBlock(problem.question, "The question is not in the log."),
    given,
  );
}

/** @param {string} name @param {string | null | undefined} value @param {string} [kind] */
const fact = (name, value, kind) =>
  value !== null &&
  value !== undefined &&
  value !== "" &&
  h("div", { class: kind }, h("dt", {}, name), h("dd", {}, value));

/** @param {any} problem */
function outcome(problem) {
  return h(
    "dl",
    { class: "outcome" },
    fact("Expected", problem.expected, "answer"),
    fact("Given", problem.answer, "answer"),
    fact("Why", problem.reason, "why"),
    fact("Found by", problem.found_by),
    fact("Grader", problem.grader),
    fact("Ended", spaced(problem.finish)),
    fact("Took", problem.seconds === null ? null : seconds(problem.seconds)),
  );
}

/** @param {any} problem */
function troubles({ error, failures, notes, judgement }) {
  const causes = [error, ...failures.filter((/** @type {string} */ one) => one !== error)].filter(Boolean);
  return [
    causes.length > 0 &&
      h(
        "div",
        { class: "alert" },
        causes.map((/** @type {string} */ one) => h("p", { class: "text" }, one)),
      ),
    judgement &&
      h(
        "details",
        { class: "turns" },
        h("summary", {}, "The judge's answer"),
        textBlock(typeof judgement === "string" ? judgement : JSON.stringify(judgement, null, 2), "empty"),
      ),
    notes.map((/** @type {string} */ note) => h("p", { class: "alert mild" }, note)),
  ];
}

/** @param {any} problem */
function body(problem) {
  const steps = problem.steps.map((/** @type {any} */ step) => stepView(step, problem.policy));
  problem.steps.forEach(
    (/** @type {any} */ step, /** @type {number} */ index) =>
      step.candidates.length > 1 && steps[index].classList.add("with-rejected"),
  );
  const empty = problem.finish ? "No step was kept." : "No step has been kept yet.";
  return h(
    "div",
    {},
    question(problem),
    outcome(problem),
    troubles(problem).flat(),
    callLanes(problem),
    h(
      "section",
      { "aria-label": "Transcript" },
      h("h2", { class: "part" }, "Transcript"),
      steps.length ? h("ol", { class: "steps" }, steps) : h("p", { class: "muted" }, empty),
    ),
    callTable(problem),
  );
}
