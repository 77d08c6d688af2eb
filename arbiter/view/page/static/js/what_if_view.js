// What a run would have been with another threshold, from its recorded answers.

import { ask } from "./api.js";
import { debounced, h, put } from "./dom.js";
import { bind } from "./keys.js";
import { amend, go, href } from "./router.js";
import { openRunFrame } from "./run_frame.js";
import { alertBox, gradeChip, plainTable } from "./shell.js";
import { count, label, percent, whole } from "./words.js";

const STEPS = 200; // of the slider, over its whole range

/** Open the slider of a run. @param {import("./shell.js").Context} context */
export async function openWhatIf(context) {
  const { query, signal } = context;
  const unbind = bind([
    { keys: ["Escape"], does: "the problems of the run", act: () => go("/run", { run: query.run }) },
  ]);
  const frame = openRunFrame(context, "/what-if", (first, body) => {
    body.classList.add("scrolls");
    if (!first.what_if.available) put(body, unavailable(first.what_if.reason));
    else new WhatIfView(body, first, query, signal);
    return {};
  });
  return { close: () => (unbind(), frame.close?.()) };
}

/** @param {string} reason */
function unavailable(reason) {
  return h(
    "div",
    { class: "empty" },
    h("h2", {}, "This run has no threshold to move"),
    h("p", {}, reason),
    h(
      "p",
      { class: "muted" },
      "A policy with a threshold τ compares a score with it. If its log is full, this view moves τ, and shows what the recorded answers say about the run that would have been.",
    ),
  );
}

class WhatIfView {
  /** @param {HTMLElement} body @param {any} answer @param {Record<string, string>} query @param {AbortSignal} signal */
  constructor(body, answer, query, signal) {
    this.run = query.run ?? "";
    this.signal = signal;
    this.possible = answer.what_if;
    this.live = new AbortController();
    const { least, most, threshold, rule } = this.possible;
    const start = Math.max(least, Math.min(most, Number(query.threshold ?? threshold)));
    const step = (most - least) / STEPS || 0.005;
    this.slider = /** @type {HTMLInputElement} */ (
      h("input", {
        id: "tau",
        type: "range",
        min: least,
        max: most,
        step,
        list: "recorded",
        input: () => this.slid(this.slider.value),
      })
    );
    this.number = /** @type {HTMLInputElement} */ (
      h("input", {
        id: "tau-number",
        type: "number",
        min: least,
        max: most,
        step: "any",
        "aria-label": "Threshold τ as a number",
        change: () => this.slid(this.number.value),
      })
    );
    this.figures = h("div", { class: "what-figures", "aria-live": "polite" });
    this.ask = debounced(() => void this.load(), 120);
    put(
      body,
      h(
        "section",
        { class: "slider" },
        h("label", { for: "tau" }, "Threshold τ"),
        this.number,
        this.slider,
        h("datalist", { id: "recorded" }, h("option", { value: threshold })),
        h(
          "button",
          { type: "button", class: "pill", click: () => this.slid(String(threshold)) },
          `Recorded: ${threshold}`,
        ),
        h("p", { class: "muted" }, `The rule: ${rule}.`),
      ),
      this.figures,
    );
    this.set(start);
    put(this.figures, h("p", { class: "muted" }, "Computing …"));
    void this.load();
  }

  /** @param {number} value */
  set(value) {
    this.threshold = value;
    this.slider.value = String(value);
    this.number.value = String(value);
    this.slider.setAttribute("aria-valuetext", `τ = ${value}`);
  }

  /** @param {string} text */
  slid(text) {
    const value = Number(text);
    if (text === "" || !Number.isFinite(value)) return;
    this.set(Math.max(this.possible.least, Math.min(this.possible.most, +value.toFixed(6))));
    amend({ threshold: this.threshold });
    this.figures.classList.add("stale");
    this.ask();
  }

  async load() {
    this.live.abort();
    this.live = new AbortController();
    const signal = AbortSignal.any([this.signal, this.live.signal]);
    try {
      const answer = await ask(
        `runs/${encodeURIComponent(this.run)}/what-if`,
        { threshold: String(this.threshold) },
        signal,
      );
      put(this.figures, whatIfFigures(answer, this.run));
    } catch (error) {
      if (signal.aborted) return;
      put(this.figures, alertBox(error));
    }
    this.figures.classList.remove("stale");
  }
}

/** @type {[string, string, (value: any) => string, (change: number) => string][]} */
const LINES = [
  ["Accuracy", "accuracy", percent, (change) => `${(change * 100).toFixed(1)} pp`],
  ["Draft's share of the steps", "acceptance", percent, (change) => `${(change * 100).toFixed(1)} pp`],
  ["Steps", "steps", whole, whole],
  ["Escalations", "escalations", whole, whole],
  ["Requests to the target", "target_calls", whole, whole],
  ["Draft tokens", "draft_tokens", whole, whole],
  ["Target tokens", "target_tokens", whole, whole],
  ["Target's share of the tokens", "target_share", percent, (change) => `${(change * 100).toFixed(1)} pp`],
];

/** @param {any} recorded @param {any} replayed */
function figureLines(recorded, replayed) {
  return LINES.map(([name, key, text, changeText]) => {
    const [before, after] = [recorded[key], replayed[key]];
    const change =
      before === null || after === null || before === after
        ? ""
        : `${after > before ? "+" : "−"}${changeText(Math.abs(after - before))}`;
    return [name, text(before), h("span", { "data-figure": key }, text(after)), change];
  });
}

/** @param {any} row @param {string} run */
const problemLink = (row, run) => h("a", { href: href("/problem", { run, row: row.row }) }, label(row.id, row.sample));

/** @param {any} answer @param {string} run */
function leftBox({ left }, run) {
  if (!left.total) return h("p", {}, "Every problem follows from the recorded answers.");
  const by = left.by
    .map((/** @type {any} */ one) => `${count(one.problems, "problem")} at step ${one.step + 1} (${one.model})`)
    .join(", ");
  return h(
    "div",
    {},
    h(
      "p",
      {},
      `${count(left.total, "problem")} need an answer that the run did not record: ${by}. No answer is invented for them, so they are in no figure above.`,
    ),
    h(
      "details",
      {},
      h("summary", {}, `Which ${count(left.problems.length, "problem")}`),
      h(
        "ul",
        { class: "links" },
        left.problems.map((/** @type {any} */ row) =>
          h("li", {}, problemLink(row, run), h("span", { class: "muted" }, ` from step ${row.step + 1}, ${row.model}`)),
        ),
      ),
    ),
  );
}

/** @param {any} answer @param {string} run */
function changedBox({ changed }, run) {
  if (!changed.length) return h("p", { class: "muted" }, "No grade changes among them.");
  return h(
    "ul",
    { class: "links" },
    changed.map((/** @type {any} */ row) =>
      h(
        "li",
        {},
        problemLink(row, run),
        " ",
        gradeChip(row.before),
        h("span", { class: "muted" }, " → "),
        gradeChip(row.after),
      ),
    ),
  );
}

/** @param {any} answer @param {string} run */
function whatIfFigures(answer, run) {
  const { exact, unfinished, left, recorded, replayed } = answer;
  const all = exact + left.total;
  const known = h(
    "div",
    { class: "known" },
    h(
      "p",
      {},
      h("strong", {}, `Known exactly: ${whole(exact)} of ${count(all, "problem")}`),
      unfinished > 0 && h("span", { class: "muted" }, `, ${unfinished} unfinished`),
    ),
    h(
      "div",
      { class: "known-bar", role: "img", "aria-label": `${exact} known, ${left.total} left the recording` },
      h("i", { class: "exact", style: { "flex-grow": String(exact) } }),
      h("i", { class: "left", style: { "flex-grow": String(left.total) } }),
    ),
  );
  const table = plainTable(
    `The ${count(exact, "problem")} that are known exactly`,
    ["", `recorded, τ = ${recorded.threshold}`, `with τ = ${replayed.threshold}`, "change"],
    figureLines(recorded, replayed),
  );
  return [
    known,
    h("div", { class: "wide" }, table),
    h("section", {}, h("h2", {}, "Grades that change"), changedBox(answer, run)),
    h("section", {}, h("h2", {}, "What leaves the recording"), leftBox(answer, run)),
  ];
}
