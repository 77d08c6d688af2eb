// The requests of a problem: over time, one lane a model, and as a table.

import { h } from "./dom.js";
import { plainTable } from "./shell.js";
import { count, seconds, score, whole } from "./words.js";

/** @param {any} call */
const modelOf = (call) => (call.target ? `${call.model} ${call.target}` : call.model);

/** @param {any} call */
function words(call) {
  const ended = call.outcome ?? "in progress";
  return `${modelOf(call)}, step ${(call.step ?? 0) + 1}: ${ended} after ${seconds(call.end === null ? null : call.end - call.begin)}${call.waited ? `, of which it waited ${seconds(call.waited)}` : ""}`;
}

/** @param {any} call @param {number} begin @param {number} scale Percent of a second. */
function bar(call, begin, scale) {
  const end = call.end ?? call.begin;
  const left = (call.begin + (call.waited ?? 0) - begin) * scale;
  return [
    call.waited > 0 &&
      h("i", {
        class: "waiting",
        style: { left: `${(call.begin - begin) * scale}%`, width: `${call.waited * scale}%` },
      }),
    h("i", {
      class: `call ${call.model.startsWith("target") ? "target" : call.model === "draft" ? "draft" : "scores"} ${call.outcome ?? "unfinished"}`,
      title: words(call),
      style: { left: `${left}%`, width: `${Math.max(0, (end - begin) * scale - left)}%` },
    }),
  ];
}

/**
 * The requests over time.
 * @param {any} problem
 */
export function callLanes(problem) {
  const { calls, begin, end } = problem;
  if (!calls.length || begin === null) return null;
  const last = Math.max(end ?? begin, ...calls.map((/** @type {any} */ call) => call.end ?? call.begin));
  const scale = 100 / (last - begin || 1);
  const models = [...new Set(calls.map(modelOf))];
  const lane = (/** @type {string} */ model) =>
    h(
      "div",
      { class: "lane" },
      h("span", {}, model),
      h(
        "div",
        { class: "track" },
        calls
          .filter((/** @type {any} */ call) => modelOf(call) === model)
          .flatMap((/** @type {any} */ call) => bar(call, begin, scale)),
      ),
    );
  return h(
    "section",
    { class: "lanes", "aria-label": "Requests over time" },
    h("h2", {}, "Requests over time", h("span", { class: "muted" }, ` ${seconds(last - begin)}`)),
    models.map(lane),
  );
}

/** @param {any} call */
function line(call) {
  const ended = call.outcome === "failed" ? `failed: ${call.error}` : (call.outcome ?? "in progress");
  return [
    String((call.step ?? 0) + 1),
    modelOf(call),
    call.ahead ? "ahead" : "",
    seconds(call.begin),
    seconds(call.waited),
    seconds(call.end === null ? null : call.end - call.begin),
    whole(call.prompt_tokens),
    whole(call.cached_tokens),
    whole(call.completion_tokens),
    score(call.value),
    [ended, ...call.retries.map((/** @type {string} */ why) => `retried: ${why}`)].join("; "),
  ];
}

const HEADS = ["step", "model", "", "sent at", "waited", "took", "read", "cached", "written", "score", "ended"];

/**
 * All requests, in a table that opens.
 * @param {any} problem
 */
export function callTable({ calls }) {
  const box = h("details", { class: "calls" }, h("summary", {}, `All ${count(calls.length, "request")}`));
  box.addEventListener("toggle", () => {
    if (box.children.length === 1)
      box.append(
        h(
          "div",
          { class: "wide", tabindex: "0", role: "region", "aria-label": "Requests" },
          plainTable("Requests; times in the run's clock, tokens read and written", HEADS, calls.map(line)),
        ),
      );
  });
  return box;
}
