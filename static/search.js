// Searches the guides: the index is loaded when somebody is about to type, and nothing is sent.
"use strict";

const MOST_RESULTS = 8;
const SNIPPET = 140;

const form = document.querySelector(".search");
const input = form.querySelector("input");
const results = form.querySelector(".results");
const status = form.querySelector("[role=status]");
let loading; // a promise of the entries

input.addEventListener("focus", () => load().catch(() => {}));
input.addEventListener("input", search);
form.addEventListener("submit", openFirst);
form.addEventListener("keydown", moveWithKeys);
document.addEventListener("click", (event) => { if (!form.contains(event.target)) hide(); });
results.addEventListener("click", (event) => { if (event.target.closest("a")) hide(); });
form.addEventListener("focusout", (event) => {
  if (event.relatedTarget && !form.contains(event.relatedTarget)) hide();
});

function load() {
  loading ??= fetch(form.dataset.index).then((response) => {
    if (!response.ok) throw new Error(response.status);
    return response.json();
  }).then((entries) => entries.map(([url, page, title, text]) => ({
    url, page, title, text, inTitle: title.toLowerCase(), inText: text.toLowerCase(),
  }))).catch((error) => {
    loading = undefined; // the next key tries again
    throw error;
  });
  return loading;
}

async function search() {
  const query = input.value;
  const words = query.toLowerCase().split(/[\s"'`,;()]+/).filter(Boolean);
  let entries;
  try {
    entries = await load();
  } catch {
    hide();
    status.textContent = "The search is not available.";
    return;
  }
  if (query !== input.value) return; // somebody has typed on
  if (!words.length) {
    hide();
    status.textContent = "";
    return;
  }
  const found = entries.map((entry) => [score(entry, words), entry])
    .filter(([points]) => points > 0)
    .sort(([one], [other]) => other - one)
    .slice(0, MOST_RESULTS);
  const items = found.map(([, entry]) => item(entry, words));
  results.replaceChildren(...(items.length ? items : [nothing()]));
  results.hidden = false;
  status.textContent = items.length === 1 ? "1 result" : `${items.length || "No"} results`;
}

// 0 unless each word is somewhere. The whole query counts most, then words in titles.
function score(entry, words) {
  const whole = words.join(" ");
  let points = entry.inTitle === whole ? 100 : 0;
  if (words.length > 1 && entry.inText.includes(whole)) points += 30;
  for (const word of words) {
    const at = entry.inTitle.indexOf(word);
    const times = entry.inText.split(word).length - 1;
    if (at < 0 && !times) return 0;
    if (at >= 0) points += at === 0 || !/\w/.test(entry.inTitle[at - 1]) ? 20 : 10;
    points += Math.min(times, 5);
  }
  return points;
}

function item({ url, page, title, text, inText }, words) {
  const link = document.createElement("a");
  link.href = url;
  const heading = document.createElement("b");
  heading.append(...marked(title, words));
  link.append(heading, page === title ? "" : `${page}. `, ...marked(snippet(text, inText, words), words));
  const line = document.createElement("li");
  line.append(link);
  return line;
}

function nothing() {
  const line = document.createElement("li");
  line.textContent = "Nothing found.";
  return line;
}

// The text around the first word that it contains, cut between words.
function snippet(text, inText, words) {
  const found = words.map((word) => inText.indexOf(word)).filter((at) => at >= 0);
  const first = found.length ? Math.min(...found) : 0;
  const begin = first < SNIPPET / 2 ? 0 : text.lastIndexOf(" ", first - SNIPPET / 3) + 1;
  const cut = text.slice(begin, begin + SNIPPET);
  const end = begin + SNIPPET < text.length ? cut.lastIndexOf(" ") : cut.length;
  return `${begin ? "… " : ""}${cut.slice(0, end > 0 ? end : cut.length)}${end < cut.length ? " …" : ""}`;
}

function marked(text, words) {
  const pattern = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|");
  return text.split(new RegExp(`(${pattern})`, "i")).map((part, index) => {
    if (index % 2 === 0) return part;
    const mark = document.createElement("mark");
    mark.textContent = part;
    return mark;
  });
}

async function openFirst(event) {
  event.preventDefault();
  await search();
  results.querySelector("a")?.click();
}

function moveWithKeys(event) {
  if (event.key === "Escape" && !results.hidden) {
    event.preventDefault();
    hide();
    input.focus();
  }
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const stops = [input, ...results.querySelectorAll("a")];
  if (!step || results.hidden || stops.length === 1) return;
  event.preventDefault();
  const at = stops.indexOf(document.activeElement);
  stops.at((at + step) % stops.length).focus();
}

function hide() {
  results.hidden = true;
}
