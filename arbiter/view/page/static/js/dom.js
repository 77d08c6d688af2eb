// Models wrote the texts of a run. They enter the page through text nodes and attributes alone, never as markup.

const SVG = "http://www.w3.org/2000/svg";

/** @typedef {Node | string | number | null | undefined | false} Child */
/** @typedef {Record<string, unknown>} Attributes */

/**
 * Set attributes. A function is a listener for the event of that name, `style` holds CSS properties, and a value of
 * null, undefined or false leaves the attribute out.
 * @param {Element} element
 * @param {Attributes} attributes
 */
function decorate(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, /** @type {EventListener} */ (value));
    else if (name === "style")
      restyle(/** @type {HTMLElement} */ (element), /** @type {Record<string, string>} */ (value));
    else element.setAttribute(name, value === true ? "" : String(value));
  }
}

/**
 * Set CSS properties through the object model, which a content security policy permits.
 * @param {HTMLElement} element
 * @param {Record<string, string>} properties
 */
function restyle(element, properties) {
  for (const [property, value] of Object.entries(properties)) element.style.setProperty(property, value);
}

/**
 * @param {Element} parent
 * @param {(Child | Child[])[]} children
 */
function fill(parent, children) {
  for (const child of children.flat()) {
    if (child === null || child === undefined || child === false || child === "") continue;
    parent.append(child instanceof Node ? child : String(child));
  }
}

/**
 * Make an HTML element.
 * @param {string} tag
 * @param {Attributes} [attributes]
 * @param {...(Child | Child[])} children
 * @returns {HTMLElement}
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  decorate(element, attributes);
  fill(element, children);
  return element;
}

/**
 * Make an SVG element.
 * @param {string} tag
 * @param {Attributes} [attributes]
 * @param {...(Child | Child[])} children
 * @returns {SVGElement}
 */
export function s(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  decorate(element, attributes);
  fill(element, children);
  return element;
}

/**
 * Replace the children of an element.
 * @param {Element} element
 * @param {...(Child | Child[])} children
 */
export function put(element, ...children) {
  element.replaceChildren();
  fill(element, children);
}

/**
 * Return the element of the page's frame with this id.
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element ${id}`);
  return found;
}

/**
 * Call a function once calls have paused for some milliseconds.
 * @template {unknown[]} Arguments
 * @param {(...values: Arguments) => void} action
 * @param {number} milliseconds
 * @returns {(...values: Arguments) => void}
 */
export function debounced(action, milliseconds) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = window.setTimeout(() => action(...values), milliseconds);
  };
}
