// An Express service that verifies for itself: `node express_service.mjs PORT KEYS`, where KEYS is a gateway's URL or a key.
import express from "express";
import { Verifier } from "postern";
import { capabilities } from "postern/express";

const [port, keys] = process.argv.slice(2);
const fresh = { maxAgeSeconds: 0.2, minIntervalSeconds: 0 };
const verifier = keys.startsWith("http") ? Verifier.ofGateway(keys, { resource: "orders", ...fresh }) : Verifier.ofKeys(keys, { resource: "orders" });
const app = express();
app.get("/health", (_, response) => response.json("well"));
app.use(capabilities(verifier));
app.use(express.text({ type: () => true, limit: "4mb" }));
app.all("/{*rest}", (request, response) => {
  const { shortId, isSealed } = request.capability;
  const token = (request.headers.authorization ?? "").replace("Bearer ", "");
  response.json({ path: request.path.slice(1), body: typeof request.body === "string" ? request.body : "", short_id: shortId, is_sealed: isSealed, token });
});
app.listen(Number(port), "127.0.0.1");
