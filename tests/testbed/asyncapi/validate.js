// Print what the official parser says of the documents on standard input, a JSON array of texts, as a JSON array of
// {"valid": …, "said": [[severity, code, path, message]]}.
const { createRequire } = require("node:module");
const { Parser } = createRequire(process.cwd() + "/")("@asyncapi/parser");

async function main() {
  let text = "";
  for await (const part of process.stdin) text += part;
  const verdicts = [];
  for (const document of JSON.parse(text)) {
    const parsed = await new Parser().parse(document);
    const said = parsed.diagnostics.map((d) => [d.severity, String(d.code), d.path.join("/"), d.message]);
    verdicts.push({ valid: parsed.document !== undefined, said });
  }
  process.stdout.write(JSON.stringify(verdicts));
}

main();
