"use strict";
// Questions and steps were written by clients and models: they enter the page through textContent alone, never as
// markup. Nodes are made once and changed in place, so that nobody loses what was selected or where the page stood.
(() => {
  const EVERY = 700; // milliseconds between two looks
  const PATIENCE = 10000;
  const WINDOW = 20; // steps of a point of the curve
  const KEY = "arbiter-key";
  const $ = (id) => document.getElementById(id);
  const cards = new Map(); // problems by their id, live, ended, or held open
  const models = new Map();
  const figures = new Map();
  let timer = 0;
  let looking = false;
  let seen = null; // when the endpoint was last heard

  /* Words */

  const whole = new Intl.NumberFormat("en");
  const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
  const percent = (share) => (share === null ? "–" : `${(share * 100).toFixed(1)}%`);
  const count = (number, word) => `${whole.format(number)} ${word}${number === 1 ? "" : "s"}`;
  const digits = (value) => String(Math.round(value * 1000) / 1000);
  const words = (name) => name.replaceAll("_", " ");

  function seconds(value) {
    if (value < 1) return `${Math.round(value * 1000)} ms`;
    if (value < 90) return `${value.toFixed(1)} s`;
    if (value < 5400) return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
    return `${(value / 3600).toFixed(1)} h`;
  }

  /* Nodes */

  function make(tag, name, ...children) {
    const element = document.createElement(tag);
    if (name) element.className = name;
    element.append(...children);
    return element;
  }

  function write(element, text) {
    if (element.textContent !== text) element.textContent = text;
    element.hidden = text === "";
  }

  function mark(element, name, value) {
    if (element.getAttribute(name) !== value) element.setAttribute(name, value);
  }

  // Has the nodes of `list` in this order, and moves none that stands right.
  function arrange(list, nodes) {
    const wanted = new Set(nodes);
    for (const node of [...list.children]) if (!wanted.has(node)) node.remove();
    let next = list.firstElementChild;
    for (const node of nodes) {
      if (node === next) next = next.nextElementSibling;
      else list.insertBefore(node, next);
    }
  }

  // Has `change` leave what is read where it is in the window: an opened problem, or else, if the page was scrolled, the
  // first one that is seen. The browser's own anchoring gives up when its anchor is among the problems that go.
  function steadily(change) {
    const seen = [...cards.values()].filter((card) => inWindow(card.node));
    const pinned = seen.filter((card) => card.node.classList.contains("pinned"));
    const anchors = (pinned.length ? pinned : window.scrollY > 0 ? seen : []).map((card) => [card.node, card.node.getBoundingClientRect().top]);
    change();
    const [node, top] = anchors.sort((one, other) => one[1] - other[1]).find(([node]) => node.isConnected && !node.hidden) ?? [];
    if (node) window.scrollBy({ top: node.getBoundingClientRect().top - top, behavior: "instant" });
  }

  function inWindow(node) {
    const { top, bottom } = node.getBoundingClientRect();
    return bottom > 0 && top < window.innerHeight && bottom > top;
  }

  function part(found, name, create) {
    if (!found.has(name)) found.set(name, create(name));
    return found.get(name);
  }

  /* The sums */

  function showTotals(totals) {
    const read = (role) => totals.tokens[role].prompt_tokens;
    const written = (role) => totals.tokens[role].completion_tokens;
    figure("in the ring", `${totals.running}/${totals.room}`, "Problems being solved, and how many may be at once");
    figure("waiting", whole.format(totals.waiting), "Problems that wait for room", totals.waiting > 0);
    figure("ended", whole.format(totals.ended), "Problems that have ended");
    figure("failed", whole.format(totals.failed), "Problems that failed", totals.failed > 0);
    figure("cancelled", whole.format(totals.cancelled), "Problems that their clients gave up");
    for (const role of ["draft", "target"]) {
      const told = `Tokens of the ${role}: ${whole.format(read(role))} read, ${whole.format(written(role))} written`;
      figure(`tokens by ${role}`, compact.format(written(role)), told);
    }
    if (totals.predrafts) figure("drafts ahead used", percent(totals.hits / totals.predrafts), `${whole.format(totals.hits)} of ${whole.format(totals.predrafts)} that were begun`);
    write($("share"), percent(totals.acceptance));
    write($("share-of"), `of ${count(totals.steps, "step")} by the draft`);
    const [draft, target] = $("split").children;
    draft.style.width = `${(totals.acceptance ?? 0) * 100}%`;
    target.style.width = totals.steps ? `${(1 - totals.acceptance) * 100}%` : "0";
    mark($("split"), "aria-label", `${percent(totals.acceptance)} of the steps by the draft, the others by the target`);
    showCurve(totals);
  }

  function figure(name, value, told, alarm = false) {
    const box = part(figures, name, () => $("figures").appendChild(make("div", "", make("dt", "", name), make("dd"))));
    write(box.lastChild, value);
    mark(box, "title", told);
    box.classList.toggle("alarm", alarm);
  }

  // The share of the draft among the steps before each of the last ones.
  function showCurve({ recent, recent_acceptance: share }) {
    const wide = Math.min(WINDOW, recent.length);
    const points = [];
    for (let end = wide; wide && end <= recent.length; end += 1) {
      const part = recent.slice(end - wide, end);
      points.push([...part].filter((author) => author === "d").length / wide);
    }
    const x = (index) => (points.length > 1 ? (index / (points.length - 1)) * 200 : 0);
    const at = (value) => (37 - value * 34).toFixed(1);
    const line = points.length === 1 ? [`0,${at(points[0])}`, `200,${at(points[0])}`] : points.map((value, index) => `${x(index).toFixed(1)},${at(value)}`);
    mark($("curve").firstElementChild, "points", line.join(" "));
    mark($("curve"), "aria-label", `Acceptance over the last ${count(recent.length, "step")}: ${percent(share)}`);
    write($("curve-of"), recent.length ? `${percent(share)} over the last ${count(recent.length, "step")}` : "");
  }

  /* The models */

  const STATES = { idle: "○ idle", ok: "● ok", failing: "▲ failing" };

  function newModel() {
    const node = make("li", "model");
    const found = { node, name: make("h3"), state: make("span"), about: make("p"), bar: make("i"), now: make("p"), sums: make("p"), error: make("p", "error") };
    node.append(make("header", "", found.name, found.state), found.about, make("div", "busy", found.bar), found.now, found.sums, found.error);
    return found;
  }

  function showModels(told) {
    arrange($("models"), told.map((model) => {
      const card = part(models, model.name, newModel);
      card.node.classList.toggle("failing", model.state === "failing");
      card.state.className = `state ${model.state}`;
      write(card.name, model.name);
      write(card.state, STATES[model.state]);
      write(card.about, [model.model, model.address].filter(Boolean).join(" · "));
      card.bar.style.width = `${Math.min(1, model.running / model.limit) * 100}%`;
      const waiting = model.waiting ? `, ${whole.format(model.waiting)} waiting` : "";
      write(card.now, `${whole.format(model.running)} of ${whole.format(model.limit)} at once${waiting}`);
      const ended = [`${whole.format(model.answered)} answered`, model.failed && `${whole.format(model.failed)} failed`, model.retried && `${whole.format(model.retried)} tried again`];
      const times = [model.mean !== null && `${seconds(model.mean)} each`, model.since !== null && (model.since < 2 ? "just now" : `last ${seconds(model.since)} ago`)];
      write(card.sums, [...ended, ...times].filter(Boolean).join(" · "));
      write(card.error, model.error ?? "");
      return card.node;
    }));
  }

  /* The problems */

  function newCard(id) {
    const card = {
      id, steps: new Map(), blocks: new Map(), node: make("li", "problem"), name: make("span", "id", id), state: make("span", "state"),
      facts: make("span", "facts"), excerpt: make("span", "excerpt"), strip: make("span", "strip"), question: make("p", "question text"),
      about: make("p", "about"), before: make("p", "about"), list: make("ol"), error: make("p", "error"),
    };
    card.head = make("button", "head", make("span", "", card.name, " ", card.state), card.facts, card.excerpt, card.strip);
    card.head.type = "button";
    card.strip.setAttribute("aria-hidden", "true");
    card.node.append(make("h3", "", card.head), make("div", "body", card.question, card.about, card.before, card.list, card.error));
    card.head.addEventListener("click", () => pin(card, !card.node.classList.contains("pinned")));
    pin(card, false);
    return card;
  }

  function pin(card, open) {
    card.node.classList.toggle("pinned", open);
    card.head.setAttribute("aria-expanded", String(open));
  }

  function showProblem(problem) {
    const card = part(cards, problem.id, newCard);
    const ended = problem.finish_reason !== undefined;
    if (card.ended) return card; // nothing more comes
    card.ended = ended;
    card.told = problem;
    card.node.classList.toggle("ended", ended);
    card.node.classList.toggle("live", !ended);
    const kept = problem.before + problem.steps.length;
    const bad = ["failed", "cancelled"].includes(problem.finish_reason);
    card.state.className = `state ${problem.finish_reason ?? ""}`;
    write(card.state, ended ? `${bad ? "✕" : "✓"} ${words(problem.finish_reason)}` : `● ${problem.doing}`);
    const rule = problem.policy + (typeof problem.threshold === "number" ? ` at ${digits(problem.threshold)}` : "");
    write(card.facts, [rule, count(kept, "step"), seconds(problem.seconds)].join(" · "));
    write(card.excerpt, problem.question);
    write(card.question, problem.question);
    write(card.about, Object.entries(problem.tags).map(([name, value]) => `${name}: ${value}`).join(" · "));
    write(card.before, problem.before ? `${count(problem.before, "step")} before these` : "");
    write(card.error, problem.error ?? "");
    arrange(card.list, problem.steps.map((step) => part(card.steps, step.number, () => newStep(step))));
    arrange(card.strip, problem.steps.map((step) => part(card.blocks, step.number, () => make("i", step.author))));
    const shown = new Set(problem.steps.map((step) => step.number));
    for (const found of [card.steps, card.blocks]) for (const number of found.keys()) if (!shown.has(number)) found.delete(number);
    return card;
  }

  // A step never changes once it is told.
  function newStep(step) {
    const who = make("span", `who ${step.author}`, step.target ? `${step.author} ${step.target}` : step.author);
    const decided = { keep_draft: "kept", keep_target: "preferred", escalate: "escalated" }[step.verdict];
    const facts = [decided, step.score !== null && `score ${digits(step.score)}`, count(step.tokens, "token"), seconds(step.seconds)];
    const node = make("li", `step ${step.author}`, make("div", "line", make("span", "number", String(step.number)), who, make("span", "", facts.filter(Boolean).join(" · "))), make("p", "text", step.text));
    if (step.rejected !== null) {
      const rejected = make("p", "rejected text", step.rejected === step.text ? "the draft wrote the same" : `the draft wrote: ${step.rejected}`);
      rejected.title = step.rejected;
      node.append(rejected);
    }
    return node;
  }

  function showProblems(told) {
    const open = told.open.map(showProblem);
    const ended = told.ended.map(showProblem);
    const here = new Set([...open, ...ended]);
    for (const card of cards.values()) {
      if (here.has(card)) continue;
      if (!card.node.classList.contains("pinned")) cards.delete(card.id);
      else if (card.ended) ended.push(card); // the endpoint tells it no more, and somebody reads it
      else open.push(left(card));
    }
    const focused = document.activeElement;
    arrange($("live"), open.map((card) => card.node));
    arrange($("ended"), ended.map((card) => card.node));
    if (focused.isConnected) focused.focus({ preventScroll: true });  // a problem that ends goes from one list to the other
    write($("live-more"), told.more ? `and ${count(told.more, "older one")} more` : "");
    $("live-none").hidden = open.length > 0;
    $("ended-none").hidden = ended.length > 0;
    write($("live-count"), open.length ? whole.format(told.open.length + told.more) : "");
    write($("ended-count"), ended.length ? `the last ${whole.format(ended.length)} of ${whole.format(told.totals.ended)}` : "");
    document.title = open.length ? `Arbiter · ${whole.format(told.open.length + told.more)} live` : "Arbiter";
    filter();
  }

  function left(card) {
    write(card.state, "○ not shown by the endpoint now");
    return card;
  }

  function filter() {
    const wanted = $("search").value.trim().toLowerCase();
    let found = 0;
    for (const card of cards.values()) {
      const matches = !wanted || textOf(card.told).includes(wanted);
      card.node.hidden = !matches;
      found += matches;
    }
    write($("found"), wanted ? `${whole.format(found)} of ${count(cards.size, "problem")}` : "");
  }

  function textOf({ id, question, tags, error, steps }) {
    const texts = [id, question, error ?? "", ...Object.entries(tags).flat(), ...steps.flatMap((step) => [step.text, step.rejected ?? ""])];
    return texts.join("\n").toLowerCase();
  }

  /* The connection */

  async function look() {
    clearTimeout(timer);
    if (looking || document.hidden || (!$("ask").hidden && !sessionStorage.getItem(KEY))) return;
    looking = true;
    const wait = await looked();
    looking = false;
    if (wait) timer = setTimeout(look, EVERY);
  }

  // Whether to look again: not before there is another key.
  async function looked() {
    const key = sessionStorage.getItem(KEY);
    try {
      const answer = await fetch("live", { headers: key ? { Authorization: `Bearer ${key}` } : {}, cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
      if (answer.status === 401) return askKey(key);
      if (!answer.ok) return lost(`The endpoint answers with ${answer.status}`);
      show(await answer.json());
    } catch (error) {
      if (!["TypeError", "TimeoutError", "AbortError", "SyntaxError"].includes(error.name)) throw error;
      return lost("No connection");
    }
    return true;
  }

  function show(told) {
    seen = new Date();
    locked(false);
    write($("link"), told.totals.accepting ? "Live" : "It is being closed, and takes no more requests");
    write($("up"), `· up for ${seconds(told.totals.seconds)}`); // beside the status, which would be read aloud each time
    steadily(() => {
      showTotals(told.totals);
      showModels(told.models);
      showProblems(told);
    });
  }

  function lost(why) {
    document.body.classList.add("lost");
    write($("link"), `${why}, trying again${seen ? ` · as of ${seen.toLocaleTimeString()}` : ""}`);
    return true;
  }

  function locked(is) {
    $("ask").hidden = !is;
    $("main").hidden = is;
    $("figures").hidden = is;
    document.body.classList.toggle("locked", is);
    document.body.classList.remove("lost");
  }

  function askKey(refused) {
    sessionStorage.removeItem(KEY);
    locked(true);
    write($("link"), "Locked");
    write($("refused"), refused ? "The endpoint refuses this key." : "");
    $("key").focus();
    return false;
  }

  $("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(KEY, $("key").value);
    $("key").value = "";
    look();
  });
  $("search").addEventListener("input", filter);
  document.addEventListener("visibilitychange", look);
  look();
})();
