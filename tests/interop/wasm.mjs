// Does to a token what a browser would: `node --experimental-wasm-modules wasm.mjs MODULE`, one JSON request on stdin,
// one JSON answer on stdout. Only npm's @biscuit-auth/biscuit-wasm is used, nothing of Postern.
import { readFileSync } from "node:fs";

const { Biscuit, PublicKey, BlockBuilder, SignatureAlgorithm } = await import(process.argv[2]);
const ask = JSON.parse(readFileSync(0, "utf8"));
const token = Biscuit.fromBase64(ask.token, PublicKey.fromString(ask.publicKey.replace("ed25519/", ""), SignatureAlgorithm.Ed25519));

const block = (source) => {
  const builder = new BlockBuilder();
  builder.addCode(source);
  return builder;
};

const actions = {
  inspect: () => ({
    blocks: Array.from({ length: token.countBlocks() }, (_, i) => token.getBlockSource(i)),
    revocationIds: token.getRevocationIdentifiers().map((id) =>
      typeof id === "string" ? id : Buffer.from(id).toString("hex")),
  }),
  attenuate: () => ({ token: token.appendBlock(block(ask.source)).toBase64() }),
};
process.stdout.write(JSON.stringify(actions[ask.action]()));
