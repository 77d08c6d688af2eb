// How a run was made: its configuration, the keys that decide its results, versions, and its summary.

import { h, put } from "./dom.js";
import { bind } from "./keys.js";
import { go } from "./router.js";
import { openRunFrame } from "./run_frame.js";
import { plainTable } from "./shell.js";

/** Open the settings of a run. @param {import("./shell.js").Context} context */
export async function openSettings(context) {
  const { query } = context;
  const unbind = bind([
    { keys: ["Escape"], does: "the problems of the run", act: () => go("/run", { run: query.run }) },
  ]);
  const frame = openRunFrame(context, "/settings", (first, body) => {
    body.classList.add("scrolls");
    put(
      body,
      h(
        "div",
        { class: "settings" },
        configuration(first),
        pairs("Keys that decide the results", first.identity),
        pairs("Versions", first.versions),
        summary(first),
      ),
    );
    return {};
  });
  return { close: () => (unbind(), frame.close?.()) };
}

/** @param {unknown} value */
const told = (value) => (typeof value === "string" ? value : JSON.stringify(value));

/** @param {string} title @param {Record<string, unknown> | null} values */
function pairs(title, values) {
  const lines = Object.entries(values ?? {}).map(([key, value]) => [h("code", {}, key), told(value) ?? ""]);
  return lines.length > 0 && h("section", { class: "wide pairs" }, plainTable(title, ["key", "value"], lines));
}

/** @param {any} answer */
function configuration({ run, configuration: text }) {
  return h(
    "section",
    {},
    h("h2", {}, "Configuration"),
    h("p", { class: "muted small" }, run.folder),
    text
      ? h("pre", { class: "file", tabindex: "0" }, text)
      : h("p", { class: "muted" }, "The folder has no config.toml."),
  );
}

/** @param {any} answer */
function summary({ summary: values }) {
  if (!values)
    return h(
      "section",
      {},
      h("h2", {}, "Summary"),
      h("p", { class: "muted" }, "summary.json is written when the run ends."),
    );
  return h(
    "section",
    {},
    h(
      "details",
      {},
      h("summary", {}, "summary.json"),
      h("pre", { class: "file", tabindex: "0" }, JSON.stringify(values, null, 2)),
    ),
  );
}
