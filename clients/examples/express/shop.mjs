// A shop window. It holds no capability of its own: what it asks of the stock, it asks by its caller's, of which it hands on
// no more than reading that one item. Whoever may not see the stock does not see it through the shop either.
//
//     GATEWAY=http://127.0.0.1:7400 PORT=7404 node shop.mjs
import express from "express";
import { PosternError, Verifier, attenuate } from "postern";
import { capabilities } from "postern/express";
import { problemIn, withCapability } from "postern/fetch";

const { GATEWAY, PORT } = process.env;
const stock = `${GATEWAY}/stock`;
const prices = { pear: 2, quince: 4 };

const app = express();
app.use(capabilities(Verifier.ofGateway(GATEWAY, { resource: "shop" })));

app.get("/items/:item", async (request, response) => {
  const { item } = request.params;
  if (!Object.hasOwn(prices, item)) return response.status(404).json({ detail: "no such item" });
  // The gateway hands on the caller's token as it is (`forward_token = "original"`), because this service is a holder itself.
  const token = request.get("authorization")?.slice("Bearer ".length) ?? request.get("postern-capability");
  response.json({ item, price: prices[item], ...(await askStock(item, token)) });
});

async function askStock(item, callers) {
  try {
    const token = attenuate(callers, { check: 'check if resource("stock")', method: "GET", expires: "10s" });
    const fetch = withCapability({ token, resource: stock });
    const answer = await fetch(`${stock}/items/${item}`);
    if (answer.ok) return await answer.json();
    return { why: (await problemIn(answer))?.type ?? `the stock answers ${answer.status}` };
  } catch (error) {
    // A sealed token, say, of which nothing less can be handed on.
    if (error instanceof PosternError) return { why: error.kind };
    throw error;
  }
}

app.listen(Number(PORT), "127.0.0.1");
