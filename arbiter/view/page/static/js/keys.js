// All keys of the page. Each view binds its own; the help lists what is bound, so it cannot differ from what works.

import { byId, h, put } from "./dom.js";

/**
 * - `keys`: names of keys as in KeyboardEvent.key; the first ones are shown in the help.
 * - `whileTyping`: whether they also work in a text field.
 * - `act`: what they do; false leaves the key to the browser.
 * @typedef {{ keys: string[], does: string, act: (event: KeyboardEvent) => boolean | void, whileTyping?: boolean }} Binding
 */

const NAMES = new Map([
  ["ArrowDown", "↓"],
  ["ArrowUp", "↑"],
  ["ArrowLeft", "←"],
  ["ArrowRight", "→"],
  ["Escape", "Esc"],
  [" ", "Space"],
]);
const TEXT_FIELDS = "input:not([type=checkbox]):not([type=range]), textarea, select";
const OWN_ENTER = "a, button, summary, input[type=checkbox]"; // these act on Enter or Space themselves
const OWN_ARROWS = "input, select, [role=tablist]";

/** @type {Binding[][]} */
let layers = [];

/**
 * Bind keys until the returned function is called. Later bindings come before earlier ones.
 * @param {Binding[]} bindings
 * @returns {() => void}
 */
export function bind(bindings) {
  layers = [bindings, ...layers];
  return () => (layers = layers.filter((layer) => layer !== bindings));
}

/** @param {KeyboardEvent} event */
function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || helpDialog().open) return;
  const target = /** @type {Element} */ (event.target);
  if ((event.key === "Enter" || event.key === " ") && target.closest(OWN_ENTER)) return;
  if (event.key.startsWith("Arrow") && target.closest(OWN_ARROWS) && !target.closest("[data-arrows]")) return;
  const typing = target.matches(TEXT_FIELDS);
  for (const binding of layers.flat()) {
    if (!binding.keys.includes(event.key) || (typing && !binding.whileTyping)) continue;
    if (binding.act(event) === false) continue;
    event.preventDefault();
    return;
  }
}

const helpDialog = () => /** @type {HTMLDialogElement} */ (byId("keys"));

function showHelp() {
  const lines = layers.flat().map(({ keys, does }) =>
    h(
      "div",
      {},
      h(
        "dt",
        {},
        keys.slice(0, 2).map((key) => h("kbd", {}, NAMES.get(key) ?? key)),
      ),
      h("dd", {}, does),
    ),
  );
  const close = h("button", { type: "button", class: "pill", click: () => helpDialog().close() }, "Close");
  put(helpDialog(), h("h2", { id: "keys-title" }, "Keys of this view"), h("dl", { class: "keys" }, lines), close);
  helpDialog().showModal();
}

/** Listen to the keyboard, with the keys that work in every view. */
export function listen() {
  document.addEventListener("keydown", pressed);
  byId("help").addEventListener("click", showHelp);
  helpDialog().addEventListener("click", (event) => event.target === helpDialog() && helpDialog().close());
  bind([{ keys: ["?"], does: "show this help", act: showHelp }]);
}
