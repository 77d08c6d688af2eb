// The columns of the table of runs, and how its filter reads.

import { h } from "./dom.js";
import { href } from "./router.js";
import { compact, count, moment, percent, seconds } from "./words.js";

export const MATCH_HINT = "Words that a run must have in its name, type, models, data or state";

/** @param {any} run */
const textOf = (run) =>
  [
    run.name,
    run.folder,
    run.run_type,
    ...run.run_types,
    run.data,
    run.kind,
    run.state,
    run.threshold === null ? "" : `τ=${run.threshold}`,
    ...Object.values(run.models),
    run.error,
  ]
    .filter(Boolean)
    .join("\n")
    .toLowerCase();

/**
 * Return whether a run has all words.
 * @param {any} run
 * @param {string[]} words In lower case.
 */
export const describes = (run, words) => words.length === 0 || words.every((word) => textOf(run).includes(word));

/** @param {any} run @param {string} field What a column sorts by. */
export const valueOf = (run, field) => (field === "done" ? run.ended : run[field]);

const STATES = new Map([
  ["finished", "right"],
  ["running", "running"],
  ["damaged", "damaged"],
]);

/** @param {any} run */
const state = (run) =>
  h(
    "span",
    { class: `state ${STATES.get(run.state) ?? "other"}`, title: run.error },
    h("span", { "aria-hidden": "true" }, run.live ? "● " : ""),
    run.state,
  );

/** @param {any} run */
const models = (run) =>
  Object.values(run.models)
    .filter((model, index, all) => all.indexOf(model) === index)
    .join(", ");

/** @param {any} run */
function type(run) {
  const types = run.run_types.length > 1 ? run.run_types.join(", ") : (run.run_type ?? run.kind);
  return run.threshold === null ? types : `${types}, τ = ${run.threshold}`;
}

/** @param {any} run */
function about(run) {
  if (run.error) return run.error;
  if (run.points !== null) return `${run.kind} with ${count(run.points, "point")}`;
  return [run.kind === "run" ? "" : run.kind, models(run)].filter(Boolean).join(" · ");
}

/** @param {any} run */
function name(run) {
  const link = run.viewable ? h("a", { href: href("/run", { run: run.run }), tabindex: "-1" }, run.name) : run.name;
  return h(
    "span",
    { class: `two ${run.parent ? "point" : ""}` },
    h("span", { class: "name" }, link),
    h("span", { class: `about ${run.error ? "bad" : ""}`, title: about(run) }, about(run)),
  );
}

/** @param {any} run */
function accuracy(run) {
  const range = run.accuracy_interval
    ? `${percent(run.accuracy_interval[0], 0)} – ${percent(run.accuracy_interval[1], 0)}`
    : "";
  return h("span", { class: "two" }, h("span", {}, percent(run.accuracy)), h("span", { class: "about" }, range));
}

/** @param {any} run */
function done(run) {
  if (run.problems === null || run.ended === run.problems * run.samples) return compact(run.ended);
  return h(
    "span",
    { class: "two" },
    h("span", {}, compact(run.ended)),
    h("span", { class: "about" }, `of ${compact(run.problems * run.samples)}`),
  );
}

/** @typedef {{ isMarked: (run: string) => boolean, mark: (run: string) => void }} Marks */

/** @param {any} run @param {Marks} marks */
function choose(run, marks) {
  if (!run.viewable) return h("span", { class: "choose" });
  const box = h("input", {
    type: "checkbox",
    tabindex: "-1",
    "aria-label": `Compare ${run.name}`,
    change: () => marks.mark(run.run),
  });
  /** @type {HTMLInputElement} */ (box).checked = marks.isMarked(run.run);
  return h("label", { class: "choose" }, box);
}

/** @param {any} run @param {Marks} marks */
function card(run, marks) {
  const figures = run.error
    ? run.error
    : `${percent(run.accuracy)} right · ${compact(run.target_tokens)} target tokens`;
  return h(
    "div",
    { class: "card with-choice" },
    choose(run, marks),
    h("span", { class: "cut name" }, run.name),
    state(run),
    h("span", { class: "cut about" }, `${type(run)}${run.data ? ` · ${run.data}` : ""}`),
    h("span", { class: "about" }, moment(run.started).slice(5)),
    h("span", { class: `cut all about ${run.error ? "bad" : "strong"}` }, figures),
  );
}

/**
 * Return the columns for a wide or a narrow page.
 * @param {boolean} isNarrow
 * @param {Marks} marks
 * @returns {{ columns: import("./grid.js").Column[], rowHeight: number }}
 */
export function columnsOf(isNarrow, marks) {
  if (isNarrow)
    return {
      rowHeight: 82,
      columns: [{ field: "card", title: "Runs", unsorted: true, cell: (run) => card(run, marks) }],
    };
  return {
    rowHeight: 46,
    columns: [
      { field: "marked", title: "", width: 44, unsorted: true, cell: (run) => choose(run, marks) },
      { field: "name", title: "Run", grow: 3, cell: name },
      { field: "run_type", title: "Type", width: 142, cell: type },
      { field: "data", title: "Data", width: 100, cell: (run) => run.data ?? "–" },
      {
        field: "accuracy",
        title: "Accuracy",
        width: 112,
        right: true,
        descFirst: true,
        hint: "With its 95 % interval",
        cell: accuracy,
      },
      {
        field: "target_tokens",
        title: "Target tokens",
        width: 128,
        right: true,
        hint: "Written by the target, kept or not",
        cell: (run) => compact(run.target_tokens),
      },
      {
        field: "acceptance",
        title: "Draft's steps",
        width: 122,
        right: true,
        descFirst: true,
        hint: "Share of kept steps that the draft wrote",
        cell: (run) => percent(run.acceptance),
      },
      {
        field: "latency_mean",
        title: "Latency",
        width: 96,
        right: true,
        hint: "Mean seconds of a problem",
        cell: (run) => seconds(run.latency_mean),
      },
      { field: "done", title: "Problems", width: 104, right: true, descFirst: true, cell: done },
      {
        field: "started",
        title: "Started",
        width: 142,
        descFirst: true,
        hint: "UTC",
        cell: (run) => moment(run.started),
      },
      { field: "state", title: "State", width: 118, cell: state },
    ],
  };
}
