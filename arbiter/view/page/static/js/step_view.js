// A kept step with its decision, its cost, and the candidates that were rejected.

import { h } from "./dom.js";
import { authorChip, diffSide, scoreBar, scoreName, textBlock } from "./step_parts.js";
import { count, seconds } from "./words.js";

/** @type {[string, string][]} */
const PARTS = [
  ["queue", "waited"],
  ["draft", "draft"],
  ["score", "score"],
  ["target", "target"],
];

/** @param {any} times */
function timeBar(times) {
  if (!times) return null;
  const parts = PARTS.filter(([name]) => times[name] >= 0.0005);
  const meter =
    times.total > 0 &&
    h(
      "span",
      { class: "meter", "aria-hidden": "true" },
      parts.map(([name]) => h("i", { class: name, style: { "flex-grow": String(times[name]) } })),
    );
  return h(
    "span",
    { class: "time" },
    seconds(times.total),
    meter,
    parts.length > 1 &&
      h("span", { class: "parts" }, parts.map(([name, word]) => `${word} ${seconds(times[name])}`).join(" · ")),
  );
}

/** @param {any[]} calls The text of the step has their arguments. */
const toolNames = (calls) => calls.map(({ name, arguments: given }) => h("code", { title: given }, name));

/** The policies that compare the score of the draft itself with their threshold. */
const COMPARED = new Set(["router", "rsd", "judge", "confidence", "trigger"]);

/**
 * The policy with the threshold of a step: each step may have an offset, and the last one is for every further step.
 *
 * @param {any} policy
 * @param {number} step
 */
function atStep(policy, step) {
  const offsets = policy.offsets ?? [];
  if (offsets.length === 0) return policy;
  return { ...policy, threshold: policy.threshold + offsets[Math.min(step, offsets.length - 1)] };
}

/** @param {any} candidate @param {any} policy */
function judged(candidate, policy) {
  const threshold = candidate.author === "draft" && COMPARED.has(policy.type) ? policy.threshold : null;
  return [
    scoreBar(
      candidate.score ?? candidate.confidence,
      threshold,
      candidate.score === null && candidate.confidence !== null ? "confidence" : scoreName(policy.type),
    ),
    candidate.estimates.length > 1 &&
      h(
        "span",
        { class: "muted" },
        `estimates ${candidate.estimates.map((/** @type {number} */ one) => one.toFixed(3)).join(", ")}`,
      ),
    h("span", {}, count(candidate.tokens, "token")),
    candidate.calls.length > 0 && h("span", { class: "tools-called" }, "calls ", toolNames(candidate.calls)),
    candidate.valid === false && h("span", { class: "bad" }, candidate.violation ?? "breaks the rules"),
  ];
}

/** @param {any} candidate @param {any} policy @param {string} role @param {Node} text */
function side(candidate, policy, role, text) {
  return h(
    "div",
    { class: `side ${candidate.author} ${role}` },
    h(
      "p",
      { class: "line" },
      h("strong", {}, role),
      authorChip(candidate.author, candidate.target),
      judged(candidate, policy),
    ),
    text,
  );
}

/** @param {any} step @param {any} policy */
function candidates(step, policy) {
  const kept = step.candidates[step.kept];
  const rejected = step.candidates.filter(
    (/** @type {any} */ _one, /** @type {number} */ index) => index !== step.kept,
  );
  const missing = "This text is not in the log.";
  if (!kept || !rejected.length) return h("div", { class: "alone" }, textBlock(step.text, missing));
  const same = rejected[0].text === step.text;
  const { diff } = step;
  const left = diff && !same ? diffSide(diff, "rejected", "del") : textBlock(rejected[0].text, missing);
  const right = diff && !same ? diffSide(diff, "kept", "ins") : textBlock(step.text, missing);
  const others = rejected
    .slice(1)
    .map((/** @type {any} */ one) =>
      h(
        "details",
        { class: "other" },
        h("summary", {}, "another candidate of the ", one.author, one.target && ` ${one.target}`),
        side(one, policy, "rejected", textBlock(one.text, missing)),
      ),
    );
  return h(
    "div",
    {},
    same && step.text && h("p", { class: "muted small" }, "Both wrote the same text."),
    h("div", { class: "sides" }, side(rejected[0], policy, "rejected", left), side(kept, policy, "kept", right)),
    others,
  );
}

/**
 * @param {any} step
 * @param {any} recorded The policy of the problem.
 */
export function stepView(step, recorded) {
  const policy = atStep(recorded, step.step);
  const kept = step.candidates[step.kept] ?? step.candidates[0];
  const alone = step.candidates.length < 2;
  const head = h(
    "p",
    { class: "line" },
    h("span", { class: "number" }, `Step ${step.step + 1}`),
    authorChip(step.author, kept?.target),
    h("span", { class: "decision" }, step.decision),
  );
  const cost = h(
    "p",
    { class: "cost" },
    step.glimpse && scoreBar(step.glimpse.confidence, policy.threshold, "first token"),
    alone && kept && judged(kept, policy),
    timeBar(step.times),
    step.retries > 0 && h("span", { class: "bad" }, count(step.retries, "retry", "retries")),
  );
  return h(
    "li",
    { class: `step ${step.author}`, id: `step-${step.step}`, tabindex: "-1" },
    head,
    candidates(step, policy),
    cost,
  );
}
