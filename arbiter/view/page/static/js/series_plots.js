// Plots over time, drawn by uPlot: problems, and for each model its requests, its queue, its limit and its tokens.

import { h, put } from "./dom.js";
import { clock, compact } from "./words.js";
import vendored from "../vendor/uplot/uPlot.esm.js";

const uPlot = /** @type {any} */ (vendored); // its file has no types

const HEIGHT = 132;

/** @typedef {{ label: string, values: (number | null)[], colour: string, dash?: number[], fill?: boolean, steps?: boolean }} Line */

/** @param {string} name A custom property of the style sheet. */
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** @param {string} model */
const colourOf = (model) => (model === "draft" ? "draft" : model.startsWith("target") ? "target" : "score");

/** @param {number[]} values @returns {number[]} */
function sums(values) {
  let sum = 0;
  return values.map((value) => (sum += value));
}

/** @param {Line} line */
function series({ label, colour: name, dash, fill, steps }) {
  return {
    label,
    stroke: colour(name),
    width: 1.5,
    dash,
    fill: fill ? `${colour(name)}2e` : undefined,
    points: { show: false },
    spanGaps: false,
    paths: steps ? uPlot.paths.stepped?.({ align: 1 }) : undefined,
    value: (/** @type {unknown} */ _plot, /** @type {number | null} */ value) =>
      value === null ? "–" : compact(Math.round(value * 100) / 100),
  };
}

/** @param {(value: number) => string} text @param {number} size */
function axis(text, size) {
  return {
    stroke: colour("muted"),
    grid: { stroke: colour("line"), width: 1 },
    ticks: { show: false },
    size,
    font: "11px system-ui, sans-serif",
    gap: 4,
    values: (/** @type {unknown} */ _plot, /** @type {number[]} */ values) => values.map(text),
  };
}

/** @typedef {{ title: string, lines: Line[] }} Plot */

/** @param {HTMLElement} place @param {number[]} times @param {Plot} plot */
function draw(place, times, { title, lines }) {
  const peak = Math.max(1e-9, ...lines.flatMap(({ values }) => values.map((value) => value ?? 0)));
  place.setAttribute("role", "group");
  place.setAttribute(
    "aria-label",
    `${title} over time; ${lines.map(({ label, values }) => `${label} at most ${compact(Math.max(0, ...values.map((value) => value ?? 0)))}`).join(", ")}`,
  );
  const options = {
    width: Math.max(200, place.clientWidth),
    height: HEIGHT,
    cursor: { sync: { key: "timeline" }, y: false, points: { size: 6 } },
    scales: { x: { time: false }, y: { range: [0, peak * 1.08] } },
    legend: { live: true },
    padding: [8, 26, 0, 0],
    axes: [axis(clock, 24), axis((value) => compact(value), 42)],
    series: [
      {
        label: "at",
        value: (/** @type {unknown} */ _plot, /** @type {number | null} */ value) =>
          value === null ? "–" : clock(value),
      },
      ...lines.map(series),
    ],
  };
  const plot = new uPlot(options, [times, ...lines.map(({ values }) => values)], place);
  place.querySelector("canvas")?.setAttribute("aria-hidden", "true"); // the group around it has the words
  return plot;
}

/**
 * Draw the plots of a timeline; the caller destroys them.
 * @param {HTMLElement} host
 * @param {any} timeline
 * @returns {{ destroy: () => void }[]}
 */
export function seriesPlots(host, timeline) {
  const { interval, intervals, problems, models } = timeline;
  put(host);
  if (!intervals) return (put(host, h("p", { class: "muted" }, "Nothing has been recorded yet.")), []);
  const times = Array.from({ length: intervals }, (_, index) => index * interval);
  const plots = plotsOf(problems, models, interval);
  const places = plots.map(({ title }) => h("div", { class: "chart" }, h("h3", {}, title)));
  host.append(...places); // all of them, before the first one takes its width
  return plots.map((plot, index) => draw(/** @type {HTMLElement} */ (places[index]), times, plot));
}

/** @param {any} problems @param {Record<string, any>} models @param {number} interval @returns {Plot[]} */
function plotsOf(problems, models, interval) {
  const ended = [
    { label: "ended", values: sums(problems.ended), colour: "wait", fill: true },
    { label: "right", values: sums(problems.right), colour: "right" },
    { label: "wrong", values: sums(problems.wrong), colour: "failed", dash: [5, 3] },
  ];
  return [
    {
      title: "Problems being solved",
      lines: [{ label: "problems", values: problems.active, colour: "wait", fill: true }],
    },
    { title: "Problems ended", lines: ended },
    ...Object.entries(models).flatMap(([name, model]) => plotsOfModel(name, model, interval)),
  ];
}

/** @param {string} name @param {any} model @param {number} interval @returns {Plot[]} */
function plotsOfModel(name, model, interval) {
  const colour = colourOf(name);
  const requests = [
    { label: "in progress", values: model.in_flight, colour, fill: true },
    { label: "waiting", values: model.waiting, colour: "wait", dash: [4, 3] },
  ];
  const moved = model.limit.some((/** @type {number | null} */ limit) => limit !== null);
  const tokens = model.tokens.map((/** @type {number} */ value) => value / (interval || 1));
  const writes = tokens.some((/** @type {number} */ value) => value > 0);
  return [
    {
      title: `${name}: requests`,
      lines: moved ? [...requests, { label: "limit", values: model.limit, colour: "failed", steps: true }] : requests,
    },
    ...(writes
      ? [
          {
            title: `${name}: tokens per second`,
            lines: [{ label: "tokens per second", values: tokens, colour, fill: true }],
          },
        ]
      : []),
  ];
}
