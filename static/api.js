// Draws the API's description with Swagger UI, which is served beside this file.
(() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
  follow();
  dark.addEventListener("change", follow);

  const place = document.getElementById("api");
  window.SwaggerUIBundle({
    domNode: place,
    url: place.dataset.url,
    deepLinking: true,
    defaultModelsExpandDepth: -1,
    docExpansion: "list",
    persistAuthorization: false,
    syntaxHighlight: { activated: false },
    validatorUrl: null,
    // Its links stand within buttons, which then are neither for a keyboard. A hash still leads here.
    onComplete: () => requestAnimationFrame(() => place.querySelector(".is-open.opblock")?.scrollIntoView()),
    plugins: [
      ({ React }) => ({ components: { DeepLink: ({ text }) => React.createElement("span", null, text) } }),
    ],
  });
})();
