// What somebody typed is not lost if the form that they send does not arrive: because their session
// has ended, the form is out of date, or something has failed. It is filled in again on the form's
// page, and never sent by itself.
//
// A draft stays in this tab (sessionStorage), belongs to one account, and has no passwords, codes or
// other secrets. A page with <meta name="account"> keeps a draft of the form that is sent from it,
// and takes it out if the next page is one of the dashboard: the form has arrived. If it is a page
// with <meta name="draft" content="lost"> (or "unsure", if the form may have arrived), the draft
// stays until the form's page is open again.
"use strict";

(() => {
  const NAME = "draft";
  const VALID_FOR_MS = 60 * 60 * 1000;
  const SECRET = "[type=password], [autocomplete=one-time-code], [data-secret]";
  const TYPED = "input:not([type=hidden], [type=file], [type=submit], [type=button]), select, textarea";
  const SAYS = {
    lost: "This was not saved. Check what you entered, then submit it again.",
    unsure: "This may not have been saved. If it wasn’t, check what you entered and submit it again.",
  };
  const account = meta("account");
  const fate = meta("draft");

  if (fate) keep(fate);
  else if (account) open();

  if (account) {
    document.addEventListener("submit", (event) => {
      if (!event.defaultPrevented) save(event.target); // and no script sends it
    });
    // A form that htmx sends stays on its page, which is left only if the form did not arrive.
    document.addEventListener("htmx:beforeSwap", ({ detail: { xhr, requestConfig } }) => {
      const isOutdated = xhr.status === 403;
      const hasEnded = xhr.responseURL && new URL(xhr.responseURL).pathname === "/login";
      if (requestConfig.verb !== "post" || !(isOutdated || hasEnded)) return;
      const form = requestConfig.elt.closest("form");
      if (form) save(form);
      if (!isOutdated) return; // static/dashboard.js leads to the sign-in
      keep("lost");
      location.reload();
    });
  }

  function meta(name) {
    return document.querySelector(`meta[name=${name}]`)?.content;
  }

  function read() {
    try {
      const draft = JSON.parse(sessionStorage.getItem(NAME));
      return draft && Date.now() - draft.at < VALID_FOR_MS ? draft : null;
    } catch { // a browser that keeps nothing
      return null;
    }
  }

  function write(draft) {
    try {
      if (draft) sessionStorage.setItem(NAME, JSON.stringify(draft));
      else sessionStorage.removeItem(NAME);
    } catch { /* a browser that keeps nothing */ }
  }

  function save(form) {
    if (form.method !== "post") return;
    const fields = fieldsOf(form).map((field) => [
      field.name, field.value, isChoice(field) ? field.checked : null,
    ]);
    write(fields.length ? { account, fields, to: target(form), at: Date.now(), fate: "sent" } : null);
  }

  function keep(fate) {
    const draft = read();
    write(draft && { ...draft, fate });
  }

  function open() {
    const draft = read();
    if (draft?.account !== account || draft.fate === "sent") return write(null);
    const form = [...document.forms].find((each) => isFor(each, draft));
    if (!form) return;
    write(null);
    for (const [name, value, checked] of draft.fields) {
      const field = fieldsOf(form).find((each) =>
        each.name === name && (each.type !== "radio" || each.value === value));
      if (!field) continue; // of a part that was loaded later
      if (checked === null) field.value = value;
      else field.checked = checked;
    }
    for (let each = form; each; each = each.parentElement) if ("open" in each) each.open = true;
    say(form, draft.fate);
  }

  function isFor(form, draft) {
    const names = new Set(fieldsOf(form).map((field) => field.name));
    return target(form) === draft.to && draft.fields.some(([name]) => names.has(name));
  }

  function fieldsOf(form) {
    return [...form.querySelectorAll(TYPED)].filter((field) => field.name && !field.matches(SECRET));
  }

  function isChoice(field) {
    return field.type === "checkbox" || field.type === "radio";
  }

  /** The path that a form is sent to. */
  function target(form) {
    const action = form.getAttribute("action") ?? form.getAttribute("hx-post") ?? location.href;
    return new URL(action, location.href).pathname;
  }

  function say(form, fate) {
    const notice = document.createElement("p");
    notice.className = "notice note";
    notice.setAttribute("role", "status");
    notice.tabIndex = -1;
    notice.textContent = SAYS[fate];
    if (form.querySelector(SECRET)) notice.textContent += " Passwords and codes are not kept.";
    form.prepend(notice);
    notice.focus();
  }
})();
