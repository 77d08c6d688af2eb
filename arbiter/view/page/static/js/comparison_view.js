// Two runs: what differs in how they were made, and which problems changed their grade.

import { follow } from "./api.js";
import { h, put } from "./dom.js";
import { bind } from "./keys.js";
import { pairColumns } from "./pair_columns.js";
import { ProblemList } from "./problem_list.js";
import { go, href } from "./router.js";
import { alertBox, plainTable, showFailure, showLink, showWay } from "./shell.js";
import { compact, count, percent, seconds } from "./words.js";

const CHIPS = [
  { label: "All", filter: "" },
  { label: "Changed grade", filter: 'change != "none"' },
  { label: "Gained", filter: 'change == "gained"' },
  { label: "Lost", filter: 'change == "lost"' },
  { label: "Other steps", filter: "parts >= 0" },
];

/** Open the comparison of two runs. @param {import("./shell.js").Context} context */
export async function openComparison({ main, query, signal }) {
  const { a = "", b = "" } = query;
  put(main, h("p", { class: "loading", role: "status" }, "Comparing …"));
  const unbind = bind([
    { keys: ["Escape"], does: "all runs", act: () => go("/", { a, b }) },
    { keys: ["s"], does: "swap the two runs", act: () => go("/compare", { a: b, b: a }) },
  ]);
  const about = h("header", { class: "head comparison" });
  /** @type {ProblemList | null} */
  let list = null;
  const changed = (/** @type {any} */ answer) => {
    put(about, head(answer));
    if (list) return void list.renew();
    showWay([{ text: `${answer.a.name} and ${answer.b.name}` }]);
    const body = h("div", { class: "body fills" });
    main.classList.remove("scrolls");
    put(main, about, body);
    list = pairList(body, answer, query, signal);
  };
  let live = false;
  const isLive = (/** @type {any} */ { a: left, b: right, index }) =>
    left.live || right.live || !(index.complete || index.error);
  void follow(
    `compare?${new URLSearchParams({ a, b })}`,
    {
      changed: (answer) => ((live = isLive(answer)), changed(answer)),
      answered: () => showLink(live ? "live" : "still"),
      failed: (error) => (list ? showLink("lost", error) : showFailure(main, error)),
      isLive,
    },
    signal,
  );
  return { close: () => (unbind(), list?.close()) };
}

/** @param {HTMLElement} body @param {any} answer @param {Record<string, string>} query @param {AbortSignal} signal */
function pairList(body, answer, query, signal) {
  const { a = "", b = "" } = query;
  /** @type {ProblemList} */
  const list = new ProblemList(
    body,
    query,
    {
      path: "compare/problems",
      parameters: { a, b },
      label: "Problems of both runs",
      unit: "problem",
      names: answer.filter_names,
      chips: CHIPS,
      example: 'change == "lost" and parts > 2',
      sorts: answer.filter_names.map((/** @type {any} */ { name }) => name),
      columns: pairColumns,
      teach: (isFiltered) => teach(isFiltered, answer, list),
      open: (row, place) => go("/pair", { a, b, row: row.a.row, ...place }),
    },
    signal,
  );
  return list;
}

/** @param {boolean} isFiltered @param {any} answer @param {ProblemList} list */
function teach(isFiltered, answer, list) {
  if (isFiltered)
    return h(
      "div",
      {},
      h("p", {}, "No pair matches."),
      h("p", {}, h("button", { type: "button", class: "pill", click: () => list.reset() }, "Show all pairs")),
    );
  return h(
    "p",
    {},
    `The runs share no problem: ${count(answer.only_a, "problem")} are only in A, ${answer.only_b} only in B. Compare runs over the same data.`,
  );
}

/** @param {any} run @param {string} side */
function runName(run, side) {
  const threshold = run.threshold === null ? "" : `, τ = ${run.threshold}`;
  return h(
    "div",
    { class: "run-name" },
    h("span", { class: `letter ${side}` }, side.toUpperCase()),
    h("a", { href: href("/run", { run: run.run }) }, run.name),
    h("span", { class: "muted" }, ` ${run.run_type ?? run.kind}${threshold}`),
  );
}

/** @param {any} answer */
function figures({ a, b }) {
  const line = (/** @type {string} */ name, /** @type {string} */ key, /** @type {(value: any) => string} */ text) => [
    name,
    text(a[key]),
    text(b[key]),
  ];
  return plainTable(
    "Figures",
    ["", "A", "B"],
    [
      line("Accuracy", "accuracy", percent),
      line("Draft's steps", "acceptance", percent),
      line("Target tokens", "target_tokens", compact),
      line("Latency", "latency_mean", seconds),
    ],
  );
}

/** @param {any} answer */
function grades({ answers }) {
  return plainTable(
    "Right answers",
    ["", "B right", "B not right"],
    [
      ["A right", String(answers.both), String(answers.only_a)],
      ["A not right", String(answers.only_b), String(answers.none)],
    ],
  );
}

/** @param {any} answer */
function head(answer) {
  const { shared, same, different, only_a: onlyA, only_b: onlyB, identity, index } = answer;
  const facts = [
    `${count(shared, "shared problem")}: ${same} with equal transcripts, ${different} that part`,
    onlyA > 0 && `${onlyA} only in A`,
    onlyB > 0 && `${onlyB} only in B`,
  ]
    .filter(Boolean)
    .join("; ");
  const differs = identity.length
    ? h(
        "details",
        { class: "identity" },
        h("summary", {}, `They differ in ${count(identity.length, "setting")}: ${identity[0]}`),
        h(
          "ul",
          {},
          identity.map((/** @type {string} */ one) => h("li", { class: "text" }, one)),
        ),
      )
    : h("p", { class: "muted" }, "Both were made with the same settings.");
  return [
    h(
      "div",
      { class: "title" },
      h("h1", { class: "hidden" }, "Comparison"),
      runName(answer.a, "a"),
      runName(answer.b, "b"),
      h("p", {}, facts),
      differs,
      index.error && alertBox(new Error(index.error)),
      !index.complete &&
        !index.error &&
        h(
          "p",
          { class: "muted" },
          `Reading the logs: ${percent(index.share, 0)} so far. The list grows while they are read.`,
        ),
    ),
    grades(answer),
    figures(answer),
  ];
}
