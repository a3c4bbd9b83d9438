// What is verified is what the application routes on, in Express and in Fastify; what is exempt; and where a capability goes when a
// service redirects.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";

import express from "express";
import Fastify from "fastify";
import { SigningKey, Verifier, mint } from "postern";
import { capabilities as forExpress } from "postern/express";
import { capabilities as forFastify } from "postern/fastify";
import { withCapability } from "postern/fetch";

const key = SigningKey.generate();
const verifier = Verifier.ofKeys(key.publicKey, { resource: "orders" });
const headers = { authorization: `Bearer ${mint(key, "orders", {}, { path: ["/public/**", "/orders", "/orders/**"] })}` };

/** Serves on a port of the system's choice while `use` runs. */
async function serving(listener, use) {
  const server = createServer(listener);
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  try {
    await use(`http://127.0.0.1:${server.address().port}`);
  } finally {
    server.close();
    server.closeAllConnections();
  }
}

const said = async (answer) => [answer.status, answer.ok ? await answer.text() : (await answer.json()).type];

test("Express: a path that was rewritten before the check is refused, one below a mount is not", async () => {
  const app = express();
  app.use((request, _, next) => {
    if (request.headers["x-moved"]) request.url = request.headers["x-moved"];
    next();
  });
  app.use("/orders", forExpress(verifier), (request, response) => response.send(request.originalUrl));
  app.use(forExpress(verifier), (request, response) => response.send(request.path));
  await serving(app, async (url) => {
    for (const path of ["/orders", "/orders/", "/orders?a=b", "/orders/1?a=b", "/public/x?y"])
      assert.equal((await fetch(url + path, { headers })).status, 200, path);
    for (const moved of ["/admin", "/public/y", "/orders/1", "/"])
      assert.deepEqual(await said(await fetch(`${url}/public/x`, { headers: { ...headers, "x-moved": moved } })), [400, "bad-path"], moved);
  });
});

test("Fastify: a path that `rewriteUrl` made is refused", async () => {
  const app = Fastify({ rewriteUrl: ({ url, headers }) => headers["x-moved"] ?? url });
  await app.register(forFastify, { verifier, exempt: ["/health"] });
  app.get("/*", async (request) => request.url);
  const ask = async (url, more = {}) => {
    const { statusCode, body } = await app.inject({ url, headers: { ...headers, ...more } });
    return [statusCode, statusCode === 200 ? body : JSON.parse(body).type];
  };
  assert.deepEqual(await ask("/public/x"), [200, "/public/x"]);
  for (const url of ["/public/x", "/health"]) assert.deepEqual(await ask(url, { "x-moved": "/admin" }), [400, "bad-path"]);
  await app.close();
});

test("Fastify: what is refused stays refused where another plugin delays the answer", async () => {
  const app = Fastify({ logger: false });
  let handled = 0;
  app.addHook("onSend", async (_, __, payload) => new Promise((resolve) => setTimeout(() => resolve(payload), 20)));
  await app.register(forFastify, { verifier, bodyBytesMax: 10 });
  app.post("/*", async () => (handled++, "done"));
  // Its second alternative would let the message through without its body.
  const token = mint(key, "orders", {}, { check: 'check if rpc("ping") or path("/x")' });
  const call = { jsonrpc: "2.0", id: 1, method: "tools/call", params: {} };
  const answer = await app.inject({ method: "POST", url: "/x", headers: { authorization: `Bearer ${token}` }, payload: call });
  assert.deepEqual([answer.statusCode, handled], [413, 0]);
  await app.close();
});

test("exempt is a list of paths, and not one text of which every part is exempt", async () => {
  for (const exempt of ["/health", ["health"], [7], {}]) {
    assert.throws(() => forExpress(verifier, { exempt }), { kind: "invalid-option", message: /\["\/health"\]/ });
    await assert.rejects(async () => await Fastify().register(forFastify, { verifier, exempt }), { kind: "invalid-option" });
  }
  assert.throws(() => forExpress(verifier, { exempts: ["/health"] }), { kind: "invalid-option" });
});

test("a capability does not follow a redirect to another origin", async () => {
  const seen = [];
  const keep = (request, response) => (seen.push(request.headers), response.end("here"));
  await serving(keep, async (elsewhere) => {
    const lead = (_, response) => response.writeHead(302, { location: elsewhere }).end();
    await serving(lead, async (home) => {
      const ask = (field, narrow) => withCapability({ token: mint(key, "orders"), resource: `${home}/orders`, field, narrow })(`${home}/orders/1`);
      for (const narrow of [true, false]) {
        assert.equal(await (await ask("authorization", narrow)).text(), "here");
        await assert.rejects(ask("postern-capability", narrow), TypeError);
      }
    });
  });
  assert.equal(seen.length, 2);
  for (const fields of seen) assert.deepEqual([fields.authorization, fields["postern-capability"]], [undefined, undefined]);
});
