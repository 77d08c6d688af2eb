// The same problem in two runs, side by side, step by step.

import { ask, askPatiently } from "./api.js";
import { h, put } from "./dom.js";
import { bind } from "./keys.js";
import { listOf, neighbourKeys, neighbourLinks, placeOf } from "./list_place.js";
import { question, stepKeys, stepTo } from "./problem_view.js";
import { go, href } from "./router.js";
import { gradeChip, showWay } from "./shell.js";
import { authorChip, diffSide, textBlock } from "./step_parts.js";
import { count, label, seconds } from "./words.js";

/** Open a pair of problems. @param {import("./shell.js").Context} context */
export async function openPair({ main, query, signal }) {
  const { a = "", b = "", row = "" } = query;
  main.classList.add("scrolls");
  put(main, h("p", { class: "loading", role: "status" }, "Loading the two transcripts …"));
  /** @type {any} */
  let runs = null;
  const isRead = async () => {
    runs = await ask("compare", { a, b }, signal);
    return runs.index.complete || runs.index.error !== null;
  };
  const pair = await askPatiently("compare/problem", { a, b, row }, isRead, signal);
  const known = await placeOf("compare/problems", { a, b }, query, (one) => one.a.row, signal);
  const place = known ?? { previous: null, next: null, at: "", matching: null };
  const where = { a, b, ...listOf(query) };
  const back = { ...where, at: place.at };
  const name = label(pair.id, pair.sample);
  showWay([{ text: `${runs.a.name} and ${runs.b.name}`, to: href("/compare", back) }, { text: name }]);
  put(
    main,
    h(
      "article",
      { class: "problem pair" },
      head(pair, name, neighbourLinks(place, "/pair", where)),
      question(pair.a),
      outcomes(pair, runs, { a, b }),
      h("h2", { class: "part" }, "Where they part"),
      steps(pair),
    ),
  );
  return {
    close: bind([
      ...neighbourKeys(place, "/pair", where, "pair"),
      ...stepKeys(main),
      { keys: ["d"], does: "the step where they part", act: () => stepTo(main, 1, ".parts-here") },
      { keys: ["Escape"], does: "back to the list", act: () => go("/compare", back) },
    ]),
  };
}

const CHANGES = new Map([
  ["gained", "gained: right in B alone"],
  ["lost", "lost: right in A alone"],
  ["none", "the grade is the same"],
]);

/** @param {any} pair @param {string} name @param {Node} links */
function head(pair, name, links) {
  const where = pair.parts === null ? "equal transcripts" : `they part at step ${pair.parts + 1}`;
  return h(
    "header",
    {},
    h("div", { class: "problem-title" }, h("h1", {}, name), links),
    h("p", { class: "muted" }, `${CHANGES.get(pair.change) ?? pair.change}; ${where}`),
  );
}

/** @param {any} pair @param {any} runs @param {{ a: string, b: string }} ids */
function outcomes(pair, runs, ids) {
  const one = (/** @type {"a" | "b"} */ side) => {
    const problem = pair[side];
    return h(
      "div",
      { class: "outcome-of" },
      h(
        "p",
        {},
        h("span", { class: `letter ${side}` }, side.toUpperCase()),
        h("a", { href: href("/problem", { run: ids[side], row: problem.row }) }, runs[side].name),
      ),
      h(
        "p",
        {},
        gradeChip(problem.grade),
        " ",
        h("strong", {}, problem.answer ?? "no answer"),
        h("span", { class: "muted" }, problem.expected === null ? "" : `, expected ${problem.expected}`),
      ),
      h(
        "p",
        { class: "muted small" },
        [problem.reason, count(problem.steps.length, "step"), seconds(problem.seconds)].filter(Boolean).join(" · "),
      ),
      problem.error && h("p", { class: "bad" }, problem.error),
    );
  };
  return h("div", { class: "sides" }, one("a"), one("b"));
}

/** @param {any} step @param {"a" | "b"} side @param {any} diff */
function half(step, side, diff) {
  if (!step) return h("div", { class: "side none" }, h("p", { class: "muted" }, "This run has no such step."));
  const text = diff ? diffSide(diff, side, "mark") : textBlock(step.text, "This text is not in the log.");
  return h(
    "div",
    { class: `side ${step.author}` },
    h(
      "p",
      { class: "line" },
      h("span", { class: `letter ${side}` }, side.toUpperCase()),
      authorChip(step.author),
      h("span", { class: "decision" }, step.decision),
    ),
    text,
  );
}

/** @param {any} pair */
function steps(pair) {
  const lines = pair.steps.map((/** @type {any} */ { step, same, diff }) => {
    const [a, b] = [pair.a.steps[step], pair.b.steps[step]];
    const here = step === pair.parts;
    const title = h(
      "p",
      { class: "line" },
      h("span", { class: "number" }, `Step ${step + 1}`),
      same
        ? h("span", { class: "muted" }, "the same text in both")
        : here
          ? h("strong", {}, "They part here")
          : h("span", { class: "muted" }, "different texts"),
    );
    return h(
      "li",
      { class: `step both ${same ? "same" : ""} ${here ? "parts-here" : ""}`, id: `step-${step}`, tabindex: "-1" },
      title,
      same ? shared(a, b) : h("div", { class: "sides" }, half(a, "a", diff), half(b, "b", diff)),
    );
  });
  return h("ol", { class: "steps" }, lines);
}

/** One text for both runs. @param {any} a @param {any} b */
function shared(a, b) {
  const who =
    a.author === b.author
      ? [authorChip(a.author)]
      : [
          h("span", { class: "letter a" }, "A"),
          authorChip(a.author),
          h("span", { class: "letter b" }, "B"),
          authorChip(b.author),
        ];
  const why = a.decision === b.decision ? a.decision : `A ${a.decision}; B ${b.decision}`;
  return h(
    "div",
    { class: `alone ${a.author}` },
    h("p", { class: "line" }, who, h("span", { class: "decision" }, why)),
    textBlock(a.text, "This text is not in the log."),
  );
}
