// What every page of the dashboard does: saying that it works, and that it could not.
// Without this script all of it can be used as well.
"use strict";

// A wrong field, or the errors of a form, get the focus (autofocus). If the address has a fragment,
// browsers go there instead, until the page has loaded.
addEventListener("load", () => {
  if (location.hash) document.querySelector("[autofocus]")?.focus();
});

// <form data-working="Saving…"> says so, and is sent once. The button is not disabled: it would lose
// the focus, and Firefox keeps it so when the page is reloaded.
const sending = new Map(); // buttons, and their labels
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.dataset.working || event.defaultPrevented) return;
  const button = event.submitter ?? form.querySelector("button");
  if ([...sending.keys()].some((each) => each.form === form)) return event.preventDefault();
  sending.set(button, button.textContent);
  button.textContent = form.dataset.working;
  button.setAttribute("aria-disabled", "true");
});
addEventListener("pageshow", () => { // back from the page that the form led to
  for (const [button, label] of sending) {
    button.textContent = label;
    button.removeAttribute("aria-disabled");
  }
  sending.clear();
});

// <input type="hidden" data-own-time-zone> is the zone that the browser is set to.
for (const input of document.querySelectorAll("[data-own-time-zone]")) {
  input.value = Intl.DateTimeFormat().resolvedOptions().timeZone ?? "";
}

// <span data-seconds="190">3 min 10 s</span> counts on. The server's clock said when it began.
const counted = new WeakMap();
function count() {
  for (const text of document.querySelectorAll("[data-seconds]")) {
    if (!counted.has(text)) counted.set(text, performance.now() - text.dataset.seconds * 1000);
    const seconds = Math.floor((performance.now() - counted.get(text)) / 1000);
    const minutes = Math.floor(seconds / 60), rest = seconds % 60;
    text.textContent = minutes ? `${minutes} min ${String(rest).padStart(2, "0")} s` : `${rest} s`;
  }
}
count();
setInterval(count, 1000);
document.addEventListener("htmx:load", count);

// A part of a page that is asked for after the session has ended is not the sign-in: the page is,
// with the filters that were just chosen.
document.addEventListener("htmx:beforeSwap", (event) => {
  const address = event.detail.xhr.responseURL;
  if (!address || new URL(address).pathname !== "/login") return;
  event.detail.shouldSwap = false;
  const { requestConfig, pathInfo } = event.detail;
  if (requestConfig.elt.closest("[hx-push-url=true]")) location.assign(pathInfo.finalRequestPath);
  else location.reload();
});

// A table that is renewed stays where it was scrolled to: <div class="scroll" id="…">.
const scrolled = new Map();
document.addEventListener("htmx:beforeSwap", (event) => {
  for (const table of event.detail.target.querySelectorAll(".scroll[id]")) {
    scrolled.set(table.id, table.scrollLeft);
  }
});
document.addEventListener("htmx:load", (event) => {
  for (const table of event.target.querySelectorAll(".scroll[id]")) {
    table.scrollLeft = scrolled.get(table.id) ?? 0;
  }
});

// <details id="…"> that are renewed stay as they were opened or closed. What has the focus in them
// keeps it: htmx itself gives it back too early, while they are closed.
const folds = new Map();
let focused = "";
document.addEventListener("htmx:beforeSwap", (event) => {
  focused = document.activeElement.closest("details[id]") ? document.activeElement.id : "";
  for (const fold of event.detail.target.querySelectorAll("details[id]")) {
    folds.set(fold.id, fold.open);
  }
});
document.addEventListener("htmx:load", (event) => {
  for (const fold of event.target.querySelectorAll("details[id]")) {
    fold.open = folds.get(fold.id) ?? fold.open;
  }
  if (focused && document.activeElement === document.body) {
    document.getElementById(focused)?.focus();
  }
});

// A part of a page that cannot be had says so, where it says that it works.
for (const failure of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(failure, (event) => {
    const working = event.detail.target?.querySelector(".working");
    if (!working) return;
    working.textContent = "This could not be loaded. Reload the page.";
    working.classList.add("failed");
  });
}
