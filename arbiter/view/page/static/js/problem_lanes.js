// The problems of a run as bars over time, packed into as few lanes as they need: one lane for each that ran at once.

import { h, put } from "./dom.js";
import { clock, count, label, seconds } from "./words.js";

const MOST_HEIGHT = 220; // pixels
const [THICK, THIN] = [14, 2]; // pixels of a lane

/** @typedef {{ row: any, begin: number, end: number, lane: number }} Bar */

/** Hatched or thin, so that grades differ without colour. */
const LOOKS = new Map([
  ["right", { colour: "right", part: 1 }],
  ["wrong", { colour: "failed", part: 0.55 }],
  ["failed", { colour: "failed", part: 1 }],
]);
const PLAIN = { colour: "wait", part: 0.55 };

/** @param {any[]} rows @param {number} length @returns {{ bars: Bar[], lanes: number }} */
function packed(rows, length) {
  /** @type {number[]} the end of the last bar of each lane */
  const ends = [];
  const begun = rows.filter((row) => row.started !== null).toSorted((a, b) => a.started - b.started);
  const bars = begun.map((row) => {
    const begin = row.started;
    const end = row.seconds === null ? length : begin + row.seconds;
    const free = ends.findIndex((last) => last <= begin + 1e-6);
    const lane = free < 0 ? ends.length : free;
    ends[lane] = end;
    return { row, begin, end, lane };
  });
  return { bars, lanes: ends.length };
}

export class ProblemLanes {
  /** @param {(row: any) => void} open Called for a bar that was clicked. */
  constructor(open) {
    this.open = open;
    /** @type {Bar[]} */
    this.bars = [];
    this.lanes = 0;
    this.length = 1;
    this.canvas = /** @type {HTMLCanvasElement} */ (
      h("canvas", {
        role: "img",
        "aria-label": "Problems over time",
        click: (/** @type {MouseEvent} */ event) => this.clicked(event),
        mousemove: (/** @type {MouseEvent} */ event) => this.point(event),
        mouseleave: () => (this.tip.hidden = true),
      })
    );
    this.axis = h("div", { class: "lane-axis", "aria-hidden": "true" });
    this.tip = h("div", { class: "tip", hidden: true });
    this.title = h("h3", {}, "Problems");
    const key = (/** @type {string} */ kind, /** @type {string} */ word) =>
      h("li", {}, h("i", { class: `swatch ${kind}` }), word);
    this.element = h(
      "section",
      { class: "lanes-of-run", "aria-label": "Problems over time" },
      h(
        "div",
        { class: "bar" },
        this.title,
        h(
          "ul",
          { class: "legend", "aria-label": "Colours" },
          key("right", "right"),
          key("wrong", "wrong"),
          key("failed", "failed"),
          key("other", "not graded or unfinished"),
        ),
      ),
      h("div", { class: "lane-plot" }, this.canvas, this.axis, this.tip),
    );
  }

  /** @param {any[]} rows @param {number} length Seconds of the run. */
  show(rows, length) {
    const { bars, lanes } = packed(rows, length);
    Object.assign(this, { bars, lanes, length: Math.max(length, ...bars.map(({ end }) => end), 1e-9) });
    this.title.textContent = `${count(bars.length, "problem")} over ${seconds(this.length)}, at most ${lanes} at once`;
    this.canvas.setAttribute("aria-label", `${this.title.textContent}. The list of problems has the same data.`);
    this.draw();
  }

  size() {
    return Math.max(THIN, Math.min(THICK, MOST_HEIGHT / Math.max(1, this.lanes)));
  }

  draw() {
    const width = this.canvas.clientWidth;
    if (!width) return;
    const thick = this.size();
    const height = Math.max(4, Math.min(2 * MOST_HEIGHT, thick * this.lanes));
    const dense = window.devicePixelRatio || 1;
    Object.assign(this.canvas, { width: width * dense, height: height * dense });
    this.canvas.style.height = `${height}px`;
    const pen = this.canvas.getContext("2d");
    if (!pen) return;
    pen.scale(dense, dense);
    this.showAxis();
    const style = getComputedStyle(document.documentElement);
    for (const { row, begin, end, lane } of this.bars) {
      const { colour, part } = LOOKS.get(row.grade) ?? PLAIN;
      pen.fillStyle = style.getPropertyValue(`--${colour}`);
      const [left, right] = [(begin / this.length) * width, (end / this.length) * width];
      const tall = Math.max(1, (thick - 1) * part);
      pen.fillRect(
        left,
        lane * thick + (thick - 1 - tall) / 2,
        Math.max(0.75, right - left - (right - left > 3 ? 1 : 0)),
        tall,
      );
    }
  }

  showAxis() {
    const parts = Math.max(2, Math.min(8, Math.floor(this.canvas.clientWidth / 110)));
    put(
      this.axis,
      Array.from({ length: parts + 1 }, (_, part) =>
        h("span", { style: { left: `${(100 * part) / parts}%` } }, clock((this.length * part) / parts)),
      ),
    );
  }

  /** @param {MouseEvent} event */
  at({ offsetX, offsetY }) {
    const time = (offsetX / Math.max(1, this.canvas.clientWidth)) * this.length;
    const lane = Math.floor(offsetY / this.size());
    return this.bars.find((bar) => bar.lane === lane && bar.begin <= time && time <= bar.end);
  }

  /** @param {MouseEvent} event */
  clicked(event) {
    const bar = this.at(event);
    if (bar) this.open(bar.row);
  }

  /** @param {MouseEvent} event */
  point(event) {
    const bar = this.at(event);
    this.tip.hidden = !bar;
    this.canvas.style.cursor = bar ? "pointer" : "default";
    if (!bar) return;
    this.tip.textContent = `${label(bar.row.id, bar.row.sample)}: ${bar.row.grade}, ${seconds(bar.row.seconds)}`;
    this.tip.style.top = `${event.offsetY + 14}px`;
    this.tip.style.left = `${Math.max(0, Math.min(event.offsetX + 10, this.canvas.clientWidth - 220))}px`;
  }
}
