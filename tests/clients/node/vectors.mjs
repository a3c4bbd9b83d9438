// Every vector of FOLDER, decided by the package: one JSON line with what differs. Numbers beyond what JavaScript holds are
// carried as text and written back as they stood.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { Verifier, VerifyError } from "postern";

const folder = process.argv[2];
const exact = (text) => JSON.parse(text.replace(/: (\d{16,})/g, ': "\\u0000$1"'));
const facts = (message) => JSON.stringify(message).replace(/"\\u0000(\d+)"/g, "$1");
let decided = 0;
const differs = [];

async function ask(verifier, token, message) {
  try {
    const capability = await verifier.check(token, facts(message));
    return { verdict: "allow", capability };
  } catch (error) {
    if (!(error instanceof VerifyError)) throw error;
    return { verdict: { refuse: { problem: error.kind, reason: error.message } } };
  }
}

for (const file of readdirSync(folder).filter((name) => name.endsWith(".json"))) {
  for (const { name, keys, revoked, budget, leeway, token, outcome } of exact(readFileSync(join(folder, file), "utf8")).cases) {
    const numbered = keys.map(({ id, key, state }) => ({ id, key, isRetired: state === "retired" }));
    const verifier = new Verifier(numbered, { resource: "orders", revoked: revoked ?? [], leewaySeconds: leeway ?? 0, ...(budget === undefined ? {} : { budget }) });
    const anything = { resource: "orders", operation: "GET", path: "/", time: 0, client: "::1" };
    const decisions = outcome.refused ? [{ message: anything, verdict: { refuse: outcome.refused } }] : outcome.capability.decisions;
    for (const { message, verdict } of decisions) {
      decided += 1;
      const got = await ask(verifier, token, message);
      const rights = got.capability?.rights;
      if (JSON.stringify(got.verdict) !== JSON.stringify(verdict)) differs.push({ file, name, message, got: got.verdict, wanted: verdict });
      else if (rights && JSON.stringify(rights) !== JSON.stringify(outcome.capability.rights)) differs.push({ file, name, rights });
    }
  }
}
console.log(JSON.stringify({ decided, differs }));
