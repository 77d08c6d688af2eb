// The columns of a list of pairs: the same problem in two runs.

import { h } from "./dom.js";
import { authorStrip, problemName } from "./problem_columns.js";
import { gradeChip } from "./shell.js";
import { label } from "./words.js";

const CHANGES = new Map([
  ["gained", "↑ gained"],
  ["lost", "↓ lost"],
  ["none", "same"],
]);

/** @param {any} row */
const change = (row) =>
  h(
    "span",
    { class: `state ${row.change === "gained" ? "right" : row.change === "lost" ? "wrong" : "other"}` },
    CHANGES.get(row.change) ?? row.change,
  );

/** @param {any} row */
const parts = (row) => (row.parts === null ? "equal" : `step ${row.parts + 1}`);

/** @param {"a" | "b"} side */
const answer = (side) => (/** @type {any} */ row) =>
  h(
    "span",
    { class: "cut", title: row[side].answer },
    gradeChip(row[side].grade),
    " ",
    h("span", { class: "muted" }, row[side].answer ?? ""),
  );

/** @param {any} row */
function card(row) {
  return h(
    "div",
    { class: "card" },
    h("span", { class: "cut name" }, label(row.id, row.sample)),
    change(row),
    h("span", { class: "cut all about" }, row.question || "no question in the log"),
    h(
      "span",
      { class: "cut all about" },
      "A ",
      gradeChip(row.a.grade),
      ` ${row.a.answer ?? ""} · B `,
      gradeChip(row.b.grade),
      ` ${row.b.answer ?? ""}`,
    ),
    h("span", { class: "all about" }, row.parts === null ? "equal transcripts" : `they part at step ${row.parts + 1}`),
  );
}

/**
 * @param {boolean} isNarrow
 * @returns {{ columns: import("./grid.js").Column[], rowHeight: number }}
 */
export function pairColumns(isNarrow) {
  if (isNarrow) return { rowHeight: 106, columns: [{ field: "card", title: "Pairs", unsorted: true, cell: card }] };
  return {
    rowHeight: 34,
    columns: [
      { field: "id", title: "Problem", width: 140, cell: problemName },
      { field: "change", title: "Change", width: 100, cell: change },
      { field: "parts", title: "They part at", width: 118, cell: parts },
      {
        field: "question",
        title: "Question",
        grow: 3,
        cell: (row) => row.question || "not in the log",
      },
      {
        field: "expected",
        title: "Expected",
        grow: 1,
        cell: (row) => row.expected ?? "–",
      },
      { field: "a_grade", title: "A", grow: 1.4, cell: answer("a") },
      { field: "b_grade", title: "B", grow: 1.4, cell: answer("b") },
      { field: "a_steps", title: "A's steps", width: 120, descFirst: true, cell: (row) => authorStrip(row.a.authors) },
      { field: "b_steps", title: "B's steps", width: 120, descFirst: true, cell: (row) => authorStrip(row.b.authors) },
    ],
  };
}
