// Small plots of accuracy against target tokens, one for each data set and pair of models.

import { h, put, s } from "./dom.js";
import { href } from "./router.js";
import { compact, percent } from "./words.js";

const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT] = [250, 132, 34, 20, 8, 12];
const MOST = 8; // plots at once

/** @typedef {{ run: any, x: number, y: number }} Point */

/** The shape of each type of run, so that colour is never needed. */
const SHAPES = new Map([
  ["router", "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0"],
  ["rsd", "M-3.6-3.6h7.2v7.2h-7.2z"],
  ["target", "M0-5l4.6 8.4h-9.2z"],
  ["draft", "M0 5l4.6-8.4h-9.2z"],
  ["oracle", "M0-5.4l5.4 5.4l-5.4 5.4l-5.4-5.4z"],
  ["judge", "M5 0l-8.4 4.6v-9.2z"],
  ["trigger", "M-5 0l8.4 4.6v-9.2z"],
  ["confidence", "M-5-1.8h10v3.6h-10z"],
  ["generate", "M-1.8-5h3.6v10h-3.6z"],
  ["glimpse", "M0-4.8l4.6 3.4l-1.8 5.4h-5.6l-1.8-5.4z"],
  ["pomdp", "M0-5.2l3 5.2l-3 5.2l-3-5.2z"],
  ["paced", "M-5 2.5a5 5 0 0 1 10 0z"],
  ["random", "M-4.6-2.8l1.8-1.8l2.8 2.8l2.8-2.8l1.8 1.8l-2.8 2.8l2.8 2.8l-1.8 1.8l-2.8-2.8l-2.8 2.8l-1.8-1.8l2.8-2.8z"],
]);
const OTHER = "M-4-1.4h2.6v-2.6h2.8v2.6h2.6v2.8h-2.6v2.6h-2.8v-2.6h-2.6z";

/** @param {any[]} runs @returns {Map<string, Point[]>} */
function groups(runs) {
  const found = new Map();
  for (const run of runs) {
    if (run.accuracy === null || run.target_tokens === null || !run.ended) continue;
    const name = [run.data ?? "no data set", [...new Set(Object.values(run.models))].join(" + ")]
      .filter(Boolean)
      .join(" · ");
    found.set(name, [...(found.get(name) ?? []), { run, x: run.target_tokens / run.ended, y: run.accuracy }]);
  }
  return found;
}

/** @param {number} most @param {number} parts */
function niceStep(most, parts) {
  const raw = most / parts || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  return ([1, 2, 5, 10].find((factor) => factor * power >= raw) ?? 10) * power;
}

/** @param {Point[]} points */
function scales(points) {
  const step = niceStep(Math.max(...points.map(({ x }) => x), 1e-9), 3);
  const right = step * Math.max(1, Math.ceil(Math.max(...points.map(({ x }) => x)) / step));
  const [low, high] = [Math.min(...points.map(({ y }) => y)), Math.max(...points.map(({ y }) => y))];
  const [from, to] = [Math.max(0, Math.floor((low - 0.05) * 10) / 10), Math.min(1, Math.ceil((high + 0.05) * 10) / 10)];
  const x = (/** @type {number} */ value) => LEFT + (value / right) * (WIDTH - LEFT - RIGHT);
  const y = (/** @type {number} */ value) =>
    HEIGHT - BOTTOM - ((value - from) / (to - from || 1)) * (HEIGHT - BOTTOM - TOP);
  const ticksX = Array.from({ length: Math.round(right / step) + 1 }, (_, index) => index * step);
  return { x, y, ticksX, ticksY: [from, (from + to) / 2, to] };
}

/** @param {Point} point @param {ReturnType<typeof scales>} scale */
function mark({ run, x, y }, scale) {
  const type = run.run_type ?? run.kind;
  const name = `${run.name}: ${type}${run.threshold === null ? "" : `, τ = ${run.threshold}`}; accuracy ${percent(run.accuracy)}, ${compact(x)} target tokens per problem`;
  const ends = run.accuracy_interval?.map((/** @type {number} */ end) =>
    Math.max(TOP, Math.min(HEIGHT - BOTTOM, scale.y(end))),
  );
  return s(
    "a",
    {
      href: href("/run", { run: run.run }),
      "aria-label": name,
      class: `point ${type}`,
    },
    s("title", {}, name),
    ends && s("path", { class: "range", d: `M${scale.x(x)} ${ends[0]}V${ends[1]}` }),
    s("path", { class: "mark", d: SHAPES.get(type) ?? OTHER, transform: `translate(${scale.x(x)} ${scale.y(y)})` }),
  );
}

/** Lines between the points of a sweep, in the order of their tokens. @param {Point[]} points @param {ReturnType<typeof scales>} scale */
function lines(points, scale) {
  const sweeps = new Map();
  for (const point of points) {
    if (!point.run.parent) continue;
    const key = `${point.run.parent} ${point.run.run_type}`;
    sweeps.set(key, [...(sweeps.get(key) ?? []), point]);
  }
  return [...sweeps.values()].map((/** @type {Point[]} */ sweep) =>
    s("polyline", {
      class: "sweep",
      points: sweep
        .toSorted((a, b) => a.x - b.x)
        .map(({ x, y }) => `${scale.x(x)},${scale.y(y)}`)
        .join(" "),
    }),
  );
}

/** @param {string} name @param {Point[]} points */
function plot(name, points) {
  const scale = scales(points);
  const grid = scale.ticksY
    .map((value) => [
      s("path", { class: "rule", d: `M${LEFT} ${scale.y(value)}H${WIDTH - RIGHT}` }),
      s("text", { x: LEFT - 5, y: scale.y(value) + 3.5, "text-anchor": "end" }, percent(value, 0).replace(" ", "")),
    ])
    .flat();
  const axis = scale.ticksX.map((value) =>
    s("text", { x: scale.x(value), y: HEIGHT - 5, "text-anchor": "middle" }, compact(value)),
  );
  return h(
    "figure",
    { class: "plot" },
    h("figcaption", { title: name }, name),
    s(
      "svg",
      {
        viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
        role: "group",
        "aria-label": `${name}: accuracy against target tokens per problem`,
      },
      grid,
      axis,
      lines(points, scale),
      points.map((point) => mark(point, scale)),
    ),
  );
}

/** @param {Point[]} points */
function legend(points) {
  const types = [...new Set(points.map(({ run }) => run.run_type ?? run.kind))];
  return h(
    "ul",
    { class: "legend", "aria-label": "Shapes" },
    types.map((type) =>
      h(
        "li",
        {},
        s(
          "svg",
          {
            viewBox: "-6 -6 12 12",
            width: 12,
            height: 12,
            "aria-hidden": "true",
            class: `point ${type}`,
          },
          s("path", { class: "mark", d: SHAPES.get(type) ?? OTHER }),
        ),
        type,
      ),
    ),
  );
}

/**
 * Show the plots of these runs.
 * @param {HTMLElement} host
 * @param {any[]} runs
 */
export function smallMultiples(host, runs) {
  const all = [...groups(runs)].sort(([, a], [, b]) => b.length - a.length);
  host.hidden = !all.length;
  if (!all.length) return;
  const shown = JSON.stringify(all.map(([name, points]) => [name, points.map(({ run, x, y }) => [run.run, x, y])]));
  if (host.dataset.shown === shown) return; // so that focus and scroll stay
  host.dataset.shown = shown;
  const left = all.length - MOST;
  const scrolled = host.querySelector(".plots-row")?.scrollLeft ?? 0;
  put(
    host,
    h(
      "div",
      { class: "plots-head" },
      h("h2", {}, "Accuracy against target tokens per problem"),
      legend(all.flatMap(([, points]) => points)),
    ),
    h(
      "div",
      { class: "plots-row", tabindex: "0", role: "group", "aria-label": "Plots" },
      all.slice(0, MOST).map(([name, points]) => plot(name, points)),
      left > 0 && h("p", { class: "muted small" }, `${left} more: filter the runs to see them.`),
    ),
  );
  /** @type {Element} */ (host.querySelector(".plots-row")).scrollLeft = scrolled;
}
