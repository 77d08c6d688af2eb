"use strict";
// Clients and models wrote the questions and steps: they enter the page only through textContent, never as markup.
// Nodes are made once and changed in place, so that the selection and the scroll position are kept.
(() => {
  const EVERY = 700; // milliseconds between two polls
  const PATIENCE = 10000;
  const WINDOW = 20; // steps that each point of the curve averages
  const KEY = "arbiter-key";
  const $ = (id) => document.getElementById(id);
  const cards = new Map(); // problems by id: live, ended, or kept because they are expanded
  const models = new Map();
  const figures = new Map();
  let timer = 0;
  let polling = false;
  let lastResponse = null; // the time of the endpoint's last response

  /* Words */

  const whole = new Intl.NumberFormat("en");
  const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
  const percent = (share) => (share === null ? "–" : `${(share * 100).toFixed(1)}%`);
  const count = (number, word) => `${whole.format(number)} ${word}${number === 1 ? "" : "s"}`;
  const digits = (value) => String(Math.round(value * 1000) / 1000);
  const money = (value) => value.toPrecision(3);
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

  // Make `nodes` the children of `list`, in this order. Nodes already in the right position are not moved.
  function arrange(list, nodes) {
    const kept = new Set(nodes);
    for (const node of [...list.children]) if (!kept.has(node)) node.remove();
    let next = list.firstElementChild;
    for (const node of nodes) {
      if (node === next) next = next.nextElementSibling;
      else list.insertBefore(node, next);
    }
  }

  // Run `change` and keep the scroll position relative to an expanded problem or, if the page is scrolled, to the first
  // visible one. The browser's scroll anchoring fails when its anchor is among the problems that are removed.
  function steadily(change) {
    const visible = [...cards.values()].filter((card) => inWindow(card.node));
    const pinned = visible.filter((card) => card.node.classList.contains("pinned"));
    const anchors = (pinned.length ? pinned : window.scrollY > 0 ? visible : []).map((card) => [card.node, card.node.getBoundingClientRect().top]);
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

  /* The totals */

  function showTotals(totals) {
    const read = (role) => totals.tokens[role].prompt_tokens;
    const written = (role) => totals.tokens[role].completion_tokens;
    figure("in the ring", `${totals.running}/${totals.room}`, "Problems in the ring, and the maximum");
    figure("waiting", whole.format(totals.waiting), "Problems waiting to enter the ring", totals.waiting > 0);
    figure("ended", whole.format(totals.ended), "Problems that have ended");
    figure("failed", whole.format(totals.failed), "Problems that failed", totals.failed > 0);
    figure("cancelled", whole.format(totals.cancelled), "Problems whose clients disconnected");
    for (const role of ["draft", "target"]) {
      const title = `Tokens of the ${role}: ${whole.format(read(role))} read, ${whole.format(written(role))} written`;
      figure(`tokens by ${role}`, compact.format(written(role)), title);
    }
    if (totals.predrafts) figure("drafts ahead used", percent(totals.hits / totals.predrafts), `${whole.format(totals.hits)} of ${whole.format(totals.predrafts)} drafts begun ahead`);
    write($("share"), percent(totals.acceptance));
    write($("share-of"), `of ${count(totals.steps, "step")} kept from the draft`);
    const [draft, target] = $("split").children;
    draft.style.width = `${(totals.acceptance ?? 0) * 100}%`;
    target.style.width = totals.steps ? `${(1 - totals.acceptance) * 100}%` : "0";
    mark($("split"), "aria-label", `${percent(totals.acceptance)} of the steps were written by the draft, the others by the target`);
    showCurve(totals);
  }

  // Show the costs, if the models have prices. The estimate comes with each answer, the measure from shadows.
  function showCost(cost) {
    if (!cost) return;
    const alone = `Estimated cost of the target alone: ${money(cost.target_alone_estimated)}`;
    figure("cost", money(cost.total), `Cost at the configured prices. ${alone}`);
    figure("of target alone, estimated", percent(cost.ratio_estimated), alone);
    if (cost.ratio_measured !== null) figure("of target alone, measured", percent(cost.ratio_measured), `Measured by ${count(cost.shadows, "shadow")}`);
  }

  function figure(name, value, title, alarm = false) {
    const box = part(figures, name, () => $("figures").appendChild(make("div", "", make("dt", "", name), make("dd"))));
    write(box.lastChild, value);
    mark(box, "title", title);
    box.classList.toggle("alarm", alarm);
  }

  // Draw the acceptance rate as a moving average over the last steps.
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
    mark($("curve"), "aria-label", `Acceptance rate over the last ${count(recent.length, "step")}: ${percent(share)}`);
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

  function showModels(list) {
    arrange($("models"), list.map((model) => {
      const card = part(models, model.name, newModel);
      card.node.classList.toggle("failing", model.state === "failing");
      card.state.className = `state ${model.state}`;
      write(card.name, model.name);
      write(card.state, STATES[model.state]);
      write(card.about, [model.model, model.address].filter(Boolean).join(" · "));
      card.bar.style.width = `${Math.min(1, model.running / model.limit) * 100}%`;
      const waiting = model.waiting ? `, ${whole.format(model.waiting)} waiting` : "";
      write(card.now, `${whole.format(model.running)} of ${whole.format(model.limit)} in flight${waiting}`);
      const ended = [`${whole.format(model.answered)} answered`, model.failed && `${whole.format(model.failed)} failed`, model.retried && `${whole.format(model.retried)} retried`];
      const times = [model.mean !== null && `mean ${seconds(model.mean)}`, model.since !== null && (model.since < 2 ? "last answer just now" : `last answer ${seconds(model.since)} ago`)];
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
    if (card.ended) return card; // an ended problem does not change
    card.ended = ended;
    card.problem = problem;
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
    write(card.before, problem.before ? `${count(problem.before, "earlier step")} not shown` : "");
    write(card.error, problem.error ?? "");
    arrange(card.list, problem.steps.map((step) => part(card.steps, step.number, () => newStep(step))));
    arrange(card.strip, problem.steps.map((step) => part(card.blocks, step.number, () => make("i", step.author))));
    const shown = new Set(problem.steps.map((step) => step.number));
    for (const found of [card.steps, card.blocks]) for (const number of found.keys()) if (!shown.has(number)) found.delete(number);
    return card;
  }

  // A step never changes after the endpoint has sent it.
  function newStep(step) {
    const who = make("span", `who ${step.author}`, step.target ? `${step.author} ${step.target}` : step.author);
    const decided = { keep_draft: "kept", keep_target: "target kept", escalate: "escalated" }[step.verdict];
    const facts = [decided, step.score !== null && `score ${digits(step.score)}`, count(step.tokens, "token"), seconds(step.seconds)];
    const node = make("li", `step ${step.author}`, make("div", "line", make("span", "number", String(step.number)), who, make("span", "", facts.filter(Boolean).join(" · "))), make("p", "text", step.text));
    if (step.rejected !== null) {
      const rejected = make("p", "rejected text", step.rejected === step.text ? "the draft wrote the same" : `the draft wrote: ${step.rejected}`);
      rejected.title = step.rejected;
      node.append(rejected);
    }
    return node;
  }

  function showProblems(state) {
    const open = state.open.map(showProblem);
    const ended = state.ended.map(showProblem);
    const listed = new Set([...open, ...ended]);
    for (const card of cards.values()) {
      if (listed.has(card)) continue;
      if (!card.node.classList.contains("pinned")) cards.delete(card.id);
      else if (card.ended) ended.push(card); // the endpoint no longer lists it, but the user has expanded it
      else open.push(unlisted(card));
    }
    const focused = document.activeElement;
    arrange($("live"), open.map((card) => card.node));
    arrange($("ended"), ended.map((card) => card.node));
    if (focused.isConnected) focused.focus({ preventScroll: true });  // an ended problem moves to the other list
    write($("live-more"), state.more ? `${count(state.more, "older problem")} not shown` : "");
    $("live-none").hidden = open.length > 0;
    $("ended-none").hidden = ended.length > 0;
    write($("live-count"), open.length ? whole.format(state.open.length + state.more) : "");
    write($("ended-count"), ended.length ? `the last ${whole.format(ended.length)} of ${whole.format(state.totals.ended)}` : "");
    document.title = open.length ? `Arbiter · ${whole.format(state.open.length + state.more)} live` : "Arbiter";
    filter();
  }

  function unlisted(card) {
    write(card.state, "○ no longer listed by the endpoint");
    return card;
  }

  function filter() {
    const query = $("search").value.trim().toLowerCase();
    let found = 0;
    for (const card of cards.values()) {
      const matches = !query || textOf(card.problem).includes(query);
      card.node.hidden = !matches;
      found += matches;
    }
    write($("found"), query ? `${whole.format(found)} of ${count(cards.size, "problem")}` : "");
  }

  function textOf({ id, question, tags, error, steps }) {
    const texts = [id, question, error ?? "", ...Object.entries(tags).flat(), ...steps.flatMap((step) => [step.text, step.rejected ?? ""])];
    return texts.join("\n").toLowerCase();
  }

  /* The connection */

  async function poll() {
    clearTimeout(timer);
    if (polling || document.hidden || (!$("ask").hidden && !sessionStorage.getItem(KEY))) return;
    polling = true;
    const again = await pollOnce();
    polling = false;
    if (again) timer = setTimeout(poll, EVERY);
  }

  // Return whether to poll again: false while the endpoint needs another key.
  async function pollOnce() {
    const key = sessionStorage.getItem(KEY);
    try {
      const response = await fetch("live", { headers: key ? { Authorization: `Bearer ${key}` } : {}, cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
      if (response.status === 401) return askKey(key);
      if (!response.ok) return lost(`The endpoint responded with status ${response.status}`);
      show(await response.json());
    } catch (error) {
      if (!["TypeError", "TimeoutError", "AbortError", "SyntaxError"].includes(error.name)) throw error;
      return lost("No connection");
    }
    return true;
  }

  function show(state) {
    lastResponse = new Date();
    locked(false);
    write($("link"), state.totals.accepting ? "Live" : "The endpoint is shutting down and accepts no further requests");
    write($("up"), `· up for ${seconds(state.totals.seconds)}`); // outside the status, which is read aloud when it changes
    steadily(() => {
      showTotals(state.totals);
      showCost(state.cost);
      showModels(state.models);
      showProblems(state);
    });
  }

  function lost(why) {
    document.body.classList.add("lost");
    write($("link"), `${why}, trying again${lastResponse ? ` · as of ${lastResponse.toLocaleTimeString()}` : ""}`);
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
    write($("refused"), refused ? "This key is not valid." : "");
    $("key").focus();
    return false;
  }

  $("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(KEY, $("key").value);
    $("key").value = "";
    poll();
  });
  $("search").addEventListener("input", filter);
  document.addEventListener("visibilitychange", poll);
  poll();
})();
