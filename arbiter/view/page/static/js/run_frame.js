// What all views of one run have: its name, its figures, its tabs, and looking at whether it has changed.

import { follow } from "./api.js";
import { h, put } from "./dom.js";
import { href } from "./router.js";
import { alertBox, figure, showFailure, showLink, showWay } from "./shell.js";
import { compact, count, moment, percent, seconds } from "./words.js";

/** @typedef {"/run" | "/timeline" | "/what-if" | "/settings"} Tab */

/** @type {[Tab, string][]} */
const TABS = [
  ["/run", "Problems"],
  ["/timeline", "Timeline"],
  ["/what-if", "What if"],
  ["/settings", "Settings"],
];

/** @param {any} run */
const threshold = (run) => (run.threshold === null ? "" : `, τ = ${run.threshold}`);

/** @param {any} run */
function about(run) {
  const models = Object.entries(run.models)
    .map(([name, model]) => `${name} ${model}`)
    .join(", ");
  const parts = [
    `${run.run_type ?? run.kind}${threshold(run)}`,
    run.data,
    models,
    `${moment(run.started)} UTC`,
    run.seconds === null ? "" : `${seconds(run.seconds)}${run.simulated ? " (simulated)" : ""}`,
    run.state,
  ];
  return parts.filter(Boolean).join(" · ");
}

/** @param {any} run */
function figures(run) {
  const range = run.accuracy_interval
    ? `accuracy, ${percent(run.accuracy_interval[0])} to ${percent(run.accuracy_interval[1])}`
    : "accuracy";
  return [
    figure(
      run.problems === null || run.ended === run.problems ? "problems" : `of ${count(run.problems, "problem")} ended`,
      compact(run.ended),
    ),
    figure(range, percent(run.accuracy)),
    figure("steps of the draft", percent(run.acceptance), "minor"),
    figure("target tokens", compact(run.target_tokens)),
    figure("mean latency", seconds(run.latency_mean), "minor"),
    figure("failed", compact(run.failed), run.failed > 0 ? "alarm" : "minor"),
  ];
}

/** @param {any} run */
const withoutProblems = (run) =>
  ["sweep", "reproduction"].includes(run.kind)
    ? `${run.name} is a ${run.kind}, which has no problems of its own. Open one of its points in the list of runs.`
    : `There is no log in ${run.folder}, only results. The list of runs has their figures.`;

/** @param {Tab} current @param {any} run */
function tabs(current, run) {
  return TABS.map(([path, name]) =>
    h("a", { href: href(path, { run: run.run }), "aria-current": path === current && "page" }, name),
  );
}

/** @param {any} answer */
function notices(answer) {
  const { index, run } = answer;
  return [
    run.error && alertBox(new Error(run.error)),
    index.error &&
      index.error !== run.error &&
      alertBox(new Error(`The log cannot be read further than ${count(index.rows, "row")}: ${index.error}`)),
    !index.complete &&
      !index.error &&
      h(
        "p",
        { class: "alert mild", role: "status" },
        `Reading the log: ${percent(index.share, 0)} so far. The list grows while it is read.`,
      ),
    answer.record !== "full" &&
      h("p", { class: "alert mild" }, `This run was recorded as “${answer.record}”: its log leaves out texts.`),
  ];
}

/**
 * Open a view of a run. `opened` builds it from the first answer and returns what later answers change.
 * @param {import("./shell.js").Context} context
 * @param {Tab} tab
 * @param {(answer: any, body: HTMLElement) => { changed?: (answer: any) => void, close?: () => void }} opened
 * @returns {import("./shell.js").View}
 */
export function openRunFrame({ main, query, signal }, tab, opened) {
  const [head, bar, notes, body] = [
    h("header", { class: "head" }),
    h("nav", { class: "tabs", "aria-label": "Views of the run" }),
    h("div", {}),
    h("div", { class: "body" }),
  ];
  put(main, h("p", { class: "loading", role: "status" }, "Loading the run …"));
  /** @type {{ changed?: (answer: any) => void, close?: () => void } | null} */
  let view = null;

  /** @param {any} answer */
  function changed(answer) {
    const { run } = answer;
    showWay([{ text: run.name }]);
    if (!run.viewable) throw new Error(run.error ?? withoutProblems(run));
    put(
      head,
      h("div", { class: "title" }, h("h1", {}, run.name), h("p", { class: "muted" }, about(run))),
      h("dl", { class: "figures" }, figures(run)),
    );
    put(notes, notices(answer));
    if (view) return view.changed?.(answer);
    put(bar, tabs(tab, run));
    main.classList.remove("scrolls");
    put(main, head, bar, notes, body);
    view = opened(answer, body);
  }

  const isLive = (/** @type {any} */ { run, index }) => run.live || (index && !index.complete && !index.error);
  let live = false;
  void follow(
    `runs/${encodeURIComponent(query.run ?? "")}`,
    {
      changed: (answer) => ((live = isLive(answer)), changed(answer)),
      answered: () => showLink(live ? "live" : "still"),
      failed: (error) => (view ? showLink("lost", error) : showFailure(main, error)),
      isLive,
    },
    signal,
  );
  return { close: () => view?.close?.() };
}
