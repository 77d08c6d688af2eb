// A run over time: its problems, and the servers, queues and limits under them.

import { ask } from "./api.js";
import { h, put } from "./dom.js";
import { bind } from "./keys.js";
import { ProblemLanes } from "./problem_lanes.js";
import { go } from "./router.js";
import { openRunFrame } from "./run_frame.js";
import { seriesPlots } from "./series_plots.js";
import { alertBox, plainTable } from "./shell.js";
import { count, seconds, whole } from "./words.js";

const MOST_ROWS = 20_000; // problems that the plot reads
const WINDOW = 500;

/** Open the timeline of a run. @param {import("./shell.js").Context} context */
export async function openTimeline(context) {
  const { query, signal } = context;
  const unbind = bind([
    { keys: ["Escape"], does: "the problems of the run", act: () => go("/run", { run: query.run }) },
  ]);
  const frame = openRunFrame(context, "/timeline", (first, body) => {
    const view = new TimelineView(body, first, query.run ?? "", signal);
    return { changed: (answer) => view.changed(answer), close: () => view.close() };
  });
  return { close: () => (unbind(), frame.close?.()) };
}

class TimelineView {
  /** @param {HTMLElement} body @param {any} answer @param {string} run @param {AbortSignal} signal */
  constructor(body, answer, run, signal) {
    this.run = run;
    this.signal = signal;
    this.seen = this.state(answer);
    this.note = h("div", {});
    this.charts = h("div", { class: "charts" });
    this.moves = h("div", { class: "moves" });
    this.lanes = new ProblemLanes((row) => go("/problem", { run, row: row.row }));
    body.classList.add("scrolls");
    put(body, this.note, this.lanes.element, this.charts, this.moves);
    this.redraw = () => this.timeline && this.draw();
    this.scheme = window.matchMedia("(prefers-color-scheme: dark)");
    this.scheme.addEventListener("change", this.redraw);
    this.sizes = new ResizeObserver(() => this.resized());
    this.sizes.observe(this.charts);
    this.width = 0;
    void this.load();
  }

  /** @param {any} answer */
  state(answer) {
    return JSON.stringify([answer.index, answer.run.ended]);
  }

  /** @param {any} answer */
  changed(answer) {
    const now = this.state(answer);
    if (now !== this.seen) void this.load();
    this.seen = now;
  }

  async load() {
    if (this.loading) return;
    this.loading = true;
    try {
      const path = `runs/${encodeURIComponent(this.run)}`;
      this.timeline = await ask(`${path}/timeline`, {}, this.signal);
      put(this.note);
      this.draw();
      await this.readRows(`${path}/problems`);
    } catch (error) {
      if (!this.signal.aborted) put(this.note, alertBox(error));
    } finally {
      this.loading = false;
    }
  }

  /** @param {string} path */
  async readRows(path) {
    /** @type {any[]} */
    const rows = [];
    for (let offset = 0; offset < MOST_ROWS; offset += WINDOW) {
      const answer = await ask(path, { offset: String(offset), limit: String(WINDOW) }, this.signal);
      rows.push(...answer.rows);
      if (rows.length >= answer.matching || !answer.rows.length) break;
      if (offset === 0) this.lanes.show(rows, this.timeline.seconds);
    }
    this.lanes.show(rows, this.timeline.seconds);
  }

  draw() {
    const { timeline } = this;
    this.plots?.forEach((plot) => plot.destroy());
    this.plots = seriesPlots(this.charts, timeline);
    this.lanes.draw();
    put(this.moves, this.sessions(), this.limits());
  }

  resized() {
    const width = this.charts.clientWidth;
    if (width === this.width) return;
    this.width = width;
    this.redraw();
  }

  sessions() {
    const later = this.timeline.sessions.filter((/** @type {any} */ one) => one.session > 0);
    return (
      later.length > 0 &&
      h(
        "p",
        { class: "muted" },
        `The run was continued ${count(later.length, "time")}, at ${later.map((/** @type {any} */ one) => seconds(one.at)).join(", ")}.`,
      )
    );
  }

  limits() {
    const { limits } = this.timeline;
    if (!limits.length) return h("p", { class: "muted" }, "No limit of a model moved during this run.");
    const lines = limits.map((/** @type {any} */ move) => [
      seconds(move.at),
      move.model,
      whole(move.limit),
      move.reason,
    ]);
    return h(
      "details",
      {},
      h("summary", {}, `Limits moved ${count(limits.length, "time")}`),
      h(
        "div",
        { class: "wide" },
        plainTable("Requests at once that a model gets", ["at", "model", "limit", "because"], lines),
      ),
    );
  }

  close() {
    this.scheme.removeEventListener("change", this.redraw);
    this.sizes.disconnect();
    this.plots?.forEach((plot) => plot.destroy());
  }
}
