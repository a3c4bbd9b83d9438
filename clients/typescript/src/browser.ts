/**
 * Capabilities in a page: hold, narrow, inspect, present. A page does not verify for others and does not mint.
 *
 * The same calls as in Node, on `@biscuit-auth/biscuit-wasm`, which reads a token only under the public key that it was
 * signed with: a page fetches those from the gateway's key document first (`Holder.ofGateway`), or is given one.
 */

import { Biscuit, BlockBuilder, PublicKey, SignatureAlgorithm } from "@biscuit-auth/biscuit-wasm";

import { flags, type Caveats } from "./caveats.js";
import { checks, exactly, type Check } from "./checks.js";
import { PosternError } from "./errors.js";
import { KeyDocument, type KeyDocumentOptions } from "./keys.js";
import { carrying, type CarriedOptions } from "./narrowing.js";

export { PosternError } from "./errors.js";
export { problemIn, type FailedCaveat, type Problem } from "./problem.js";
export type { Caveats } from "./caveats.js";
export type { CarriedOptions } from "./narrowing.js";

/** What a token says, as far as a page shows it. */
export interface BlockText {
  /** Biscuit's own printing of the block: for people, never to be parsed or decided by. */
  text: string;
  revocationId: string;
}

/** Narrows and inspects tokens of one gateway. */
export class Holder {
  readonly #keys: PublicKey[];

  /** From public keys as text, `ed25519/<hex>`. */
  constructor(keys: string | readonly string[]) {
    this.#keys = [keys].flat().map((key) => {
      const [algorithm, hex] = key.trim().split("/");
      if (algorithm !== "ed25519" || !hex)
        throw new PosternError("invalid-key", `${JSON.stringify(key)} is not a public key; write ed25519/ and 64 hexadecimal digits`);
      return attempt("invalid-key", () => PublicKey.fromString(hex, SignatureAlgorithm.Ed25519));
    });
    if (this.#keys.length === 0) throw new PosternError("invalid-key", "at least one public key is needed");
  }

  /** With the keys that the gateway publishes. */
  static async ofGateway(url: string | URL, options: KeyDocumentOptions = {}): Promise<Holder> {
    const entries: unknown = JSON.parse(await new KeyDocument(url, options).text());
    if (!Array.isArray(entries)) throw new PosternError("invalid-key-document", "the key document is not a list of keys");
    const keys = (entries as Array<Record<string, unknown>>)
      // The statement key and keys of other purposes sign no tokens.
      .filter((entry) => String(entry["algorithm"]).toLowerCase() === "ed25519" && entry["purpose"] === undefined)
      .map((entry) => `ed25519/${String(entry["key_bytes"])}`);
    return new Holder(keys);
  }

  /** Narrows a token. No network is needed. */
  attenuate(token: string, caveats: Caveats): string {
    return this.#append(token, checks(flags(caveats)));
  }

  /** Narrows a token to one request: this method, path below the resource and query string, for `seconds`. */
  narrow(token: string, request: { method: string; path: string; query?: string; seconds?: number }): string {
    const { method, path, query = "", seconds = 60 } = request;
    return this.#append(token, exactly(method, path, query, new Date(Date.now() + seconds * 1000)));
  }

  /** Closes a token: nobody can narrow it any further. */
  seal(token: string): string {
    return text(attempt("sealed-token", () => this.#read(token).sealToken()));
  }

  /** What a token says, block by block. */
  inspect(token: string): BlockText[] {
    const read = this.#read(token);
    const ids = read.getRevocationIdentifiers() as Array<string | Uint8Array>;
    return ids.map((id, block) => ({ text: read.getBlockSource(block), revocationId: hex(id) }));
  }

  /** A `fetch` that carries a capability to one resource, narrowed to each request before it leaves. */
  withCapability(options: CarriedOptions): typeof globalThis.fetch {
    return carrying({ ...options, fetch: options.fetch ?? globalThis.fetch.bind(globalThis) }, (token, request) =>
      this.narrow(token, request),
    );
  }

  #append(token: string, appended: Check[]): string {
    if (appended.length === 0) throw new PosternError("not-attenuated", "name at least one caveat, otherwise the token stays what it is");
    const block = new BlockBuilder();
    for (const { code, values } of appended)
      attempt("invalid-caveat", () => block.addCodeWithParameters(`${code};`, values, {}));
    return text(attempt("sealed-token", () => this.#read(token).appendBlock(block)));
  }

  #read(token: string): Biscuit {
    const bare = token.trim().replace(/^biscuit:/, "").replace(/=+$/, "");
    const padded = bare + "=".repeat((4 - (bare.length % 4)) % 4);
    for (const key of this.#keys) {
      try {
        return Biscuit.fromBase64(padded, key);
      } catch {
        // Another key may have signed it.
      }
    }
    throw new PosternError("invalid-token", "the token is not valid under any key that this gateway publishes");
  }
}

function text(token: Biscuit): string {
  return token.toBase64().replace(/=+$/, "");
}

function hex(id: string | Uint8Array): string {
  return typeof id === "string" ? id : Array.from(id, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Calls the library, whose errors are plain objects. */
function attempt<T>(kind: string, ask: () => T): T {
  try {
    return ask();
  } catch (error) {
    if (error instanceof Error) throw error;
    throw new PosternError(kind, `the library refuses: ${JSON.stringify(error)}`);
  }
}
