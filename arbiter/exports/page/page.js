"use strict";
// Models wrote the run's texts: they enter the page only through textContent, never as markup.
(() => {
  const DATA = JSON.parse(document.getElementById("data").textContent);
  const { run, figures, problems } = DATA;
  const AT_ONCE = 300; // rows made at a time; more are made when the user scrolls near the end of the list
  const SVG = "http://www.w3.org/2000/svg";
  const $ = (id) => document.getElementById(id);

  /* Making elements */

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value === undefined || value === null || value === false) continue;
      if (name === "class") element.className = value;
      else element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
    return element;
  }

  function shape(tag, attributes) {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  }

  function on(element, event, action) {
    element.addEventListener(event, action);
    return element;
  }

  /* Words and numbers */

  const seconds = (value) => (value === undefined ? "" : value < 0.0995 ? `${Math.round(value * 1000)} ms`
    : value < 99.5 ? `${value.toFixed(value < 9.95 ? 2 : 1)} s` : `${Math.round(value)} s`);
  const percent = (value) => (value === undefined ? "–" : `${(value * 100).toFixed(1)}%`);
  const count = (number, word) => `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;
  const score = (value) => (value > 0 && value < 0.001 ? "< 0.001" : value < 1 && value > 0.999 ? "> 0.999" : value.toFixed(3));
  const label = (problem) => (problem.sample ? `${problem.id} #${problem.sample}` : problem.id);
  const words = (finish) => finish.replaceAll("_", " ");
  const BOTH = ["oracle", "generate"].includes(run.identity.run_type); // calls both models: a step is chosen, not escalated
  const SCALE = { rsd: "PRM", oracle: "PRM", generate: "PRM", router: "router" }[run.identity.run_type] || "score";

  function state(problem) {
    if (problem.finish_reason === "failed") return { kind: "failed", word: "failed", mark: "!" };
    if (problem.right === true) return { kind: "right", word: "right", mark: "✓" };
    if (problem.right === false) return { kind: "wrong", word: "wrong", mark: "✗" };
    return problem.finish_reason ? { kind: "other", word: "not graded", mark: "–" } : { kind: "other", word: "unfinished", mark: "…" };
  }

  const limited = (problem) => problem.finish_reason && problem.finish_reason !== "answered" && problem.finish_reason !== "failed";
  const escalations = (problem) => problem.steps.filter((step) => step.verdict === "escalate" || step.verdict === "keep_target").length;
  const taken = (problem) => problem.seconds ?? run.seconds - problem.begin;

  function stateChip(problem) {
    const { kind, word, mark } = state(problem);
    const also = limited(problem) ? `, ${words(problem.finish_reason)}` : "";
    return make("span", { class: `state ${kind}` }, make("span", { "aria-hidden": "true" }, `${mark} `), word + also);
  }

  const PLACEHOLDER = /^\[[0-9a-f]{16}, (\d+) characters\]$/;

  function textBlock(text, what) {
    const hidden = run.record === "full" ? null : PLACEHOLDER.exec(text);
    if (hidden) return make("p", { class: "text missing" }, `${what} of ${count(Number(hidden[1]), "character")}, omitted from the log`);
    if (!text) return make("p", { class: "text missing" }, run.record === "full" ? `empty ${what}` : `${what} omitted from the log`);
    return make("p", { class: "text" }, text);
  }

  const plain = (text, instead) => (run.record !== "full" && (PLACEHOLDER.test(text) || !text) ? instead : text);

  /* The state of the page, which its address holds */

  const FILTERS = {
    all: ["All", () => true],
    wrong: ["Wrong", (problem) => problem.right === false],
    escalated: [BOTH ? "By the target" : "Escalated", (problem) => escalations(problem) > 0],
    failed: ["Failed", (problem) => problem.finish_reason === "failed"],
    unfinished: ["Unfinished", (problem) => !problem.finish_reason || Boolean(limited(problem))],
  };
  const view = { filter: "all", slowest: false, search: "", open: null };
  let matching = problems;
  let current = null; // the problem whose row has the list's focus
  const rows = new Map();
  const haystacks = new Map();
  const byKey = new Map(problems.map((problem) => [`${problem.id}\n${problem.sample || 0}`, problem]));

  function readAddress() {
    const parts = new URLSearchParams(location.hash.slice(1));
    view.filter = parts.get("filter") in FILTERS ? parts.get("filter") : "all";
    view.slowest = parts.get("sort") === "slowest";
    view.search = parts.get("search") || "";
    view.open = byKey.get(`${parts.get("problem")}\n${parts.get("sample") || 0}`) || null;
  }

  function writeAddress() {
    const parts = new URLSearchParams();
    if (view.filter !== "all") parts.set("filter", view.filter);
    if (view.slowest) parts.set("sort", "slowest");
    if (view.search) parts.set("search", view.search);
    if (view.open) parts.set("problem", view.open.id);
    if (view.open && view.open.sample) parts.set("sample", view.open.sample);
    history.replaceState(null, "", `#${parts}`);
  }

  /* The parts of a page in a folder: scripts that call arbiterPart with whole problems */

  const parts = DATA.parts || [];
  const waiting = new Map(); // the loading of each part, by its number
  const arrived = new Map();

  window.arbiterPart = (number, whole) => arrived.set(number, whole);

  function load(number) {
    if (!waiting.has(number)) {
      waiting.set(number, new Promise((done, failed) => {
        const script = make("script", { src: parts[number] });
        on(script, "load", () => (script.remove(), arrived.has(number) ? done() : failed()));
        on(script, "error", () => (script.remove(), failed()));
        document.head.append(script);
      }).then(() => fill(number)));
    }
    return waiting.get(number);
  }

  function fill(number) {
    const listed = problems.filter((problem) => problem.part === number);
    arrived.get(number).forEach((whole, index) => {
      haystacks.delete(listed[index]);
      Object.assign(listed[index], whole);
      delete listed[index].part;
    });
    arrived.delete(number);
  }

  const isListed = (problem) => problem.part !== undefined;

  let loadingAll = false;

  function loadAll() {
    if (loadingAll) return;
    loadingAll = true;
    Promise.all(parts.map((_, number) => load(number))).then(apply, () => ($("count").textContent = "Not all texts can be searched: files of the page are missing"));
  }

  function unloaded(problem) {
    const button = on(make("button", { type: "button", class: "pill close" }, "Close"), "click", close);
    const note = make("p", { class: "muted", role: "status" }, "Loading …");
    load(problem.part).then(
      () => view.open === problem && showDetail(problem),
      () => (note.textContent = `${parts[problem.part]} is missing: keep the files of this page in one folder`));
    return [make("header", {}, make("h2", { id: "detail-title", tabindex: "-1" }, label(problem), stateChip(problem)), button), note];
  }

  function haystack(problem) {
    if (!haystacks.has(problem)) {
      const steps = problem.steps.flatMap((step) => [step.text, ...(step.others || []).map((other) => other.text)]);
      const parts = [label(problem), ...(problem.turns || []), problem.question, ...(problem.after || []), problem.answer, problem.reference, problem.error, problem.reason, ...steps];
      haystacks.set(problem, parts.filter(Boolean).join("\n").toLowerCase());
    }
    return haystacks.get(problem);
  }

  /* The head */

  function showHead() {
    document.title = `${run.name} – Arbiter run`;
    $("name").textContent = run.name;
    const threshold = figures.threshold === undefined ? "" : `, τ = ${figures.threshold}`;
    const models = Object.entries(run.models).map(([name, model]) => `${name} ${model}`).join(", ");
    const when = new Date(run.begun * 1000).toISOString().replace("T", " ").slice(0, 16);
    const record = run.record === "full" ? [] : [`recorded as “${run.record}”: without texts`];
    const parts = [`${figures.type}${threshold}`, models, `${when} UTC`, seconds(run.seconds), ...record].filter(Boolean);
    $("about").append(...parts.flatMap((part, index) => [index ? " · " : "", make("span", {}, part)]));
    const interval = figures.interval ? `accuracy, ${percent(figures.interval[0])} to ${percent(figures.interval[1])}` : "accuracy";
    figure(figures.ended < figures.problems ? `problems, ${figures.ended} ended` : "problems", figures.problems.toLocaleString("en"));
    figure(interval, percent(figures.accuracy));
    figure("acceptance rate", percent(figures.acceptance));
    const moved = problems.reduce((sum, problem) => sum + escalations(problem), 0);
    const steps = problems.reduce((sum, problem) => sum + problem.steps.length, 0); // includes unfinished problems
    figure(`of ${count(steps, "step")} ${BOTH ? "taken from the target" : "escalated"}`, moved.toLocaleString("en"));
    figure("seconds per problem", figures.mean === undefined ? "–" : figures.mean.toFixed(2));
    figure("failed", figures.failed.toLocaleString("en"), figures.failed > 0);
  }

  function figure(name, value, alarm = false) {
    $("figures").append(make("div", { class: alarm && "alarm" }, make("dt", {}, name), make("dd", {}, value)));
  }

  function showTables() {
    const models = Object.keys(figures.requests);
    const lines = models.map((model) => [model, figures.requests[model].toLocaleString("en"), (figures.tokens[model] ?? 0).toLocaleString("en")]);
    if (lines.length) $("tables").append(table("Requests", ["model", "requests", "tokens written"], lines));
    const ends = new Map();
    for (const problem of problems) {
      const end = problem.finish_reason ? words(problem.finish_reason) : "unfinished";
      ends.set(end, (ends.get(end) || 0) + 1);
    }
    $("tables").append(table("Finish reasons", ["reason", "problems"], [...ends].sort((a, b) => b[1] - a[1])));
  }

  function table(caption, heads, lines) {
    return make("table", {}, make("caption", {}, caption),
      make("thead", {}, make("tr", {}, heads.map((head) => make("th", { scope: "col" }, head)))),
      make("tbody", {}, lines.map((line) => make("tr", {}, line.map((cell) => make("td", {}, String(cell)))))));
  }

  /* Drawing times */

  function segments(problem) {
    const found = [];
    let begin = problem.begin;
    for (const step of problem.steps) {
      const end = step.end ?? begin;
      found.push({ begin, end, kind: step.author });
      begin = end;
    }
    const end = problem.end ?? run.seconds;
    if (end - begin > run.seconds / 500) found.push({ begin, end, kind: "open" });
    return found;
  }

  function strip(problem) {
    const svg = shape("svg", { viewBox: "0 0 1000 7", preserveAspectRatio: "none", "aria-hidden": "true" });
    const scale = 1000 / (run.seconds || 1);
    const paths = {};
    for (const { begin, end, kind } of segments(problem)) {
      const width = Math.max((end - begin) * scale - 1, 1.5);
      paths[kind] = `${paths[kind] || ""}M${(begin * scale).toFixed(1)} 0h${width.toFixed(1)}v7h-${width.toFixed(1)}z`;
    }
    if (problem.finish_reason === "failed") paths.failed = `M${Math.min((problem.end ?? run.seconds) * scale, 988).toFixed(1)} 0h12v7h-12z`;
    svg.append(shape("rect", { class: "rail", width: 1000, height: 7 }));
    for (const [kind, path] of Object.entries(paths)) svg.append(shape("path", { class: kind, d: path }));
    return svg;
  }

  const HALF_A_LABEL = 24; // pixels: a label nearer to the end than this is placed before its mark, not centred on it

  function ticks(element, length) {
    const raw = (length || 1) / Math.max(2, Math.min(8, element.clientWidth / 90));
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= raw);
    const digits = Math.max(0, -Math.floor(Math.log10(step)));
    const marks = [];
    for (let at = 0; at <= length * 1.0001; at += step) marks.push(at);
    element.replaceChildren(...marks.map((at, index) => {
      const text = length < 0.1 ? `${+(at * 1000).toFixed(Math.max(0, digits - 3))} ms` : `${at.toFixed(digits)} s`;
      const mark = make("span", { class: index && (1 - at / length) * element.clientWidth < HALF_A_LABEL ? "last" : null }, text);
      mark.style.left = `${(at / (length || 1)) * 100}%`;
      return mark;
    }));
  }

  let drawn = 0; // the height of a problem's row in the plot

  function plot() {
    const canvas = $("plot");
    const width = canvas.clientWidth;
    if (!width) return;
    const most = window.innerWidth < 900 ? 150 : 720;
    drawn = Math.max(0.5, Math.min(12, most / Math.max(1, problems.length), 12));
    const height = Math.ceil(drawn * problems.length);
    const dense = window.devicePixelRatio || 1;
    canvas.width = width * dense;
    canvas.height = height * dense;
    canvas.style.height = `${height}px`;
    const pen = canvas.getContext("2d");
    pen.scale(dense, dense);
    const style = getComputedStyle(document.documentElement);
    const colours = Object.fromEntries(["draft", "target", "failed", "wait", "line"].map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    const shown = new Set(matching);
    problems.forEach((problem, row) => plotRow(pen, problem, row * drawn, width / (run.seconds || 1), shown.has(problem), colours));
    ticks($("axis"), run.seconds);
  }

  function plotRow(pen, problem, top, scale, shown, colours) {
    const gap = drawn > 3 ? 1 : 0;
    pen.globalAlpha = shown ? 1 : 0.15;
    for (const { begin, end, kind } of segments(problem)) {
      pen.fillStyle = kind === "open" ? colours.wait : colours[kind];
      const slim = kind === "open" ? drawn * 0.3 : 0;
      pen.fillRect(begin * scale, top + slim, Math.max((end - begin) * scale - (drawn > 3 ? 1 : 0), 0.75), drawn - gap - 2 * slim);
    }
    if (problem.finish_reason === "failed") {
      pen.fillStyle = colours.failed;
      pen.fillRect(Math.min((problem.end ?? run.seconds) * scale, run.seconds * scale - 6), top, 6, Math.max(drawn - gap, 2));
    }
  }

  function pointed(event) {
    return problems[Math.floor(event.offsetY / drawn)];
  }

  function preparePlot() {
    const canvas = $("plot");
    const failed = problems.filter((problem) => problem.finish_reason === "failed").length;
    canvas.setAttribute("aria-label", `${count(problems.length, "problem")} over ${seconds(run.seconds)}, one row each, ordered by start; ${failed} failed. The list has the same data, problem by problem.`);
    on(canvas, "click", (event) => pointed(event) && open(pointed(event), true));
    on(canvas, "mousemove", (event) => {
      const problem = pointed(event);
      $("tip").hidden = !problem;
      if (!problem) return;
      $("tip").textContent = `${label(problem)}: ${state(problem).word}, ${seconds(taken(problem))}`;
      $("tip").style.top = `${event.offsetY + 14}px`;
      $("tip").style.left = `${Math.min(event.offsetX + 10, canvas.clientWidth - 200)}px`;
    });
    on(canvas, "mouseleave", () => ($("tip").hidden = true));
  }

  /* The list */

  function rowOf(problem) {
    if (!rows.has(problem)) rows.set(problem, makeRow(problem));
    return rows.get(problem);
  }

  function makeRow(problem) {
    const moved = escalations(problem);
    const facts = [count(problem.steps.length, "step"), moved && `${moved} ${BOTH ? "by the target" : "escalated"}`, seconds(taken(problem))].filter(Boolean).join(" · ");
    const row = make("li", { class: "row", role: "option", tabindex: "-1", "aria-selected": "false" },
      make("span", {}, make("span", { class: "id" }, label(problem)), stateChip(problem)),
      make("span", { class: "facts" }, facts),
      make("span", { class: "excerpt" }, plain(problem.question, "question omitted from the log").slice(0, 240)),
      ...answers(problem),
      strip(problem));
    on(row, "click", () => open(problem, true));
    on(row, "focus", () => setCurrent(problem));
    return row;
  }

  /* The given and the expected answer of a graded problem, for the list. */
  function answers(problem) {
    if (problem.right === undefined || (problem.answer === undefined && problem.reference === undefined)) return [];
    const given = problem.answer === undefined ? "no answer" : `answer ${plain(problem.answer, "omitted").slice(0, 120)}`;
    const expected = problem.reference === undefined ? "" : `, expected ${plain(problem.reference, "omitted").slice(0, 120)}`;
    return [make("span", { class: "answers" }, given + expected)];
  }

  function setCurrent(problem) {
    if (current && rows.has(current)) rows.get(current).tabIndex = -1;
    current = problem;
    if (problem) rowOf(problem).tabIndex = 0;
  }

  function apply() {
    const search = view.search.trim().toLowerCase();
    const fits = FILTERS[view.filter][1];
    if (search) loadAll();
    matching = problems.filter((problem) => fits(problem) && (!search || haystack(problem).includes(search)));
    if (view.slowest) matching = [...matching].sort((a, b) => taken(b) - taken(a));
    $("list").replaceChildren();
    more();
    if (!matching.includes(current)) setCurrent(matching[0] || null);
    $("none").hidden = matching.length > 0;
    $("count").textContent = matching.length === problems.length ? count(problems.length, "problem") : `${matching.length} of ${count(problems.length, "problem")}`;
    for (const button of $("filters").children) button.setAttribute("aria-pressed", String(button.value === view.filter));
    $("slowest").setAttribute("aria-pressed", String(view.slowest));
    if ($("search").value !== view.search) $("search").value = view.search;
    plot();
  }

  function more(until = AT_ONCE) {
    const list = $("list");
    const shown = list.children.length;
    list.append(...matching.slice(shown, Math.max(until, shown + AT_ONCE)).map(rowOf));
  }

  function nearEnd() {
    const last = $("list").lastElementChild;
    if (last && $("list").children.length < matching.length && last.getBoundingClientRect().top < window.innerHeight * 2) more();
  }

  function move(by, to = null) {
    if (!matching.length) return;
    const from = matching.indexOf(current);
    const next = Math.max(0, Math.min(matching.length - 1, to ?? from + by));
    if (next >= $("list").children.length) more(next + 1);
    setCurrent(matching[next]);
    if (view.open) open(matching[next], false);
    const row = rowOf(matching[next]);
    if (row.offsetParent) row.focus();
    row.scrollIntoView({ block: "nearest" });
  }

  function prepareList() {
    for (const [name, [text, fits]] of Object.entries(FILTERS)) {
      const number = problems.filter(fits).length;
      const button = make("button", { type: "button", class: number ? "pill" : "pill empty", value: name, "aria-pressed": "false" }, text, make("span", {}, number.toLocaleString("en")));
      on(button, "click", () => change({ filter: name }));
      $("filters").append(button);
    }
    on($("slowest"), "click", () => change({ slowest: !view.slowest }));
    on($("search"), "input", () => change({ search: $("search").value }));
    on($("reset"), "click", () => change({ filter: "all", search: "" }));
    on(document, "scroll", nearEnd);
    on(document.querySelector(".browse"), "scroll", nearEnd);
    on($("skip"), "click", (event) => {
      event.preventDefault();
      if (current) rowOf(current).focus();
    });
  }

  function change(part) {
    Object.assign(view, part);
    writeAddress();
    apply();
  }

  /* A problem */

  function open(problem, focus) {
    if (view.open && rows.has(view.open)) rows.get(view.open).setAttribute("aria-selected", "false");
    view.open = problem;
    writeAddress();
    document.body.classList.toggle("opened", Boolean(problem));
    $("detail").hidden = !problem;
    if (!problem) return;
    setCurrent(problem);
    rowOf(problem).setAttribute("aria-selected", "true");
    showDetail(problem);
    if (window.innerWidth < 900) window.scrollTo(0, 0);
    if (focus) $("detail-title").focus({ preventScroll: true });
  }

  function showDetail(problem) {
    const focused = document.activeElement && document.activeElement.id === "detail-title";
    $("detail").replaceChildren(...(isListed(problem) ? unloaded(problem) : detail(problem)));
    $("detail").scrollTop = 0;
    const axis = $("detail").querySelector(".axis");
    if (axis) ticks(axis, (problem.end ?? run.seconds) - problem.begin);
    if (focused) $("detail-title").focus({ preventScroll: true });
  }

  function close() {
    const problem = view.open;
    open(null, false);
    plot();
    if (!problem) return;
    if (!matching.includes(problem)) return;
    more(matching.indexOf(problem) + 1);
    rowOf(problem).focus();
  }

  function detail(problem) {
    const button = on(make("button", { type: "button", class: "pill close" }, "Close"), "click", close);
    return [
      make("header", {}, make("h2", { id: "detail-title", tabindex: "-1" }, label(problem), stateChip(problem)), button),
      ...(problem.turns || []).map((turn) => textBlock(turn, "turn")),
      make("div", { class: "question" }, textBlock(problem.question, "question")),
      ...(problem.after || []).map((turn) => textBlock(turn, "turn")),
      outcome(problem),
      failure(problem),
      lanes(problem),
      make("section", { "aria-label": "Steps" }, make("h3", {}, count(problem.steps.length, "step")),
        make("ol", {}, (problem.given || []).map(given), problem.steps.map(stepItem))),
      problem.calls.length ? calls(problem) : null,
    ].filter(Boolean);
  }

  function outcome(problem) {
    const facts = [
      ["tools", (problem.tools || []).join(", ")], ["answer", problem.answer], ["expected", problem.reference], ["finish reason", problem.finish_reason ? words(problem.finish_reason) : "none: the log has no end of the problem"],
      ["time", seconds(taken(problem))],
      ["tokens", problem.steps.reduce((sum, step) => sum + step.tokens, 0).toLocaleString("en")],
      ["grading", problem.right === true ? undefined : problem.reason === problem.error ? undefined : problem.reason],
    ];
    return make("dl", { class: "outcome" }, facts.filter(([, value]) => value).map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
  }

  function failure(problem) {
    const broken = problem.calls.filter((call) => call.error || call.retries);
    if (!problem.error && !broken.length) return null;
    const items = broken.map((call) => make("li", {}, `step ${call.step + 1}, ${call.model} at ${seconds(call.begin)}: `,
      [...(call.retries || []).map((error) => `retried after ${error}`), ...(call.error ? [`failed: ${call.error}`] : [])].join("; ")));
    return make("div", { class: "alert", role: "note" }, make("strong", {}, problem.error ? `Failed: ${problem.error}` : "Failed attempts"), items.length ? make("ul", {}, items) : null);
  }

  function lanes(problem) {
    const timed = problem.calls.filter((call) => call.begin !== undefined);
    if (!timed.length) return null;
    const last = Math.max(problem.end ?? run.seconds, problem.begin);
    const place = (at) => `${(Math.max(0, at - problem.begin) / (last - problem.begin || 1)) * 100}%`;
    const tracks = ["drafter", "verifier", "escalator"].flatMap((actor) =>
      packed(timed.filter((call) => call.actor === actor)).map((group, index) => lane(index ? "" : actor, group, place, last)));
    const legend = [["draft", "draft"], ["target", "target"], ["score", "score"], ["wait", "waiting"]].map(([kind, word]) => make("li", {}, make("i", { class: `swatch ${kind}` }), word));
    return make("section", { "aria-label": "Requests over time" },
      make("div", { class: "bar" }, make("h3", {}, "Requests, in seconds since the problem started"), make("ul", { class: "legend", "aria-hidden": "true" }, legend)),
      make("div", { class: "axis lane-axis", "aria-hidden": "true" }), make("div", { class: "lanes", role: "img", "aria-label": "The requests by actor, as bars; the table below has the same data." }, tracks));
  }

  function packed(calls) {
    const groups = [];
    for (const call of calls) {
      const group = groups.find((group) => (group[group.length - 1].end ?? Infinity) <= call.begin);
      if (group) group.push(call);
      else groups.push([call]);
    }
    return groups;
  }

  function lane(name, group, place, last) {
    const track = make("div", { class: "track" });
    for (const call of group) {
      const end = Math.min(call.end ?? last, last);
      if (call.waited) track.append(bar("waiting", place(call.begin - call.waited), place(call.begin)));
      const element = bar(`call ${call.model} ${call.ended}`, place(call.begin), place(Math.max(end, call.begin)));
      element.title = [`${call.model}, step ${call.step + 1}`, call.ended, seconds(end - call.begin), call.error].filter(Boolean).join(", ");
      track.append(element);
    }
    return make("div", { class: "lane" }, make("span", {}, name), track);
  }

  function bar(kind, left, right) {
    const element = make("i", { class: kind });
    element.style.left = left;
    element.style.width = `calc(${right} - ${left})`;
    return element;
  }

  function given(step, index) {
    return make("li", { class: `step ${step.author}` }, make("div", { class: "head" }, make("span", { class: "number" }, `given ${index + 1}`), make("span", { class: `who ${step.author}` }, step.author)), textBlock(step.text, "step"));
  }

  function stepItem(step, index) {
    return make("li", { class: `step ${step.author}` },
      make("div", { class: "head" }, make("span", { class: "number" }, String(index + 1)), make("span", { class: `who ${step.author}` }, step.author),
        decision(step), step.audit ? make("span", {}, `audit: PRM ${score(step.audit[0])} → ${score(step.audit[1])}`) : null),
      textBlock(step.text, "step"), cost(step), (step.others || []).map((other) => alternative(step, other)));
  }

  function decision(step) {
    const draft = [step, ...(step.others || [])].find((one) => one.author === "draft");
    const target = [step, ...(step.others || [])].find((one) => one.author === "target");
    const value = (one) => (one && one.score !== undefined ? score(one.score) : null);
    const draftJudged = value(draft) && `${SCALE} ${value(draft)}${compared(step.verdict)}`;
    const both = value(draft) && value(target) ? `${SCALE}: draft ${value(draft)}, target ${value(target)}` : null;
    const judged = both || draftJudged || (value(target) ? `${SCALE} ${value(target)}` : null);
    const decided = { keep_draft: "kept", keep_target: "target kept", escalate: "escalated" }[step.verdict];
    const rules = step.calls && step.valid ? "the call keeps the rules" : null;
    const broken = draft && draft.valid === false ? `the draft breaks the rules: ${draft.violation}` : null;
    const facts = [decided, judged, broken, rules].filter(Boolean);
    return facts.length ? make("span", {}, facts.join(", ")) : null;
  }

  // Compare the draft's score with the threshold. The router predicts the target's advantage, so a low score keeps the
  // draft; the PRM rates the draft, so a high score keeps it.
  function compared(verdict) {
    const sign = { router: { keep_draft: "≤", escalate: ">" }, rsd: { keep_draft: "≥", escalate: "<" } }[run.identity.run_type]?.[verdict];
    return sign && figures.threshold !== undefined ? ` ${sign} ${figures.threshold}` : "";
  }

  const PARTS = { queue: "waiting", draft: "draft", score: "score", target: "target" };

  function cost(step) {
    const ending = step.stop_reason === "limit" ? ["cut at the token limit"] : [];
    const facts = [count(step.tokens, "token"), ...ending];
    if (!step.times) return make("div", { class: "cost" }, facts.join(" · "));
    const parts = Object.keys(PARTS).filter((name) => step.times[name] >= 0.0005);
    if (!parts.length) return make("div", { class: "cost" }, `${facts.join(" · ")} · ${seconds(step.times.total)}`);
    const all = parts.reduce((sum, name) => sum + step.times[name], 0) || 1;
    const meter = make("span", { class: "meter", "aria-hidden": "true" }, parts.map((name) => {
      const part = make("i", { class: name });
      part.style.width = `${(step.times[name] / all) * 100}%`;
      return part;
    }));
    return make("div", { class: "cost" }, `${facts.join(" · ")} · ${seconds(step.times.total)}`, meter, parts.map((name) => `${PARTS[name]} ${seconds(step.times[name])}`).join(" · "));
  }

  function alternative(step, other) {
    if (other.text === step.text) return make("p", { class: "other muted" }, `the ${other.author} wrote the same step`);
    const judged = other.score === undefined ? "" : `, ${SCALE} ${score(other.score)}`;
    return make("details", { class: "other", open: other.text.length < 600 },
      make("summary", {}, `the ${other.author} proposed${judged}, ${count(other.tokens, "token")}`), textBlock(other.text, "step"));
  }

  function calls(problem) {
    const box = make("details", { class: "calls" }, make("summary", {}, `All ${count(problem.calls.length, "request")}`));
    on(box, "toggle", () => box.open && box.children.length === 1 && box.append(callTable(problem)));
    return make("section", {}, box);
  }

  function callTable(problem) {
    const heads = ["step", "model", "sent at", "waited", "took", "tokens read", "tokens written", "score", "ended", "retries"];
    const lines = problem.calls.map((call) => [(call.step ?? 0) + 1, call.model, seconds(call.begin), seconds(call.waited),
      call.end === undefined ? "" : seconds(call.end - call.begin), call.read ?? "", call.written ?? "", call.score === undefined ? "" : score(call.score),
      call.ended === "failed" ? `failed: ${call.error}` : words(call.ended), (call.retries || []).length || ""]);
    const made = table("Requests; times in the run's clock", heads, lines);
    [...made.tBodies[0].rows].forEach((line, index) => line.cells[8].classList.add(problem.calls[index].ended));
    return make("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Requests" }, made);
  }

  /* Keys */

  function key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target === $("search");
    if (event.key === "Escape") return escape(typing);
    if (typing) return void (["Enter", "ArrowDown"].includes(event.key) && matching.length && (event.preventDefault(), move(0)));
    const inList = $("list").contains(event.target) || event.target === document.body;
    const action = {
      "/": () => $("search").focus(), j: () => move(1), k: () => move(-1),
      ...(inList && { ArrowDown: () => move(1), ArrowUp: () => move(-1), Home: () => move(0, 0), End: () => move(0, matching.length - 1),
        PageDown: () => move(8), PageUp: () => move(-8), Enter: () => current && open(current, true), " ": () => current && open(current, true) }),
    }[event.key];
    if (!action || (event.key === "/" && !$("search").offsetParent)) return;
    event.preventDefault();
    action();
  }

  function escape(typing) {
    if (typing && view.search) change({ search: "" });
    else if (view.open) close();
    else if (typing && current) rowOf(current).focus();
  }

  /* Start */

  function follow() {
    readAddress();
    apply();
    open(view.open, false);
    if (view.open) {
      more(matching.indexOf(view.open) + 1);
      rowOf(view.open).scrollIntoView({ block: "nearest" });
    }
  }

  showHead();
  showTables();
  preparePlot();
  prepareList();
  on(document, "keydown", key);
  on(window, "hashchange", follow);
  on(window, "resize", plot);
  on(window.matchMedia("(prefers-color-scheme: dark)"), "change", plot);
  follow();
})();
