// Has the browser make a passkey, or ask for one, and posts what it says with the form.
// <… data-passkey="create|get" data-options="{…}" data-into="#id-of-the-hidden-input" hidden>
"use strict";

const SAYS = {
  InvalidStateError: "This device already has a passkey for this account.",
  NotAllowedError: "The request was canceled or timed out. Try again.",
};

function offer(element) {
  const input = document.querySelector(element.dataset.into);
  const form = input.form;
  const error = element.querySelector(".errorlist");
  const isNew = element.dataset.passkey === "create";
  input.value = ""; // of an answer that was refused

  async function ask(event) {
    if (isNew && input.value) return; // it is made: the form goes its way
    event.preventDefault();
    event.stopPropagation();
    if (isNew && !form.reportValidity()) return;
    error.textContent = "";
    try {
      const options = JSON.parse(element.dataset.options);
      const said = await (isNew ? webauthnJSON.create(options) : webauthnJSON.get(options));
      input.value = JSON.stringify(said);
    } catch (failure) {
      error.textContent = SAYS[failure.name] ?? `That did not work (${failure.name}). Try again.`;
      return;
    }
    form.requestSubmit();
  }

  if (isNew) form.addEventListener("submit", ask);
  else element.querySelector("button").addEventListener("click", ask);
  element.hidden = false;
}

if (webauthnJSON.supported()) {
  for (const without of document.querySelectorAll("[data-without-passkeys]")) without.remove();
  for (const element of document.querySelectorAll("[data-passkey]")) offer(element);
}
