// The tools above a list of problems: an expression, a text to find, and expressions that are one click away.

import { debounced, h, put } from "./dom.js";
import { bind } from "./keys.js";
import { say } from "./shell.js";

/** @typedef {{ name: string, type: string, meaning: string }} Name */
/** @typedef {{ label: string, filter: string }} Chip */
/**
 * - `changed`: called with the new expression and text, when the user has paused.
 * - `left`: called when Enter leaves a field for the list.
 * @typedef {{ filter: string, text: string, names: Name[], chips: Chip[], example: string, changed: (query: { filter: string, text: string }) => void, left: () => void }} Options
 */

export class FilterField {
  /** @param {HTMLElement} host @param {Options} options */
  constructor(host, options) {
    this.options = options;
    this.expression = this.input("filter", `Filter, such as ${options.example}`, options.filter, {
      "aria-keyshortcuts": "/",
      "aria-describedby": "filter-error",
      class: "code",
    });
    this.words = this.input("find", "Find a text", options.text, { "aria-keyshortcuts": "t" });
    this.error = h("div", { id: "filter-error", class: "filter-error", role: "alert", hidden: true });
    this.chips = h("div", { class: "chips", role: "group", "aria-label": "Show" });
    this.found = h("p", { class: "muted found", role: "status" });
    this.names = h("details", { class: "names" }, h("summary", { class: "pill" }, "Names"), this.help());
    host.append(
      h(
        "div",
        { class: "tools" },
        h(
          "div",
          { class: "field" },
          h("label", { for: "filter", class: "hidden" }, "Filter by an expression"),
          this.expression,
          h("kbd", { "aria-hidden": "true" }, "/"),
        ),
        h(
          "div",
          { class: "field slim" },
          h("label", { for: "find", class: "hidden" }, "Find a text in questions, steps and answers"),
          this.words,
          h("kbd", { "aria-hidden": "true" }, "t"),
        ),
        this.names,
        this.error,
        this.chips,
        this.found,
      ),
    );
    this.showChips();
    this.unbind = bind([
      { keys: ["/"], does: "filter by an expression", act: () => (this.expression.focus(), undefined) },
      { keys: ["t"], does: "find a text", act: () => (this.words.focus(), undefined) },
      { keys: ["Escape"], whileTyping: true, does: "clear the field, then leave it", act: () => this.escape() },
      { keys: ["Enter"], whileTyping: true, does: "from the field to the list", act: () => this.enter() },
    ]);
  }

  /** @param {string} id @param {string} placeholder @param {string} value @param {import("./dom.js").Attributes} more */
  input(id, placeholder, value, more) {
    const input = h("input", {
      id,
      type: "search",
      placeholder,
      value,
      autocomplete: "off",
      autocapitalize: "off",
      spellcheck: "false",
      ...more,
      input: debounced(() => this.changed(), 250),
      change: () => this.changed(),
    });
    return /** @type {HTMLInputElement} */ (input);
  }

  help() {
    const line = (/** @type {Name} */ { name, type, meaning }) =>
      h(
        "div",
        {},
        h("dt", {}, h("button", { type: "button", class: "name", click: () => this.insert(name) }, name)),
        h("dd", {}, meaning, h("span", { class: "muted" }, ` (${type})`)),
      );
    return h(
      "div",
      { class: "names-panel" },
      h(
        "p",
        {},
        "Compare with ",
        ...["==", "<", ">", "in"].flatMap((sign) => [h("code", {}, sign), " "]),
        "and join with ",
        h("code", {}, "and"),
        " ",
        h("code", {}, "or"),
        " ",
        h("code", {}, "not"),
        ".",
      ),
      h("dl", {}, this.options.names.map(line)),
    );
  }

  /** @param {string} name */
  insert(name) {
    const field = this.expression;
    const before = field.value.trimEnd();
    field.value =
      before && !/\b(and|or|not)$|[(<>=+*/-]$/.test(before) ? `${before} and ${name}` : `${before} ${name}`.trimStart();
    field.focus();
    this.changed();
  }

  changed() {
    const query = { filter: this.expression.value.trim(), text: this.words.value.trim() };
    if (query.filter === this.options.filter && query.text === this.options.text) return;
    Object.assign(this.options, query);
    this.showChips();
    this.options.changed(query);
  }

  /** @param {string} filter */
  set(filter) {
    this.expression.value = filter;
    this.changed();
  }

  showChips() {
    put(
      this.chips,
      this.options.chips.map(({ label, filter }) =>
        h(
          "button",
          {
            type: "button",
            class: "pill",
            "aria-pressed": String(filter === this.options.filter),
            title: filter || "no filter",
            click: () => this.set(filter),
          },
          label,
        ),
      ),
    );
  }

  focused() {
    return [this.expression, this.words].find((one) => one === document.activeElement);
  }

  enter() {
    const field = this.focused();
    if (!field) return false;
    this.changed();
    field.blur();
    return this.options.left();
  }

  escape() {
    const field = this.focused();
    if (!field) return false;
    if (!field.value) return (field.blur(), undefined);
    field.value = "";
    return this.changed();
  }

  /**
   * Say how many rows match.
   * @param {string} words
   */
  tell(words) {
    this.found.textContent = words;
    this.error.hidden = true;
    this.expression.removeAttribute("aria-invalid");
  }

  /**
   * Show what is wrong with the expression, at its place.
   * @param {{ message: string, position: number | null }} error
   */
  refuse({ message, position }) {
    const text = [...this.options.filter]; // characters, as the server counts them
    const place = Math.min(position ?? text.length, text.length);
    const word = /^[\p{L}\p{N}_]+/u.exec(text.slice(place).join(""))?.[0].length ?? 1;
    const marked = text.slice(place, place + word).join("") || " ";
    this.expression.setAttribute("aria-invalid", "true");
    this.error.hidden = false;
    put(
      this.error,
      position !== null &&
        h(
          "pre",
          { "aria-hidden": "true" },
          text.slice(0, place).join(""),
          h("mark", {}, marked),
          text.slice(place + word).join(""),
        ),
      h("p", {}, message),
    );
    this.found.textContent = "";
    say(message);
  }

  close() {
    this.unbind();
  }
}
