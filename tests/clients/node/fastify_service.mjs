// A Fastify service that verifies for itself: `node fastify_service.mjs PORT KEYS [http2]`, where KEYS is a gateway's URL or a key.
import Fastify from "fastify";
import { Verifier } from "postern";
import { capabilities } from "postern/fastify";

const [port, keys, protocol] = process.argv.slice(2);
const fresh = { maxAgeSeconds: 0.2, minIntervalSeconds: 0 };
const verifier = keys.startsWith("http") ? Verifier.ofGateway(keys, { resource: "orders", ...fresh }) : Verifier.ofKeys(keys, { resource: "orders" });
const app = Fastify({ bodyLimit: 4 << 20, logger: { level: "error" }, http2: protocol === "http2" });
await app.register(capabilities, { verifier, exempt: ["/health"] });
app.removeAllContentTypeParsers();
app.addContentTypeParser("*", { parseAs: "string" }, (_, body, done) => done(null, body));
app.get("/health", async () => JSON.stringify("well"));
app.all("/*", async (request) => {
  const { shortId, isSealed } = request.capability;
  const token = (request.headers.authorization ?? "").replace("Bearer ", "");
  return { path: request.url.split("?")[0].slice(1), body: request.body ?? "", short_id: shortId, is_sealed: isSealed, token };
});
await app.listen({ port: Number(port), host: "127.0.0.1" });
