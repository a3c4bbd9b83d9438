// The package as users import it: `node --test package.test.mjs`.
import assert from "node:assert/strict";
import { inspect as show } from "node:util";
import { test } from "node:test";

import { KeyDocument, PosternError, SigningKey, Verifier, VerifyError, attenuate, inspect, lint, mint, narrow, problemIn, seal } from "postern";
import { withCapability } from "postern/fetch";

const key = SigningKey.generate();
const bearer = (token) => ({ authorization: `Bearer ${token}` });
const get = (target, token, more = {}) => ({ method: "GET", target, headers: bearer(token), ...more });
const kind = async (asked) => {
  const error = await asked.then(() => assert.fail("it was allowed"), (error) => error);
  assert.ok(error instanceof PosternError, show(error));
  return error.kind;
};

test("mint, narrow, verify", async () => {
  const token = mint(key, "orders", { allow: "GET" }, { expires: "1h" });
  const narrower = attenuate(token, { path: ["/42", "/43/**"], noUpgrade: true });
  const verifier = Verifier.ofKeys(key.publicKey, { resource: "orders" });
  const capability = await verifier.verify(get("/42", narrower));
  assert.deepEqual(capability.rights, [["orders", "GET"]]);
  assert.ok(capability.holds("orders", "GET") && !capability.holds("orders", "POST"));
  const error = await verifier.verify(get("/44", narrower)).catch((error) => error);
  assert.ok(error instanceof VerifyError);
  assert.deepEqual([error.kind, error.status, error.problem.caveats.length], ["not-permitted", 403, 1]);
  assert.match(error.challenge, /insufficient_scope/);
  assert.equal(inspect(narrower).blocks[1].checks[1].text, 'check if upgrade("")');
  assert.equal(inspect(narrower, { key: key.publicKey }).signature.state, "verified");
  assert.ok(lint(attenuate(narrower, { path: "/nowhere" })).length > 0);
});

test("fields come in every form that servers have", async () => {
  const verifier = new Verifier({ 1: key.publicKey }, { resource: "orders" });
  const token = mint(key, "orders");
  const value = `Bearer ${token}`;
  for (const headers of [["Authorization", value], { authorization: value, cookie: undefined }, new Headers({ authorization: value }), [["authorization", value]]])
    assert.ok(await verifier.verify({ method: "GET", target: "/", headers }));
  assert.equal(await kind(verifier.verify({ method: "GET", target: "/", headers: ["authorization", value, "authorization", value] })), "two-tokens");
  const there = `Bearer ${attenuate(token, { host: "api.example.com" })}`;
  const direct = new Verifier({ 1: key.publicKey }, { resource: "orders", believed: "connection" });
  const over2 = (...more) => direct.verify({ method: "GET", target: "/", isHttp2: true, headers: [":method", "GET", ...more, "authorization", there] });
  assert.ok((await over2(":authority", "api.example.com")) && (await over2(":authority", "api.example.com", "host", "api.example.com")));
  assert.equal(await kind(over2(":authority", "other.example.com")), "not-permitted");
});

test("what cannot be used is a typed error", async () => {
  const wrong = {
    "invalid-key": () => Verifier.ofKeys("secp256r1/02", { resource: "orders" }),
    "invalid-resource": () => mint(key, "Orders!"),
    "invalid-method": () => mint(key, "orders", { allow: "get" }),
    "not-minted": () => mint(key, ["postern", "orders"]),
    "not-attenuated": () => attenuate(mint(key, "orders"), {}),
    "sealed-token": () => attenuate(seal(mint(key, "orders")), { path: "/x" }),
    "invalid-token": () => inspect("no token!"),
    "invalid-caveat": () => attenuate(mint(key, "orders"), { path: "/a/*" }),
    "invalid-revocation-id": () => new Verifier([key.publicKey], { resource: "orders", revoked: ["ab"] }),
    "invalid-option": () => new Verifier([key.publicKey], { resource: "orders", authorization: "yes" }),
  };
  for (const [kind, ask] of Object.entries(wrong)) assert.throws(ask, (error) => error instanceof PosternError && error.kind === kind, kind);
  for (const keys of [[], {}, key]) assert.throws(() => new Verifier(keys, { resource: "orders" }), { kind: "invalid-key" });
  for (const wrong of [{ leewaySeconds: -1 }, { leewaySeconds: 301 }, { leewaySeconds: "5" }, { budget: -1 }, { leeway_seconds: 5 }])
    assert.throws(() => new Verifier([key.publicKey], { resource: "orders", ...wrong }), { kind: "invalid-option" }, show(wrong));
  assert.throws(() => narrow(mint(key, "orders"), { method: "GET", path: "/", seconds: -1 }), { kind: "invalid-option" });
  assert.throws(() => mint(key, "orders", { keyId: -1 }), { kind: "invalid-option" });
  assert.throws(() => withCapability({ token: undefined, resource: "http://gateway.example" }), { kind: "missing-capability" });
  assert.throws(() => withCapability({ token: mint(key, "orders"), resource: "/orders" }), { kind: "invalid-url" });
  assert.throws(() => attenuate(mint(key, "orders"), { role: "admin" }), { kind: "invalid-caveat", message: /there is no caveat/ });
  assert.throws(() => attenuate(mint(key, "orders"), { arg: { id: 1.5 } }), { kind: "invalid-caveat" });
  assert.ok(!show(key, { depth: 9, showHidden: true }).includes(key.toSecretText()) && !JSON.stringify(key).includes("private"));
});

/** A caveat that is named and says nothing was once no caveat at all, and the token wider than asked. */
test("what says nothing is no value of any caveat", () => {
  const token = mint(key, "orders");
  const names = ["expires", "notBefore", "method", "path", "query", "host", "client", "clientCert", "noUpgrade", "maxBody", "rpc", "tool", "arg", "grpc", "check"];
  const nothing = [[], [,], [undefined], {}, null, undefined, NaN, new Date(NaN), "", [""], new Map([["a", "b"]]), () => "10m", Symbol("x")];
  for (const name of names)
    for (const value of nothing) {
      const flag = name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
      const says = { kind: "invalid-caveat", message: new RegExp(`^(--)?${flag} `) };
      assert.throws(() => attenuate(token, { [name]: value }), says, `${name}: ${show(value)}`);
      assert.throws(() => mint(key, "orders", {}, { [name]: value }), says, `${name}: ${show(value)}`);
    }
  for (const value of [0, 1, "true", "false", [true]]) assert.throws(() => attenuate(token, { noUpgrade: value }), { kind: "invalid-caveat" }, show(value));
  for (const value of [{ toString: () => "x" }, 7, true]) assert.throws(() => attenuate(token, { host: value }), { kind: "invalid-caveat" }, show(value));
  for (const value of [{ page: null }, { page: {} }, { "a=b": "c" }, { "": "c" }]) assert.throws(() => attenuate(token, { query: value }), { kind: "invalid-caveat" });
  for (const all of [[], null, "path", new Map([["path", "/a"]]), ["/a"]]) assert.throws(() => attenuate(token, all), { kind: "invalid-caveat" }, show(all));
  for (const allow of [[], undefined, null]) assert.throws(() => mint(key, "orders", { allow }), { kind: "invalid-method" }, show(allow));
  // No caveat was named, or one was set to false.
  for (const none of [undefined, {}, { noUpgrade: false }]) assert.equal(inspect(mint(key, "orders", {}, none)).blocks[0].checks.length, 0, show(none));
});

test("reasons, and clocks that differ", async () => {
  const now = 1_800_000_000;
  const token = mint(key, "orders", {}, { expires: new Date(now * 1000) });
  const strict = Verifier.ofKeys(key.publicKey, { resource: "orders" });
  const lenient = Verifier.ofKeys(key.publicKey, { resource: "orders", leewaySeconds: 30 });
  assert.ok((await strict.verify(get("/", token, { now }))) && (await lenient.verify(get("/", token, { now: now + 30 }))));
  assert.equal(await kind(strict.verify(get("/", token, { now: now + 1 }))), "expired");
  assert.equal(await kind(lenient.verify(get("/", token, { now: now + 31 }))), "expired");
  assert.equal(await kind(strict.verify(get("/", mint(SigningKey.generate(), "orders")))), "invalid-token");
  assert.equal(await kind(strict.verify(get("/", mint(key, "invoices")))), "not-found");
  assert.equal(await kind(strict.verify({ method: "GET", target: "/", headers: {} })), "missing-capability");
  assert.equal(await kind(strict.verify(get("/a/../b", token, { now }))), "bad-path");
  const { revocationIds } = await strict.verify(get("/", token, { now }));
  strict.revoke(revocationIds);
  assert.equal(await kind(strict.verify(get("/", attenuate(token, { path: "/" }), { now }))), "revoked");
});

test("a rotation is followed without a restart", async () => {
  const next = SigningKey.generate();
  let [now, fetched, listed] = [0, 0, { 1: key }];
  const document = () => Object.entries(listed).map(([id, key]) => ({ algorithm: "ed25519", key_id: Number(id), key_bytes: key.publicKey.slice(8) }));
  const fetch = async () => (fetched++, new Response(JSON.stringify(document())));
  const source = new KeyDocument("http://gateway.example", { fetch, clock: () => now });
  const verifier = new Verifier(source, { resource: "orders" });
  const [first, second] = [mint(key, "orders", { keyId: 1 }), mint(next, "orders", { keyId: 2 })];
  assert.ok(await verifier.verify(get("/", first)));
  assert.equal(await kind(verifier.verify(get("/", second))), "unknown-key");
  assert.equal(fetched, 1, "invented numbers fetch nothing within the interval");
  [now, listed] = [now + 6000, { 1: key, 2: next }];
  assert.ok((await verifier.verify(get("/", second))) && (await verifier.verify(get("/", first))));
  [now, listed] = [now + 61_000, { 2: next }];
  await verifier.verify(get("/", second));
  await source.refresh();
  assert.equal(await kind(verifier.verify(get("/", first))), "revoked");
});

test("without keys nothing is verified, and the last good document serves for a while", async () => {
  let [now, answer] = [0, () => new Response("[]")];
  const source = new KeyDocument("http://gateway.example", { fetch: async () => answer(), clock: () => now });
  const verifier = new Verifier(source, { resource: "orders" });
  const ask = () => verifier.verify(get("/", mint(key, "orders")));
  const good = () => new Response(JSON.stringify([{ algorithm: "ed25519", key_id: 1, key_bytes: key.publicKey.slice(8) }]));
  for (const body of ["[]", "{", "[1]", '[{"algorithm":"secp256r1","key_id":1,"key_bytes":"02"}]', "x".repeat(100_000)]) {
    [now, answer] = [now + 6000, () => new Response(body)];
    assert.ok(await kind(ask()), body.slice(0, 40));
  }
  [now, answer] = [now + 6000, () => new Response("", { status: 500 })];
  assert.equal(await kind(ask()), "keys-unavailable");
  [now, answer] = [now + 6000, good];
  assert.ok(await ask());
  for (const broken of [() => new Response("", { status: 500 }), () => new Response("[]"), () => Promise.reject(new TypeError("no route"))]) {
    [now, answer] = [now + 100_000, broken];
    assert.ok(await ask());
    await source.refresh();
  }
  now += 1_000_000;
  assert.ok(["keys-unavailable", "bad-key-document"].includes(await kind(ask())));
});

test("each request carries its own narrowed token, and only to its resource", async () => {
  const seen = new Map();
  const fetch = async (request) => (seen.set(request.url, request.headers.get("authorization")), new Response("ok"));
  const token = mint(key, "orders");
  const ask = withCapability({ token, resource: "http://gateway.example/orders", fetch });
  for (const url of ["/orders/1?a=b", "/orders/2", "/orders2", "/elsewhere"]) await ask(`http://gateway.example${url}`, { method: "PUT" });
  await ask("http://other.example/orders/1");
  const [first, second, ...none] = seen.values();
  assert.deepEqual(none, [null, null, null]);
  assert.notEqual(first, second);
  const verifier = Verifier.ofKeys(key.publicKey, { resource: "orders" });
  const put = (target, authorization) => verifier.verify({ method: "PUT", target, headers: { authorization } });
  assert.ok(await put("/1?a=b", first));
  for (const [target, value] of [["/1", first], ["/2", first], ["/1?a=b", second]]) assert.equal(await kind(put(target, value)), "not-permitted");
  const once = narrow(token, { method: "GET", path: "/x", seconds: 1 });
  assert.equal(await kind(verifier.verify(get("/x", once, { now: Date.now() / 1000 + 10 }))), "expired");
});

test("a problem is read from a response", async () => {
  const body = JSON.stringify({ type: "revoked", title: "t", status: 401, detail: "d", retry: "no" });
  const problem = await problemIn(new Response(body, { status: 401, headers: { "content-type": "application/problem+json" } }));
  assert.deepEqual([problem.type, problem.status, problem.retry], ["revoked", 401, "no"]);
  assert.equal(await problemIn(new Response(body)), undefined);
});
