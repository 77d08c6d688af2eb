// The columns of a list of problems.

import { h, s } from "./dom.js";
import { gradeChip } from "./shell.js";
import { compact, count, label, seconds, spaced } from "./words.js";

/** @param {string} field @param {string} instead */
const text =
  (field, instead = "–") =>
  (/** @type {any} */ row) =>
    row[field] || instead;

const TAIL = 9; // characters of an id that are always seen

/**
 * The id of a problem. What is too long loses its middle: ids often differ in their ends alone.
 * @param {any} row
 */
export function problemName(row) {
  const letters = [...label(row.id, row.sample)];
  const tail = letters.length > TAIL ? TAIL : 0;
  return h(
    "span",
    { class: "ends", title: letters.join("") },
    h("span", {}, letters.slice(0, letters.length - tail).join("")),
    tail > 0 && h("span", {}, letters.slice(-tail).join("")),
  );
}

/**
 * Who wrote each kept step: the draft's steps are low, the target's high.
 * @param {string} authors One letter a step.
 */
export function authorStrip(authors) {
  const all = [...authors];
  const width = Math.min(8, 96 / Math.max(1, all.length));
  const bars = all.map((author, step) =>
    s("rect", {
      class: author === "T" ? "target" : "draft",
      x: step * width,
      width: Math.max(0.6, width - 1),
      y: author === "T" ? 0 : 7,
      height: author === "T" ? 12 : 5,
    }),
  );
  const target = all.filter((author) => author === "T").length;
  return s(
    "svg",
    {
      class: "authors",
      viewBox: "0 0 96 12",
      width: 96,
      height: 12,
      role: "img",
      "aria-label": `${count(all.length, "step")}, ${target} of the target`,
    },
    bars,
  );
}

/** @param {any} row */
function answers(row) {
  if (row.error) return h("span", { class: "cut about bad" }, row.error);
  return h(
    "span",
    { class: "cut about" },
    h("span", { class: "muted" }, "expected "),
    row.expected ?? "–",
    h("span", { class: "muted" }, " · given "),
    row.answer ?? "–",
  );
}

/** @param {any} row */
function card(row) {
  return h(
    "div",
    { class: "card" },
    h("span", { class: "cut name" }, label(row.id, row.sample)),
    gradeChip(row.grade),
    h("span", { class: "cut all about" }, row.question || "no question in the log"),
    h("span", { class: "all" }, answers(row)),
    h(
      "span",
      { class: "about all facts" },
      authorStrip(row.authors),
      ` ${row.escalated ?? 0} escalated · ${compact(row.target_tokens)} target tokens · ${seconds(row.seconds)}`,
    ),
  );
}

/** @param {any} row @returns {string} */
const whyOf = (row) => row.error ?? row.reason ?? (row.finish === "answered" ? "" : spaced(row.finish));

/** @param {any} row */
const why = (row) => h("span", { class: `cut ${row.error ? "bad" : ""}`, title: whyOf(row) }, whyOf(row));

/**
 * @param {boolean} isNarrow
 * @param {any} run
 * @returns {{ columns: import("./grid.js").Column[], rowHeight: number }}
 */
export function problemColumns(isNarrow, run) {
  if (isNarrow) return { rowHeight: 106, columns: [{ field: "card", title: "Problems", unsorted: true, cell: card }] };
  return {
    rowHeight: 34,
    columns: [
      {
        field: "row",
        title: "#",
        width: 62,
        right: true,
        hint: "The order of the log",
        cell: (row) => h("span", { class: "muted" }, String(row.row)),
      },
      { field: "id", title: "Problem", width: 148, cell: problemName },
      { field: "grade", title: "Grade", width: 116, cell: (row) => gradeChip(row.grade) },
      { field: "question", title: "Question", grow: 8, cell: text("question", "not in the log") },
      { field: "expected", title: "Expected", grow: 3, cell: text("expected") },
      { field: "answer", title: "Given", grow: 3, cell: text("answer") },
      { field: "reason", title: "Why", grow: 4, cell: why },
      {
        field: "steps",
        title: "Steps",
        width: 118,
        descFirst: true,
        hint: "Low: written by the draft. High: written by the target",
        cell: (row) => authorStrip(row.authors),
      },
      {
        field: "escalated",
        title: run.run_type === "oracle" || run.run_type === "generate" ? "By target" : "Escalated",
        width: 98,
        right: true,
        descFirst: true,
        cell: (row) => compact(row.escalated),
      },
      {
        field: "target_tokens",
        title: "Target tok.",
        width: 104,
        right: true,
        descFirst: true,
        hint: "Tokens of kept steps that the target wrote",
        cell: (row) => compact(row.target_tokens),
      },
      { field: "seconds", title: "Time", width: 84, right: true, descFirst: true, cell: (row) => seconds(row.seconds) },
    ],
  };
}
