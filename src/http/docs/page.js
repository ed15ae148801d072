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

// Shows response bodies unchanged. Swagger UI would parse JSON and serialize it again.
const UnchangedResponses = () => ({
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
  plugins: [UnchangedResponses],
  // Otherwise a server elsewhere is asked whether the document is valid.
  validatorUrl: null,
});
