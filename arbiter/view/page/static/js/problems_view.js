// The problems of a run.

import { h } from "./dom.js";
import { bind } from "./keys.js";
import { problemColumns } from "./problem_columns.js";
import { ProblemList } from "./problem_list.js";
import { go } from "./router.js";
import { openRunFrame } from "./run_frame.js";

const CHIPS = [
  { label: "All", filter: "", needs: "" },
  { label: "Wrong", filter: "wrong", needs: "wrong" },
  { label: "Escalated", filter: "escalated > 0", needs: "escalated" },
  { label: "Failed", filter: "failed", needs: "failed" },
  { label: "Not graded", filter: 'grade == "not graded"', needs: "grade" },
  { label: "Unfinished", filter: "unfinished", needs: "unfinished" },
];

/** Open the problems of a run. @param {import("./shell.js").Context} context */
export async function openProblems(context) {
  const { query, signal } = context;
  const unbind = bind([{ keys: ["Escape"], does: "all runs", act: () => go("/") }]);
  const frame = openRunFrame(context, "/run", (first, body) => {
    body.classList.add("fills");
    const names = first.filter_names.map((/** @type {any} */ { name }) => name);
    /** @type {ProblemList} */
    const list = new ProblemList(
      body,
      query,
      {
        path: `runs/${encodeURIComponent(query.run ?? "")}/problems`,
        parameters: {},
        label: "Problems",
        unit: "problem",
        names: first.filter_names,
        chips: CHIPS.filter(({ needs }) => !needs || names.includes(needs)),
        example: "wrong and escalated > 3",
        sorts: ["row", ...names],
        columns: (isNarrow) => problemColumns(isNarrow, first.run),
        teach: (isFiltered) => teach(isFiltered, first, list),
        open: (row, place) => go("/problem", { run: query.run, row: row.row, ...place }),
      },
      signal,
    );
    let seen = JSON.stringify([first.index, first.run.ended]);
    return {
      changed: (answer) => {
        const now = JSON.stringify([answer.index, answer.run.ended]);
        if (now !== seen) void list.renew();
        seen = now;
      },
      close: () => list.close(),
    };
  });
  return { close: () => (unbind(), frame.close?.()) };
}

/** @param {boolean} isFiltered @param {any} answer @param {ProblemList} list */
function teach(isFiltered, answer, list) {
  if (isFiltered)
    return h(
      "div",
      {},
      h("p", {}, "No problem matches. "),
      h("p", {}, h("button", { type: "button", class: "pill", click: () => list.reset() }, "Show all problems")),
    );
  if (answer.run.live || !answer.index.complete)
    return h("p", {}, "No problem has been read yet. They appear here as they are recorded.");
  return h("p", {}, "The log of this run has no problem. The run ended, or was ended, before its first request.");
}
