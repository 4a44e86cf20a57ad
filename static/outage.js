// Loads the page again once the server can show it. Not everybody who waits asks at the same time.
"use strict";

const EVERY_MS = 5000;

async function isBack() {
  try {
    const response = await fetch(location.href, { cache: "no-store" });
    return response.status < 500;
  } catch {
    return false;
  }
}

async function look() {
  if (await isBack()) location.reload();
  else setTimeout(look, EVERY_MS * (1 + Math.random()));
}

setTimeout(look, EVERY_MS * (1 + Math.random()));
