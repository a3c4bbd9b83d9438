// What a page makes of caveats, held against what the compiled code makes of the same: `node --experimental-wasm-modules --test`.
import assert from "node:assert/strict";
import { test } from "node:test";

import { SigningKey, Verifier, attenuate, inspect, mint } from "postern";
import { Holder } from "postern/browser";

const key = SigningKey.generate();
const holder = new Holder(key.publicKey);
const checks = (token) => inspect(token).blocks.at(-1).checks.map(({ text }) => text);

const caveats = [
  { expires: "2030-01-01T00:00:00Z" },
  { expires: new Date("2030-01-01T00:00:00.900Z"), notBefore: new Date("2020-01-01T00:00:00.100Z") },
  { method: ["GET", "HEAD"] },
  { path: "/v1/orders/42" },
  { path: ["/v1/orders/**", "/x", "/**"] },
  { query: { page: '2" || true', q: "a=b" } },
  { host: "API.example.com" },
  { clientCert: "AB:".repeat(31) + "AB" },
  { noUpgrade: true },
  { maxBody: "1MiB" },
  { maxBody: 4096 },
  { rpc: ["tools/list", "ping"] },
  { tool: "search", arg: { index: "public", id: 7, dry: true, text: "7", quoted: 'a"b\\c' } },
  { arg: { table: "orders" } },
  { grpc: ["shop.Orders/Get", "shop.Stock"] },
  { check: 'check if path($p), $p.starts_with("/a")' },
];

for (const named of caveats)
  test(JSON.stringify(named), () => {
    const token = mint(key, "orders");
    assert.deepEqual(checks(holder.attenuate(token, named)), checks(attenuate(token, named)));
  });

test("what a page narrows is honoured for that request alone", async () => {
  const verifier = Verifier.ofKeys(key.publicKey, { resource: "orders" });
  const token = holder.narrow(mint(key, "orders"), { method: "GET", path: "/42", query: "a=b" });
  const ask = (method, target) => verifier.verify({ method, target, headers: { authorization: `Bearer ${token}` } });
  assert.ok(await ask("GET", "/42?a=b"));
  for (const [method, target] of [["PUT", "/42?a=b"], ["GET", "/42"], ["GET", "/43?a=b"]]) await assert.rejects(ask(method, target), { kind: "not-permitted" });
  const sealed = holder.seal(token);
  assert.ok(inspect(sealed).sealed);
  assert.throws(() => holder.attenuate(sealed, { path: "/x" }));
  assert.equal(holder.inspect(token).length, 2);
  assert.equal(holder.inspect(token)[1].revocationId, inspect(token).blocks[1].revocation_id);
});

test("what a page cannot say it refuses", () => {
  const token = mint(key, "orders");
  for (const wrong of [{ path: "/a/../b" }, { path: "/a//b" }, { path: "/%41" }, { path: "/a/*" }, { expires: "soon" }, { client: "10.0.0.0/8" }, { method: "get" }, { clientCert: "ab" }, { grpc: "a/b/c" }, {}])
    assert.throws(() => holder.attenuate(token, wrong), { name: "PosternError" }, JSON.stringify(wrong));
  assert.throws(() => holder.attenuate(mint(SigningKey.generate(), "orders"), { path: "/x" }), { kind: "invalid-token" });
  assert.throws(() => new Holder("secp256r1/02"), { kind: "invalid-key" });
});
