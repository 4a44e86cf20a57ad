// <button type="button" data-copy="#id"> copies the text of another element, says so, and has its
// label again after two seconds. Where the browser does not let it, the text is selected instead.
"use strict";

(() => {
  const AGAIN_MS = 2000;
  const BY_KEYS = /Mac|iPhone|iPad/.test(navigator.platform) ? "Press ⌘C" : "Press Ctrl+C";
  const labels = new Map(); // of the buttons that say something else, and their timers

  const status = document.createElement("p"); // for screen readers; it has to be there beforehand
  status.className = "said";
  status.setAttribute("role", "status");
  document.body.append(status);

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    const source = button && document.querySelector(button.dataset.copy);
    if (!source) return;
    try {
      await navigator.clipboard.writeText(source.value ?? source.textContent.trim());
      say(button, "Copied");
    } catch { // no permission, or a page without TLS
      select(source);
      say(button, BY_KEYS);
    }
  });

  function select(source) {
    if (source.select) source.select();
    else getSelection().selectAllChildren(source);
  }

  function say(button, text) {
    const known = labels.get(button);
    clearTimeout(known?.timer);
    const label = known?.label ?? {
      text: button.textContent, name: button.getAttribute("aria-label"),
    };
    button.textContent = status.textContent = text;
    button.removeAttribute("aria-label"); // it would hide the text
    labels.set(button, { label, timer: setTimeout(() => restore(button, label), AGAIN_MS) });
  }

  function restore(button, label) {
    labels.delete(button);
    button.textContent = label.text;
    if (label.name !== null) button.setAttribute("aria-label", label.name);
    if (!labels.size) status.textContent = "";
  }
})();
