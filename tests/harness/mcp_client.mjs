// A client of the official TypeScript SDK as a program: says in one line of JSON what became of each step.
//
//   node mcp_client.mjs 1|2 FOLDER SCENARIO URL [TOKEN]
//
// FOLDER is where the npm packages are.
import { createRequire } from "node:module";

const [version, folder, scenario, url, token] = process.argv.slice(2);
const require = createRequire(`${folder}/package.json`);
const { Client, StreamableHTTPClientTransport } =
  version === "1"
    ? {
        ...require("@modelcontextprotocol/sdk/client/index.js"),
        ...require("@modelcontextprotocol/sdk/client/streamableHttp.js"),
      }
    : require("@modelcontextprotocol/client");

const headers = token ? { Authorization: `Bearer ${token}` } : {};
const transport = new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } });
const client = new Client({ name: "test", version: "1" }, { capabilities: { roots: { listChanged: true } } });
const said = {};

async function step(name, work) {
  try {
    const result = await work();
    said[name] = result?.content?.[0]?.text ?? "done";
  } catch (error) {
    said[name] = `${error.name}: ${error.message}`;
  }
  return said[name] === "done";
}

const call = (name, args) => () => client.callTool({ name, arguments: args }, undefined, { timeout: 20_000 });
const good = call("search", { index: "a", query: "x" });

const scenarios = {
  async calls() {
    await step("refused", call("delete", { index: "a" }));
    await step("good", good);
    await step("ended", () => transport.terminateSession());
  },
  async notification() {
    await step("notified", () => client.sendRootsListChanged());
    await step("good", good);
  },
  async running() {
    await step("running", call("hold", {}));
    await step("next", good);
  },
  async begin() {},
};

if (scenario === "batch") {
  said.errors = [];
  transport.onmessage = (message) => said.errors.push([message.id, message.error.message]);
  transport.onerror = (error) => (said.failed = error.message);
  await transport.start();
  const refused = { jsonrpc: "2.0", method: "tools/call", params: { name: "delete", arguments: { index: "a" } } };
  await step("sent", () =>
    transport.send([{ ...refused, id: 1 }, { ...refused, id: "2" }, { jsonrpc: "2.0", method: "notifications/cancelled" }]),
  );
} else if (await step("begun", () => client.connect(transport))) {
  await scenarios[scenario]();
}
console.log(JSON.stringify(said));
process.exit(0);
