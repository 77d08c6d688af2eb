// The parts of a step: who wrote it, its scores, its text, and the word diff of two texts.

import { h, s } from "./dom.js";
import { score } from "./words.js";

/** @typedef {{ op: string, text: string }} Part */

/**
 * Who wrote a step: a word and a shape besides the colour.
 * @param {string} author
 * @param {string} [target] The name of the target, if there are several.
 */
export function authorChip(author, target = "") {
  return h(
    "span",
    { class: `who ${author}` },
    h("span", { "aria-hidden": "true" }, author === "target" ? "■ " : "□ "),
    author,
    target && ` ${target}`,
  );
}

/**
 * A text of the log. A text that the log leaves out is said to be missing.
 * @param {string | null | undefined} text
 * @param {string} instead
 */
export function textBlock(text, instead) {
  return text ? h("p", { class: "text" }, text) : h("p", { class: "text missing" }, instead);
}

/**
 * One side of a word diff: the parts that both texts have, and those that only this one has, marked as `tag`.
 * @param {Part[]} diff
 * @param {string} side The operation of this side.
 * @param {"ins" | "del" | "mark"} tag
 */
export function diffSide(diff, side, tag) {
  const shown = diff.filter(({ op }) => op === "same" || op === side);
  return h(
    "p",
    { class: "text" },
    shown.map(({ op, text }) => (op === "same" ? text : h(tag, {}, text))),
  );
}

/**
 * A score between 0 and 1 as a bar, with a line at the threshold.
 * @param {number | null} value
 * @param {number | null} threshold
 * @param {string} name
 */
export function scoreBar(value, threshold, name) {
  if (value === null) return null;
  const inside = value >= 0 && value <= 1;
  const bar =
    inside &&
    s(
      "svg",
      { class: "score-bar", viewBox: "0 0 60 8", width: 60, height: 8, "aria-hidden": "true" },
      s("rect", { class: "rail", width: 60, height: 8 }),
      s("rect", { class: "value", width: 60 * value, height: 8 }),
      threshold !== null &&
        threshold >= 0 &&
        threshold <= 1 &&
        s("path", { class: "tau", d: `M${60 * threshold} -1v10` }),
    );
  return h("span", { class: "score" }, `${name} ${score(value)} `, bar);
}

const SCORES = new Map([
  ["router", "ŷ"],
  ["rsd", "h"],
  ["judge", "rating"],
  ["paced_router", "ŷ"],
  ["paced_prm", "h"],
  ["pomdp_prm", "h"],
  ["paced_judge", "rating"],
  ["confidence", "confidence"],
]);

/** @param {string} type The policy's type. */
export const scoreName = (type) => SCORES.get(type) ?? "score";
