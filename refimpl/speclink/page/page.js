"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const pane = document.getElementById("code");
const main = document.getElementById("document");
const search = document.getElementById("search");
const articles = [...document.querySelectorAll("article")];
const words = new Map(articles.map((a) => [a, (a.textContent + " " + codeOf(a.id).map((c) => c[0]).join(" ")).toLowerCase()]));
const narrow = matchMedia("(max-width: 1150px)");
let chosen = null; // the article whose code is shown
let wantedState = "";

function codeOf(id) { return (data.ties[id] || { code: [] }).code; }

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") made.addEventListener("click", value);
    else if (value !== null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// ---- the code, highlighted, with its citing lines marked

const TOKENS = /("""[\s\S]*?"""|'''[\s\S]*?'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|(#[^\n]*)|\b(and|as|assert|async|await|break|case|class|continue|def|del|elif|else|except|finally|for|from|global|if|import|in|is|lambda|match|nonlocal|not|or|pass|raise|return|try|while|with|yield|None|True|False|self)\b/g;
const IDS = /\b(?:SEC-[BF]-\d+|E-[A-Z][A-Z0-9]*(?:-[A-Z0-9]+)*|[A-Z]+-\d+)\b/g;

function linked(text, kind) {
  const span = element("span", { class: kind });
  let last = 0;
  for (const match of text.matchAll(IDS)) {
    if (!document.getElementById(match[0])) continue;
    span.append(text.slice(last, match.index), element("a", { href: "#" + match[0] }, match[0]));
    last = match.index + match[0].length;
  }
  span.append(text.slice(last));
  return span;
}

function highlighted(text) {
  const rows = [[]];
  const put = (part, kind) => part.split("\n").forEach((piece, i) => {
    if (i) rows.push([]);
    if (piece) rows.at(-1).push(kind ? linked(piece, kind) : piece);
  });
  let last = 0;
  for (const match of text.matchAll(TOKENS)) {
    put(text.slice(last, match.index), "");
    put(match[0], match[1] ? "s" : match[2] ? "c" : "k");
    last = match.index + match[0].length;
  }
  put(text.slice(last), "");
  return rows;
}

function showSource(path, first, last) {
  const view = element("div", { class: "source", tabindex: "0", role: "region", "aria-label": path });
  const cited = new Set();
  for (const [, from, to] of data.marks[path] || []) for (let n = from; n <= to; n++) cited.add(n);
  highlighted(data.files[path]).forEach((parts, index) => {
    const number = index + 1;
    const isHere = number >= first && number <= last;
    const row = element("div", { class: "row" + (isHere ? " here" : cited.has(number) ? " cited" : "") },
      element("a", { class: "number", href: `#${path}:${number}`, "aria-label": `line ${number}` }, String(number)));
    row.append(element("code", {}, ...parts));
    view.append(row);
  });
  pane.querySelector(".source").replaceWith(view);
  const row = view.children[first - 1];
  if (row) view.scrollTop = row.offsetTop - view.offsetTop - view.clientHeight / 3;
}

function frame(title, buttons) {
  const close = element("button", { class: "back", type: "button", onclick: closePane }, "Back to the document");
  pane.replaceChildren(
    element("header", {}, element("h2", {}, title), close, element("div", { class: "places" }, ...buttons)),
    element("div", { class: "source" }),
    element("div", { class: "tests" }),
  );
  pane.classList.add("shown");
}

function closePane() {
  pane.classList.remove("shown");
  if (chosen) chosen.focus({ preventScroll: true });
}

// ---- one requirement: its code and its tests

function choose(article, { open = true, scroll = true } = {}) {
  if (chosen) chosen.classList.remove("chosen");
  chosen = article;
  article.classList.add("chosen");
  if (scroll) article.scrollIntoView({ block: "nearest" });
  if (!open && narrow.matches) return;
  const { code, tests } = data.ties[article.id] || { code: [], tests: [] };
  const buttons = code.map(([path, first, last, within]) => element("button", {
    type: "button", "aria-pressed": "false", title: within,
    onclick: (event) => press(event.currentTarget, path, first, last),
  }, `${path.replace("refimpl/", "")}:${first}`));
  frame(article.id, buttons);
  if (buttons.length) buttons[0].click();
  else pane.querySelector(".source").append(element("p", { class: "hint" }, "No line of code cites it."));
  showTests(tests);
}

function press(button, path, first, last) {
  for (const other of pane.querySelectorAll(".places button")) other.setAttribute("aria-pressed", "false");
  button.setAttribute("aria-pressed", "true");
  showSource(path, first, last);
}

function showTests(ties) {
  const box = pane.querySelector(".tests");
  const proving = ties.filter(([, platforms]) => platforms.length);
  const others = ties.filter(([, platforms]) => !platforms.length);
  const count = data.has_run ? `${proving.length} of ${ties.length} prove it` : `${ties.length} name it (no recorded run at hand)`;
  box.append(element("h3", {}, ties.length ? `Tests: ${count}` : "No test names it."));
  for (const [number, platforms] of [...proving, ...others]) {
    const test = data.tests[number];
    const mark = platforms.length
      ? element("span", { class: "proves" }, `✓ ${platforms.join(", ")} `)
      : element("span", { class: "names" }, "○ names it ");
    const source = element("pre", { tabindex: "0" });
    highlighted(test.source).forEach((parts, i) => source.append(...(i ? ["\n"] : []), ...parts));
    box.append(element("details", {},
      element("summary", {}, mark, test.name.replace(/^.*::/, "").replaceAll("_", " ").replace(/^test /, ""), " ",
        element("small", {}, `${test.path}:${test.line}`)), source));
  }
}

// ---- one line, or one file: what it is for

function chooseLine(path, line) {
  const marks = (data.marks[path] || []).filter(([at, first, last]) => (line >= first && line <= last) || line === at);
  const ids = [...new Set(marks.flatMap((mark) => [...mark[3], ...mark[4]]))];
  frame(`${path}${line ? ":" + line : ""}`, ids.map((id) => element("button", {
    type: "button", onclick: () => { location.hash = id; },
  }, id)));
  showSource(path, line || 1, line || 0);
  const text = !line ? "Lines that keep a requirement are marked." : ids.length ? "This line keeps:" : "This line keeps no requirement by itself.";
  pane.querySelector(".tests").append(element("p", {}, text), ...ids.map((id) =>
    element("p", {}, element("a", { href: "#" + id }, id), " ", (document.querySelector(`[id="${id}"] p, [id="${id}"] dd:last-of-type`) || {}).textContent || "")));
}

function route() {
  const target = decodeURIComponent(location.hash.slice(1));
  const line = /^(.+\.py)(?::(\d+))?$/.exec(target);
  if (line && data.files[line[1]]) return chooseLine(line[1], Number(line[2] || 0));
  const found = target && document.getElementById(target);
  if (!found) return;
  if (found.tagName === "ARTICLE") {
    if (found.hidden) clearFilters();
    choose(found);
    found.scrollIntoView({ block: "center", behavior: "instant" });
  } else found.scrollIntoView({ block: "start", behavior: "instant" });
  if (narrow.matches && found.tagName !== "ARTICLE") pane.classList.remove("shown");
}

// ---- search and states

function filter() {
  const asked = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const isOff = !asked.length && !wantedState;
  let count = 0;
  for (const article of articles) {
    const fits = asked.every((word) => words.get(article).includes(word)) && (!wantedState || article.dataset.state === wantedState);
    article.hidden = !fits;
    count += fits;
  }
  for (const part of document.querySelectorAll("section.part")) {
    part.hidden = !isOff && !part.querySelector("article:not([hidden])");
    for (const extra of part.querySelectorAll(".drawings, .sentences, .draft")) extra.hidden = !isOff;
  }
  document.getElementById("found").textContent = isOff ? "" : `${count} found`;
}

function clearFilters() {
  search.value = "";
  wantedState = "";
  for (const button of document.querySelectorAll(".totals button")) button.setAttribute("aria-pressed", "false");
  filter();
}

for (const button of document.querySelectorAll(".totals button")) button.addEventListener("click", () => {
  wantedState = wantedState === button.dataset.state ? "" : button.dataset.state;
  for (const other of document.querySelectorAll(".totals button")) other.setAttribute("aria-pressed", String(other.dataset.state === wantedState));
  filter();
});
search.addEventListener("input", filter);
search.form.addEventListener("submit", (event) => {
  event.preventDefault();
  const first = articles.find((article) => !article.hidden);
  if (first) location.hash = first.id;
});

// ---- keys, clicks, the section in view

function step(by) {
  const shown = articles.filter((article) => !article.hidden);
  const at = shown.indexOf(chosen) + by;
  const next = shown[chosen && shown.includes(chosen) ? Math.max(0, Math.min(shown.length - 1, at)) : 0];
  if (!next) return;
  history.replaceState(null, "", "#" + next.id);
  choose(next, { open: false });
  next.focus({ preventScroll: true });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    if (document.activeElement === search) { clearFilters(); search.blur(); } else closePane();
  } else if (/INPUT|BUTTON|SUMMARY/.test(event.target.tagName)) return;
  else if (event.key === "/") { event.preventDefault(); search.focus(); search.select(); }
  else if (event.key === "j") step(1);
  else if (event.key === "k") step(-1);
  else if (event.key === "Enter" && event.target.tagName === "ARTICLE") { choose(event.target); pane.focus(); }
});
main.addEventListener("click", (event) => {
  const article = event.target.closest("article");
  if (!article || event.target.closest("a, summary") || getSelection().toString()) return;
  history.replaceState(null, "", "#" + article.id);
  choose(article, { scroll: false });
});
for (const link of document.querySelectorAll("article a.id, .ties a")) link.addEventListener("click", (event) => {
  if (event.target.hash === location.hash) choose(event.target.closest("article"), { scroll: false });
});
for (const link of document.querySelectorAll(".tree a")) link.addEventListener("click", () => {
  if (matchMedia("(max-width: 760px)").matches) document.getElementById("sections").open = false;
});
const inView = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const link = document.querySelector(`.tree a[href="#${entry.target.id}"]`);
    if (!link || !entry.isIntersecting) continue;
    document.querySelectorAll(".tree a[aria-current]").forEach((other) => other.removeAttribute("aria-current"));
    link.setAttribute("aria-current", "true");
    link.scrollIntoView({ block: "nearest" });
  }
}, { rootMargin: "-10% 0px -75% 0px" });
for (const part of document.querySelectorAll("section.part")) inView.observe(part);
if (matchMedia("(max-width: 760px)").matches) document.getElementById("sections").open = false;
addEventListener("hashchange", route);
route();
