// The frame around the views: where you are, whether the server answers, and errors.

import { byId, h, put } from "./dom.js";
import { ApiError, Unreachable } from "./api.js";
import { href } from "./router.js";

/**
 * What a view gets: `main` is its place in the page, `signal` aborts when it closes.
 * @typedef {{ main: HTMLElement, query: Record<string, string>, signal: AbortSignal }} Context
 */
/**
 * An open view. `close` ends what the signal does not.
 * @typedef {{ close?: () => void }} View
 */
/** @typedef {{ text: string, to?: string }} Crumb */

/**
 * Show the way to this view; the last part is the view itself.
 * @param {Crumb[]} parts
 */
export function showWay(parts) {
  const all = [{ text: "Arbiter", to: href("/") }, ...parts];
  put(
    byId("crumbs"),
    all.map(({ text, to }, index) =>
      h(
        "li",
        { title: text },
        index < all.length - 1 && to ? h("a", { href: to }, text) : h("span", { "aria-current": "page" }, text),
      ),
    ),
  );
  document.title = [...parts.map(({ text }) => text).reverse(), "Arbiter"].join(" – ");
}

/**
 * Show whether what is on the page is kept up to date. What is shown stays when the connection is lost.
 * @param {"live" | "still" | "lost"} state
 * @param {unknown} [error] Why it is lost.
 */
export function showLink(state, error) {
  put(byId("trouble"), error !== undefined && alertBox(error));
  const link = byId("link");
  link.className = `link ${state}`;
  link.textContent = { live: "live", still: "", lost: "no connection" }[state];
}

/** @param {string} text Read out by screen readers. */
export function say(text) {
  byId("say").textContent = text;
}

/** @param {unknown} error */
export function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}

/**
 * Show why something is missing.
 * @param {unknown} error
 */
export function alertBox(error) {
  return h("div", { class: "alert", role: "alert" }, h("p", {}, messageOf(error)));
}

const TITLES = new Map([
  ["no_token", "This page needs its token"],
  ["no_run", "This run is gone"],
  ["no_problem", "There is no such problem"],
  ["damaged", "This run cannot be read"],
  ["not_available", "This run cannot answer that"],
]);

/**
 * Show an error as the whole view. Other runs stay one click away.
 * @param {HTMLElement} main
 * @param {unknown} error
 */
export function showFailure(main, error) {
  if (error instanceof Unreachable) showLink("lost");
  const title =
    error instanceof ApiError
      ? (TITLES.get(error.code) ?? "This cannot be shown")
      : error instanceof Unreachable
        ? "No connection"
        : "This cannot be shown";
  main.classList.add("scrolls");
  put(
    main,
    h(
      "div",
      { class: "empty" },
      h("h1", {}, title),
      h("p", { role: "alert" }, messageOf(error)),
      h("p", {}, h("a", { href: href("/") }, "All runs")),
    ),
  );
}

/**
 * A figure with its name.
 * @param {string} name
 * @param {string} value
 * @param {string} [kind] `alarm`, or `minor` for one that a phone leaves out.
 */
export function figure(name, value, kind = "") {
  return h("div", { class: kind }, h("dt", {}, name), h("dd", {}, value));
}

const MARKS = new Map([
  ["right", "✓"],
  ["wrong", "✗"],
  ["failed", "!"],
  ["not graded", "–"],
  ["unfinished", "…"],
]);

/**
 * A grade as a mark and a word, so that its colour is never needed.
 * @param {string} grade
 */
export function gradeChip(grade) {
  const kind = ["right", "wrong", "failed"].includes(grade) ? grade : "other";
  return h(
    "span",
    { class: `state ${kind}` },
    h("span", { "aria-hidden": "true" }, `${MARKS.get(grade) ?? "–"} `),
    grade,
  );
}

/**
 * A small table for people.
 * @param {string} caption
 * @param {string[]} heads
 * @param {(string | Node)[][]} lines
 */
export function plainTable(caption, heads, lines) {
  return h(
    "table",
    { class: "plain" },
    h("caption", {}, caption),
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        heads.map((head) => h("th", { scope: "col" }, head)),
      ),
    ),
    h(
      "tbody",
      {},
      lines.map((line) =>
        h(
          "tr",
          {},
          line.map((cell) => h("td", {}, cell)),
        ),
      ),
    ),
  );
}
