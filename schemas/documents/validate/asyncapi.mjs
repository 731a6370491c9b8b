// Validates an AsyncAPI document with the official parser: `node asyncapi.mjs < asyncapi.json`.
// Prints what it finds, one JSON object a line, and fails if one of them is an error.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(readFileSync(0, "utf8"));
for (const { severity, code, message, path } of diagnostics) {
  console.log(JSON.stringify({ severity, code, message, path }));
}
const ERROR = 0;
process.exit(document && !diagnostics.some((found) => found.severity === ERROR) ? 0 : 1);
