// What a guide can do besides being read: choosing between variants of code, and copying it.
// Without this script all variants stand one below the other.
"use strict";

const CHOICE = "docs-variant";
for (const [number, code] of document.querySelectorAll(".code").entries()) {
  const pre = code.querySelector("pre");
  pre.id = `code-${number}`;
  const button = document.createElement("button"); // works by static/copy.js
  button.type = "button";
  button.className = "copy-code";
  button.textContent = "Copy";
  button.dataset.copy = `#${pre.id}`;
  pre.before(button);
}
document.querySelectorAll(".variants").forEach(makeTabs);
choose(remembered());

// https://www.w3.org/WAI/ARIA/apg/patterns/tabs/, selected as the focus moves
function makeTabs(group, number) {
  const tabs = document.createElement("div");
  tabs.className = "tabs";
  tabs.setAttribute("role", "tablist");
  tabs.setAttribute("aria-label", `Language of example ${number + 1}`);
  for (const panel of group.querySelectorAll("[data-variant]")) {
    const variant = panel.dataset.variant;
    const tab = document.createElement("button");
    tab.type = "button";
    tab.textContent = variant;
    tab.dataset.tab = variant;
    tab.id = `tab-${number}-${variant}`;
    panel.id = `panel-${number}-${variant}`;
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", panel.id);
    panel.setAttribute("role", "tabpanel");
    panel.setAttribute("aria-labelledby", tab.id);
    tab.addEventListener("click", () => pick(tab));
    tabs.append(tab);
  }
  tabs.addEventListener("keydown", moveWithKeys);
  group.prepend(tabs);
}

function moveWithKeys(event) {
  const tabs = [...event.currentTarget.children];
  const at = tabs.indexOf(document.activeElement);
  const to = {
    ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: tabs.length - 1,
  }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  const tab = tabs.at(to % tabs.length);
  tab.focus();
  pick(tab);
}

// All groups of the page follow; what was clicked stays where it is on the screen.
function pick(tab) {
  const before = tab.getBoundingClientRect().top;
  choose(tab.dataset.tab);
  scrollBy({ top: tab.getBoundingClientRect().top - before, behavior: "instant" });
  try {
    localStorage.setItem(CHOICE, tab.dataset.tab);
  } catch { /* a browser that keeps nothing */ }
}

function choose(variant) {
  for (const group of document.querySelectorAll(".variants")) {
    const tabs = [...group.querySelectorAll("[role=tab]")];
    const chosen = tabs.find((tab) => tab.dataset.tab === variant) ?? tabs[0];
    for (const tab of tabs) {
      tab.setAttribute("aria-selected", String(tab === chosen));
      tab.tabIndex = tab === chosen ? 0 : -1;
      document.getElementById(tab.getAttribute("aria-controls")).hidden = tab !== chosen;
    }
  }
}

function remembered() {
  try {
    return localStorage.getItem(CHOICE);
  } catch {
    return null;
  }
}
