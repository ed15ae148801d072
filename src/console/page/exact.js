// Whole numbers of 64 bits, which JavaScript's own numbers would round: text here, or BigInt to compare.

const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const WHOLE = /^-?[0-9]+$/;

// JSON whose numbers become the text of their digits.
export function parse(text) {
  return JSON.parse(text.replace(TOKEN, (token) => (token.startsWith('"') ? token : `"${token}"`)));
}

// The digits in groups of three.
export function grouped(digits) {
  return digits.replace(/\B(?=(?:\d{3})+$)/g, ",");
}

// The same, with a sign before what was added.
export function signed(digits) {
  return digits === "0" || digits.startsWith("-") ? grouped(digits) : `+${grouped(digits)}`;
}

// The digits that somebody has typed, as JSON has them.
export function digits(name, typed) {
  const text = typed.trim();
  if (!WHOLE.test(text)) {
    throw new Error(`${name} must be a whole number, without separators`);
  }
  return BigInt(text).toString();
}

// A JSON object of members that are JSON already; those without a value are left out.
export function object(members) {
  const known = Object.entries(members).filter(([, value]) => value !== undefined);
  return `{${known.map(([name, value]) => `${JSON.stringify(name)}:${value}`).join(",")}}`;
}
