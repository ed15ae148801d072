// Starts Swagger UI so that it never shows a rounded number. Balances and amounts have up to 64
// bits; JavaScript's own numbers are exact up to 2^53 only, and Swagger UI reads all into those.

"use strict";

// The limits in the document: shown as text, under a name that Swagger UI does not calculate with.
function limitsAsText(response) {
  if (response.ok && response.url.endsWith("/openapi.json")) {
    const limit = /"(minimum|maximum)":\s*(-?\d{16,})/g;
    response.text = response.text.replace(limit, '"x-$1": "$2"');
  }
  return response;
}

// What the service answers: shown as it came. Swagger UI would read JSON and write it again.
const AnswersAsTheyCame = () => ({
  wrapComponents: {
    responseBody: (Original, system) => (props) =>
      system.React.createElement(Original, { ...props, contentType: "text/plain" }),
  },
});

SwaggerUIBundle({
  dom_id: "#contract",
  url: "openapi.json",
  deepLinking: true,
  displayRequestDuration: true,
  showExtensions: true,
  responseInterceptor: limitsAsText,
  plugins: [AnswersAsTheyCame],
  // Otherwise a server elsewhere is asked whether the document is valid.
  validatorUrl: null,
});
