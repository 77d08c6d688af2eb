// The start of the page: it opens the view that the address names, and closes the one before.

import { byId, h, put } from "./dom.js";
import { listen } from "./keys.js";
import { here, href } from "./router.js";
import { showFailure, showLink, showWay } from "./shell.js";
import { openRuns } from "./runs_view.js";
import { openProblems } from "./problems_view.js";
import { openTimeline } from "./timeline_view.js";
import { openWhatIf } from "./what_if_view.js";
import { openSettings } from "./settings_view.js";
import { openProblem } from "./problem_view.js";
import { openComparison } from "./comparison_view.js";
import { openPair } from "./pair_view.js";

/** @type {Map<string, (context: import("./shell.js").Context) => Promise<import("./shell.js").View | void>>} */
const VIEWS = new Map([
  ["/", openRuns],
  ["/run", openProblems],
  ["/timeline", openTimeline],
  ["/what-if", openWhatIf],
  ["/settings", openSettings],
  ["/problem", openProblem],
  ["/compare", openComparison],
  ["/pair", openPair],
]);

let leave = () => {};

/** @param {boolean} isFirst The first view leaves the focus where the browser starts. */
async function show(isFirst) {
  leave();
  const main = byId("main");
  const { path, query } = here();
  const ending = new AbortController();
  /** @type {import("./shell.js").View | void} */
  let view;
  leave = () => (ending.abort(), view?.close?.());
  main.className = "";
  put(main);
  showLink("still");
  showWay([]);
  if (!isFirst) main.focus({ preventScroll: true });
  try {
    const open = VIEWS.get(path);
    if (!open) throw new Error(`There is no view ${path} in this page.`);
    view = await open({ main, query, signal: ending.signal });
    if (ending.signal.aborted) view?.close?.();
  } catch (error) {
    if (!ending.signal.aborted) showFailure(main, error);
  }
}

listen();
byId("skip").addEventListener("click", (event) => (event.preventDefault(), byId("main").focus()));
window.addEventListener("hashchange", () => void show(false));
void show(true);
