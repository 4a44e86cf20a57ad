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
    // Its links stand within buttons, and then a keyboard has neither.
    plugins: [({ React }) => ({
      components: { DeepLink: ({ text }) => React.createElement("span", null, text) },
    })],
    // It opens what an address names, and leaves it out of sight.
    onComplete: () => requestAnimationFrame(() => {
      place.querySelector(".opblock.is-open")?.scrollIntoView();
    }),
  });
})();
