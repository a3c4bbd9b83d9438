// What users write, for a strict reader of types: `tsc --strict`. It is read and not run.
import express from "express";
import Fastify from "fastify";
import { KeyDocument, PosternError, SigningKey, Verifier, VerifyError, attenuate, inspect, lint, mint, narrow, seal } from "postern";
import type { Capability, Caveats, Problem, Received } from "postern";
import { Holder } from "postern/browser";
import { capabilities } from "postern/express";
import { capabilities as plugin } from "postern/fastify";
import { problemIn, withCapability } from "postern/fetch";

const key = SigningKey.generate();
const caveats: Caveats = { expires: new Date(), path: ["/42", "/43/**"], query: { page: "2" }, maxBody: 4096 };
const token: string = mint(key, ["orders", "stock"], { allow: "GET" }, caveats);
const once: string = narrow(seal(attenuate(token, { noUpgrade: true })), { method: "GET", path: "/42" });
const verifier = Verifier.ofGateway(new URL("http://gateway:7400"), { resource: "orders", leewaySeconds: 5, maxAgeSeconds: 5 });
const fixed = new Verifier({ 1: key.publicKey }, { resource: "orders", believed: ["10.0.0.0/8"], authorization: "pass" });
const numbered = new Verifier([{ id: 1, key: key.publicKey, isRetired: false }], { resource: "orders" });
const fetched = new Verifier(new KeyDocument("http://gateway:7400"), { resource: "orders" });

const app = express();
app.use(capabilities(verifier, { exempt: ["/health"], log: () => {} }));
app.get("/orders/:number", (request, response) => {
  const holder: Capability | undefined = request.capability;
  response.json({ number: request.params.number, by: holder?.shortId });
});

const fastify = Fastify();
await fastify.register(plugin, { verifier });
fastify.get("/orders/:number", async (request) => request.capability?.rights.map(([resource]) => resource));

const received: Received = { method: "GET", target: "/42", headers: new Headers(), peer: undefined };
try {
  const capability: Capability = await fixed.verify(received);
  const ids: readonly string[] = capability.revocationIds;
  await numbered.check(token, { resource: "orders", ids, now: await fetched.needsBody(received) });
} catch (error) {
  if (error instanceof VerifyError) console.log(error.kind, error.status, error.problem.detail, error.challenge);
  else if (error instanceof PosternError) console.log(error.kind);
}

const ask: typeof globalThis.fetch = withCapability({ token, resource: "http://gateway:7400/orders" });
const problem: Problem | undefined = await problemIn(await ask("http://gateway:7400/orders/42"));
const holder = await Holder.ofGateway("http://gateway:7400");
console.log(once, problem?.retry, holder.attenuate(token, caveats), inspect(token).blocks.length, lint(token).length);

// @ts-expect-error: there is no such caveat
attenuate(token, { role: "admin" });
// @ts-expect-error: a resource is needed
Verifier.ofKeys(key.publicKey, {});
// @ts-expect-error: there is no such use of the field
new Verifier([key.publicKey], { resource: "orders", authorization: "yes" });
// @ts-expect-error: a message has a target
verifier.verify({ method: "GET", headers: {} });
// @ts-expect-error: nobody gets a token out of a capability
console.log((await verifier.verify(received)).token);
