// A board to play with: filters, a picture, and two rows compared. Every number was computed by bench; this file only
// chooses and draws. Names come from results, so they are set as text and never as HTML.

const { boards } = JSON.parse(document.getElementById("data").textContent);
const rows = new Map(); // key -> row with its board
for (const board of boards) for (const row of board.rows) rows.set(row.key, Object.assign(row, { board }));
const $ = (id) => document.getElementById(id);
const lines = [...document.querySelectorAll("#rows > tbody > tr")];
const state = { shown: [...rows.values()], picked: [], view: "" };

/** Return an element with attributes and content; text stays text. */
function make(name, attributes = {}, ...content) {
  const svg = ["svg", "g", "circle", "line", "path", "text"].includes(name);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...content.filter((part) => part !== ""));
  return node;
}

/** Say a change to screen readers. */
const say = (text) => { $("status").textContent = text; };

// ---- theme -----------------------------------------------------------------------------------------------------
const THEMES = { "": ["◐", "theme of the system"], light: ["☀", "light theme"], dark: ["☾", "dark theme"] };
function showTheme() {
  const [sign, words] = THEMES[document.documentElement.dataset.theme ?? ""];
  $("theme").replaceChildren(sign, make("span", {}, ` ${words}`));
  $("theme").setAttribute("aria-label", `${words}; press for the next`);
}
$("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES), root = document.documentElement.dataset;
  const next = names[(names.indexOf(root.theme ?? "") + 1) % names.length];
  if (next) root.theme = next; else delete root.theme;
  try { localStorage.setItem("theme", next); } catch { /* the choice then holds for this view */ }
  showTheme();
});

// ---- table: sorting by DataTables, filters by the lists above it -----------------------------------------------
document.documentElement.classList.add("ready");
const heads = [...document.querySelectorAll("#rows > thead th")];
const titles = heads.map((head) => head.textContent);
const table = new window.tables.default("#rows", {
  paging: false, info: false, autoWidth: false, order: [],
  layout: { topStart: null, topEnd: null, bottomStart: null, bottomEnd: null },
  columnDefs: [{ targets: 0, orderable: false }],
});

const FILTERS = {
  task: (row) => row.board.task, dataset: (row) => row.board.dataset, share: (row) => row.board.share,
  backbone: (row) => row.backbone, method: (row) => row.method, start: (row) => row.start,
};
for (const [name, of] of Object.entries(FILTERS)) {
  const values = [...new Set([...rows.values()].map(of))], list = $(`filter-${name}`);
  list.closest("label").hidden = values.length < 2;
  list.append(make("option", { value: "" }, "any"), ...values.map((value) => make("option", { value: `=${value}` }, value)));
  list.addEventListener("change", filter);
}
function filter() {
  const wanted = Object.entries(FILTERS).map(([name, of]) => [$(`filter-${name}`).value, of]).filter(([value]) => value);
  const fits = (line) => wanted.every(([value, of]) => `=${of(rows.get(line.dataset.key))}` === value);
  table.search.fixed("lists", (text, data, index) => fits(table.row(index).node()));
  table.search($("search").value).draw();
}
table.on("draw", () => {
  state.shown = table.rows({ search: "applied" }).nodes().toArray().map((line) => rows.get(line.dataset.key));
  const count = `${state.shown.length} of ${rows.size} rows`;
  if ($("count").textContent !== count) $("count").textContent = count;
  // a column whose shown cells are all the same says nothing
  $("rows").classList.toggle("one-share", new Set(state.shown.map((row) => row.board.share)).size < 2);
  $("rows").classList.toggle("one-task", new Set(state.shown.map((row) => row.board.task)).size < 2);
  setScale();
  draw();
});
$("search").addEventListener("input", filter);
document.querySelector(".filters").addEventListener("submit", (event) => event.preventDefault());
$("reset").addEventListener("click", () => {
  for (const name of Object.keys(FILTERS)) $(`filter-${name}`).value = "";
  $("search").value = "";
  table.order([]);
  filter();
});
$("sort").append(make("option", { value: "" }, "as listed"));
titles.forEach((title, at) => { if (at) $("sort").append(make("option", { value: at }, title)); });
$("sort").addEventListener("change", (event) => {
  const at = Number(event.target.value), upwards = /of-(rank|method|backbone|task)/.test(heads[at].className);
  table.order(event.target.value === "" ? [] : [[at, upwards ? "asc" : "desc"]]).draw();
});

/** Set the scale of the marks in the table to the shown rows. */
function setScale() {
  const values = drawn(state.shown).flatMap((row) => row.auroc.filter((value) => value !== null));
  if (!values.length) return;
  const low = Math.min(...values), high = Math.max(...values), gap = (high - low || 0.01) * 0.06;
  $("rows").style.setProperty("--from", low - gap);
  $("rows").style.setProperty("--to", high + gap);
}
/** Leave out rows of constant scores, which would take the whole scale. */
const drawn = (shown) => shown.some((row) => !row.constant) ? shown.filter((row) => !row.constant) : shown;

// ---- a row's fold ----------------------------------------------------------------------------------------------
for (const line of lines) {
  const key = line.dataset.key, button = line.querySelector(".open");
  button.addEventListener("click", () => toggle(line));
  line.querySelector(".pick input").addEventListener("change", (event) => pick(key, event.target.checked));
}
function toggle(line, open = !table.row(line).child.isShown()) {
  const child = table.row(line).child;
  if (open) child(fold(rows.get(line.dataset.key))).show(); else child.hide();
  line.querySelector(".open").setAttribute("aria-expanded", open);
}
const more = []; // makers of what html_misses.js adds to a row's fold
function fold(row) {
  const facts = make("dl", { class: "facts" });
  for (const [head, text] of row.facts) facts.append(make("dt", {}, head), make("dd", {}, text));
  return make("div", {}, row.command ? command(row.command) : "", facts, ...more.map((add) => add(row)));
}
function command(text) {
  const copy = make("button", { type: "button", onclick: async () => {
    try { await navigator.clipboard.writeText(text); say("Command copied"); copy.textContent = "copied"; }
    catch { getSelection().selectAllChildren(code); say("Command selected: copy it with the keyboard"); }
  } }, "copy"), code = make("code", {}, text);
  return make("div", { class: "command" }, code, copy);
}

// ---- picture ---------------------------------------------------------------------------------------------------
const VIEWS = {
  cost: { words: "Training time", title: "Macro AUROC and training time", axis: "training, minutes a run (on shared machines)", x: (row) => row.minutes,
    tick: (value) => String(value) },
  share: { words: "Training records", title: "Macro AUROC and training records", axis: "share of the training records", x: (row) => row.board.fraction,
    tick: (value) => `${+(100 * value).toPrecision(3)} %` },
};
const shares = new Set(boards.map((board) => board.fraction));
const views = Object.keys(VIEWS).filter((name) => name === "share" ? shares.size > 1
  : [...rows.values()].filter((row) => row.minutes !== null).length > 1);
for (const name of views) {
  $("views").append(make("button", { type: "button", "data-view": name, onclick: () => {
    state.view = name;
    if (name === "share") $("filter-share").value = ""; // a single share would be a single column
    filter();
  } }, VIEWS[name].words));
}
state.view = views[0] ?? "";
$("picture").hidden = !views.length;
$("views").hidden = views.length < 2;
const methods = [...new Set([...rows.values()].map((row) => row.method))];
const color = (row) => `var(--c${Math.min(methods.indexOf(row.method), 8)})`;

const tip = make("div", { id: "tip", role: "tooltip", hidden: true });
let closing;
tip.addEventListener("mouseenter", () => clearTimeout(closing));
tip.addEventListener("mouseleave", hideTip);
document.addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });
function hideTip() { closing = setTimeout(() => { tip.hidden = true; }, 180); }
const number = (value) => value === null ? "–" : value.toFixed(4);
const describe = (row) => `macro AUROC ${number(row.auroc[0])}`
  + (row.auroc[1] === null ? "" : ` (${row.auroc[1].toFixed(3)}–${row.auroc[2].toFixed(3)})`)
  + (row.minutes === null ? "" : `, ${row.minutes.toFixed(1)} minutes`);
const where = (row) => (new Set(boards.map((board) => board.task)).size > 1 ? `${row.board.task}, ` : "") + row.board.share;

function showTip(row, point, plot) {
  clearTimeout(closing);
  tip.replaceChildren(make("strong", {}, row.name), make("p", {}, describe(row)), make("p", { class: "note" },
    `trained on ${where(row)}`), row.command ? make("code", {}, row.command) : "");
  tip.hidden = false;
  const at = point.querySelector("circle").getBoundingClientRect(), box = plot.getBoundingClientRect();
  const left = Math.max(0, Math.min(at.left - box.left + 18, box.width - tip.offsetWidth));
  tip.style.left = `${left}px`;
  tip.style.top = `${at.bottom - box.top + 10}px`;
}

/** Return round values between two bounds; on a logarithmic axis 1, 2, 5, 10 and so on. */
function ticks(low, high, log) {
  if (log) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
      for (const step of high / low > 300 ? [1] : high / low > 8 ? [1, 2, 5] : [1, 2, 3, 4, 5, 6, 8]) found.push(+(step * 10 ** power).toPrecision(1));
    }
    return found.filter((value) => value >= low && value <= high);
  }
  const raw = (high - low) / 5, size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((each) => each * size).find((each) => each >= raw);
  const found = [];
  for (let at = Math.ceil(low / step); at * step <= high; at++) found.push(+(at * step).toFixed(10));
  return found;
}

function draw() {
  const view = VIEWS[state.view], plot = $("chart");
  if (!view) return;
  for (const button of $("views").children) button.setAttribute("aria-pressed", button.dataset.view === state.view);
  $("picture-title").textContent = view.title;
  const kept = drawn(state.shown).filter((row) => view.x(row) !== null && row.auroc[0] !== null);
  const missing = state.shown.length - kept.length;
  $("chart-note").textContent = (kept.length ? "" : "No row to draw. ")
    + (kept.some((row) => row.few) ? "Hollow: fewer than three runs. " : "")
    + "Numbers are ranks in the table; bars are 95 % intervals. Point at a mark for its command; it opens the row."
    + (state.view === "cost" && kept.some((row) => row.partial) ? " Dashed: the time may lack the pass that computes features." : "")
    + (missing && kept.length ? ` Not drawn: ${missing} without a recorded time or with constant scores.` : "");
  const width = Math.max(300, plot.clientWidth || 900), height = width < 600 ? 300 : 380;
  const edge = { left: 46, right: 30, top: 24, bottom: 46 };
  if (!kept.length) return void plot.replaceChildren();
  const values = kept.flatMap((row) => row.auroc.filter((value) => value !== null)), xs = kept.map(view.x);
  const gap = (Math.max(...values) - Math.min(...values) || 0.01) * 0.06;
  const [low, high] = [Math.min(...values) - gap, Math.max(...values) + gap];
  const wide = Math.max(...xs) / Math.min(...xs) > 1.5 ? 1.18 : 2;
  const [start, end] = [Math.min(...xs) / wide, Math.max(...xs) * wide];
  const x = (value) => edge.left + Math.log(value / start) / Math.log(end / start) * (width - edge.left - edge.right);
  const y = (value) => height - edge.bottom - (value - low) / (high - low) * (height - edge.top - edge.bottom);
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "group",
    "aria-label": `Macro AUROC against ${view.axis}, ${kept.length} rows` });
  for (const value of ticks(low, high)) {
    svg.append(make("line", { class: "grid", x1: edge.left, x2: width - edge.right, y1: y(value), y2: y(value) }),
      make("text", { x: edge.left - 8, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(high - low < 0.05 ? 3 : 2)));
  }
  const marks = state.view === "share" ? [...new Set(xs)] : ticks(start, end, true);
  for (const value of marks) {
    svg.append(make("line", { class: "grid", x1: x(value), x2: x(value), y1: height - edge.bottom, y2: height - edge.bottom + 5 }),
      make("text", { x: x(value), y: height - edge.bottom + 19, "text-anchor": "middle" }, view.tick(value)));
  }
  svg.append(make("text", { x: (edge.left + width) / 2, y: height - 6, "text-anchor": "middle" }, view.axis),
    make("text", { x: 0, y: 8, "text-anchor": "start" }, "macro AUROC, frequent labels"));

  // rows of one name stand beside each other at a share, so that their intervals can be seen
  const series = Map.groupBy(kept, (row) => `${row.board.dataset}|${row.board.task}|${row.series}`);
  const spread = new Map([...series.keys()].map((name, at) =>
    [name, state.view === "share" ? (at - (series.size - 1) / 2) * Math.min(20, 160 / series.size) : 0]));
  const place = (row) => x(view.x(row)) + spread.get(`${row.board.dataset}|${row.board.task}|${row.series}`);
  if (state.view === "share") for (const group of series.values()) {
    const points = group.toSorted((a, b) => a.board.fraction - b.board.fraction)
      .map((row) => `${place(row)},${y(row.auroc[0])}`);
    svg.append(make("path", { class: "series", d: `M${points.join("L")}`, style: `stroke:${color(group[0])}` }));
  }
  const placed = aside(kept.map((row) => [row, place(row), y(row.auroc[0])]));
  const points = placed.toReversed().map(([row, ...at]) => {
    const few = (row.few ? " few" : "") + (row.partial && state.view === "cost" ? " partial" : "");
    const point = make("g", { class: `point${few}${state.picked.includes(row.key) ? " picked" : ""}`, role: "button", tabindex: -1,
      "data-key": row.key, "aria-label": `${row.name}, trained on ${where(row)}: ${describe(row)}`, "aria-describedby": "tip" },
      make("line", { x1: at[0], x2: at[0], y1: y(row.auroc[1] ?? row.auroc[0]), y2: y(row.auroc[2] ?? row.auroc[0]),
        style: `stroke:${color(row)}` }),
      make("circle", { cx: at[0], cy: at[1], r: 9, style: `stroke:${color(row)};fill:${row.few ? "var(--card)" : color(row)}` }),
      make("text", { x: at[0], y: at[1] + 4 }, String(row.place)));
    for (const name of ["mouseenter", "focus"]) point.addEventListener(name, () => showTip(row, point, plot));
    for (const name of ["mouseleave", "blur"]) point.addEventListener(name, hideTip);
    point.addEventListener("mouseenter", () => { if (point !== svg.lastChild && !svg.contains(document.activeElement)) svg.append(point); });
    point.addEventListener("click", () => reveal(row));
    return point;
  });
  svg.append(...points);
  walk(svg, points.toSorted((a, b) => a.querySelector("circle").getAttribute("cx") - b.querySelector("circle").getAttribute("cx")));
  const names = [...new Set(kept.map((row) => row.method))];
  const legend = make("div", { class: "legend" }, ...names.map((name) => {
    const row = kept.find((each) => each.method === name);
    return make("span", {}, make("i", { style: `background:${color(row)}` }), name);
  }));
  tip.hidden = true;
  plot.replaceChildren(svg, legend, tip);
}

/** Move marks [row, x, y] that would cover each other a little to the right. */
function aside(marks) {
  const placed = [];
  for (const mark of marks.toSorted((a, b) => a[1] - b[1])) {
    while (placed.some((other) => Math.hypot(other[1] - mark[1], other[2] - mark[2]) < 15)) mark[1] += 3;
    placed.push(mark);
  }
  return placed;
}

/** Let arrow keys walk the points from left to right: the picture is one stop of the Tab key. */
function walk(svg, points) {
  points[0].setAttribute("tabindex", 0);
  svg.addEventListener("keydown", (event) => {
    const at = points.indexOf(document.activeElement);
    const next = { ArrowRight: at + 1, ArrowUp: at + 1, ArrowLeft: at - 1, ArrowDown: at - 1, Home: 0, End: points.length - 1 }[event.key];
    if (at >= 0 && (event.key === "Enter" || event.key === " ")) { event.preventDefault(); reveal(rows.get(points[at].dataset.key)); }
    if (at < 0 || next === undefined) return;
    event.preventDefault();
    points[at].setAttribute("tabindex", -1);
    const point = points[Math.max(0, Math.min(next, points.length - 1))];
    point.setAttribute("tabindex", 0);
    point.focus();
  });
}
function reveal(row) {
  const line = lines.find((each) => each.dataset.key === row.key);
  toggle(line, true);
  line.querySelector(".open").focus();
  line.scrollIntoView({ block: "center", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
}

// ---- two rows --------------------------------------------------------------------------------------------------
function pick(key, on) {
  const row = rows.get(key);
  let picked = state.picked.filter((each) => each !== key && (!on || rows.get(each).board === row.board));
  if (on) picked = [...picked.slice(-1), key];
  if (on && state.picked.length && picked.length < 2 && !state.picked.includes(key)) {
    say("Rows of different tasks or training records are not compared; the first choice was taken back.");
  }
  choose(picked);
}
function choose(picked, remember = true) {
  state.picked = picked;
  for (const line of lines) {
    const on = picked.includes(line.dataset.key);
    line.classList.toggle("picked", on);
    line.querySelector(".pick input").checked = on;
  }
  for (const point of document.querySelectorAll("#chart .point")) point.classList.toggle("picked", picked.includes(point.dataset.key));
  $("brief").hidden = true;
  if (remember) showBrief(...picked.map((key) => rows.get(key)));
  if (remember) history.replaceState(null, "", picked.length ? `#${picked.join("-")}` : location.pathname + location.search);
  showPair();
}
/** Show the difference of two rows at the lower edge of the window while the table is read. */
function showBrief(a, b) {
  const found = a && b && comparison(a, b);
  $("brief").hidden = !found;
  if (found) $("brief").replaceChildren(make("span", {}, `${a.name} − ${b.name}`),
    make("strong", {}, difference(found.auroc)), make("a", { href: "#compare" }, "by label and part ↓"));
}

/** Return a difference as bench prints it: its sign is always there. */
function signed(value, digits) {
  const negative = value < 0 || Object.is(value, -0);
  return (negative ? "−" : "+") + Math.abs(value).toFixed(digits);
}
const difference = ([value, low, high]) => `${signed(value, 4)} (${signed(low, 3)} to ${signed(high, 3)})`;
const turned = ([value, low, high]) => [-value, -high, -low];

/** Return the comparison of two rows of a board, first minus second; undefined if the page does not have it. */
function comparison(first, second) {
  for (const [i, j, auroc, ap, p, resolvable, words, num, ...groups] of first.board.pairs) {
    const forward = i === first.place - 1 && j === second.place - 1;
    if (!forward && !(j === first.place - 1 && i === second.place - 1)) continue;
    const turn = forward ? (each) => each : turned;
    return { auroc: turn(auroc), ap: turn(ap), p, resolvable, num, words: first.board.verdicts[words],
      groups: groups.map((group) => group.map(turn)) };
  }
  return undefined;
}

function options(list, chosen) {
  const groups = Map.groupBy(list, (row) => row.board);
  return [...groups].map(([board, members]) => make("optgroup", { label: where({ board }) }, ...members.map((row) =>
    make("option", { value: row.key, selected: row.key === chosen }, row.name))));
}
function showPair() {
  const comparable = [...rows.values()].filter((row) => row.board.pairs.length);
  const panel = $("pair");
  if (!comparable.length) {
    panel.replaceChildren(make("p", {}, boards[0].missing || "There are no two rows to compare."));
    return;
  }
  const [a, b] = state.picked.map((key) => rows.get(key));
  const first = make("select", { id: "first" }, make("option", { value: "" }, "choose a row"), ...options(comparable, a?.key));
  const others = a ? a.board.rows.filter((row) => row !== a) : [];
  const second = make("select", { id: "second", disabled: !a }, make("option", { value: "" }, "choose a row"), ...options(others, b?.key));
  const swap = make("button", { type: "button", id: "swap", disabled: !b }, "swap");
  first.addEventListener("change", () => {
    const row = rows.get(first.value);
    refocus("first", () => choose(!row ? [] : b && b.board === row.board && b !== row ? [row.key, b.key] : [row.key]));
  });
  second.addEventListener("change", () => refocus("second", () => choose(second.value ? [a.key, second.value] : [a.key])));
  swap.addEventListener("click", () => refocus("swap", () => choose([b.key, a.key])));
  const pickers = make("div", { class: "pickers" }, make("label", {}, "first row", first), swap, make("label", {}, "minus second row", second));
  panel.replaceChildren(pickers, ...(b ? answer(a, b) : [make("p", { class: "note" },
    "Tick two rows of the table or choose them here: their difference, by label and by part of fold 10.")]));
}
/** The panel is made anew; the keyboard stays where it was. */
function refocus(id, change) {
  change();
  $(id)?.focus();
}

function answer(a, b) {
  const found = comparison(a, b);
  if (!found) return [make("p", {}, a.board.partial || "These rows have no run of the same draw and seed, so they cannot be paired.")];
  say(`${a.name} minus ${b.name}: ${difference(found.auroc)}. ${found.words}`);
  const [value, low, high] = found.auroc;
  const bound = Math.max(Math.abs(low), Math.abs(high), 2 * a.board.margin) * 1.1;
  const bar = mark(found.auroc, bound);
  bar.classList.add("margin");
  bar.style.setProperty("--margin", a.board.margin);
  return [
    make("div", { class: "answer" }, make("strong", {}, signed(value, 4)),
      make("span", {}, `(${signed(low, 3)} to ${signed(high, 3)}) macro AUROC, ${found.p}`)),
    make("p", { class: "verdict" }, found.words),
    make("div", { class: "whole" }, bar),
    make("div", { class: "scale", "aria-hidden": true }, make("span", {}, `${signed(-bound, 3)} second row better`),
      make("span", {}, `first row better ${signed(bound, 3)}`)),
    make("p", { class: "note" }, `Grey band: ±${a.board.margin}, the margin of practical equality. Macro AP ${difference(found.ap)}. `
      + `${found.num} pair${found.num > 1 ? "s" : ""} of runs; resolvable difference ${found.resolvable.toFixed(4)}. * not corrected.`),
    ...a.board.page ? [make("p", {}, make("a", { href: `${a.board.page}#${a.key}-${b.key}` }, "By label and by part of fold 10"))] : [],
    ...parts(a, b, found, 0, "By label", "Difference of AUROC, 95 % intervals. They are not corrected for the number of labels."),
    ...parts(a, b, found, 1, "By part of fold 10", "Difference of macro AUROC over the labels with at least 10 positives and 10 negatives in "
      + "the part. The intervals are corrected for the number of parts (Bonferroni). Parts describe; no difference here was declared, so none is claimed."),
  ];
}
function parts(a, b, found, group, title, words) {
  const known = a.board.groups[group] ?? [], values = found.groups[group];
  if (!known.length) return [];
  if (!values.length) return [make("h3", {}, title), make("p", { class: "note" }, a.board.partial)];
  const bound = Math.max(...values.flatMap((each) => each.slice(1).map(Math.abs)), 0.005) * 1.05;
  const body = known.map(([name, facts], at) => make("tr", {},
    make("th", { scope: "row" }, name, make("small", {}, facts)),
    make("td", { class: "score" }, a.scores[group][at].toFixed(3)), make("td", { class: "score" }, b.scores[group][at].toFixed(3)),
    make("td", { class: "wide" }, mark(values[at], bound)), make("td", {}, difference(values[at]))));
  const head = make("tr", {}, make("th", { scope: "col" }, group ? "part" : "label"), make("th", { scope: "col", class: "score" }, "first"),
    make("th", { scope: "col", class: "score" }, "second"), make("td", {}), make("th", { scope: "col" }, "first − second"));
  return [make("h3", {}, title), make("p", { class: "note" }, words),
    make("table", { class: "parts" }, make("thead", {}, head), make("tbody", {}, ...body))];
}
/** Return a difference as a mark on a scale from -bound to bound; filled where its interval excludes 0. */
function mark([value, low, high], bound) {
  const clear = low > 0 ? "above" : high < 0 ? "below" : "open-interval";
  const style = `--value:${value};--low:${low};--high:${high};--from:${-bound};--to:${bound}`;
  return make("span", { class: `bar signed ${clear}`, style, "aria-hidden": true }, make("i"),
    make("b", clear === "open-interval" ? { class: "hollow" } : {}));
}

// ---- start -----------------------------------------------------------------------------------------------------
showTheme();
const named = location.hash.slice(1).split("-").filter((key) => rows.has(key));
const start = rows.get(named[0])?.board ?? boards.toSorted((a, b) => b.rows.length - a.rows.length)[0];
for (const name of ["task", "dataset", "share"]) {
  if (!$(`filter-${name}`).closest("label").hidden) $(`filter-${name}`).value = `=${start[name]}`;
}
filter();
const alike = named.length === 2 && rows.get(named[0]).board === rows.get(named[1]).board;
const shown = boards.find((board) => board.pairs.length && state.shown.some((row) => row.board === board));
choose(alike ? named : shown ? shown.pairs[shown.example].slice(0, 2).map((at) => shown.rows[at].key) : [], alike);
if (alike) $("compare").scrollIntoView();
new ResizeObserver(draw).observe($("chart"));
