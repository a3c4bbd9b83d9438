/**
 * Capabilities for Node: verify, mint, attenuate and inspect Postern tokens.
 *
 * What decides is the same compiled code that the gateway runs. `postern/express` and `postern/fastify` are middleware around
 * it; `postern/fetch` lets a client carry a capability and narrow it to each request. In pages, which hold and narrow but do
 * not verify, the package is `postern/browser`.
 */

import { call, native } from "./addon.js";
import { flags, type Caveats } from "./caveats.js";
import { PosternError } from "./errors.js";
import type { Finding, Inspection } from "./inspection.js";
import { NUMBER_MAX, known, whole } from "./options.js";

export { PosternError, VerifyError } from "./errors.js";
export { KeyDocument, KEY_DOCUMENT_PATH, type KeyDocumentOptions } from "./keys.js";
export { problemIn, type FailedCaveat, type Problem } from "./problem.js";
export { problemOf, problemFields, type Log } from "./refusal.js";
export { Verifier, type Capability, type HeaderFields, type NumberedKey, type Received, type VerifierOptions } from "./verifier.js";
export type { Caveats } from "./caveats.js";
export type { Block, Content, Finding, Inspection, SignatureState } from "./inspection.js";

/** A root key: whoever has it can mint. It does not show in logs, JSON or the inspector. */
export class SigningKey {
  readonly #secret: string;
  private constructor(secret: string) {
    this.#secret = secret;
  }
  /** A new key from the system's randomness. */
  static generate(): SigningKey {
    return new SigningKey(native.generateKey());
  }
  /** Reads `ed25519-private/<hex>`: what `postern init` writes to `root.key`. */
  static fromText(text: string): SigningKey {
    call(() => native.publicKeyOf(text));
    return new SigningKey(text.trim());
  }
  /** The public half, `ed25519/<hex>`. */
  get publicKey(): string {
    return call(() => native.publicKeyOf(this.#secret));
  }
  /** The secret itself: write it to a file that only you can read. */
  toSecretText(): string {
    return this.#secret;
  }
}

/** What to mint. */
export interface Mint {
  /** The methods that are allowed; left out: all. */
  allow?: string | readonly string[];
  /** The number of the key, where it is not the first. */
  keyId?: number;
}

/** Mints a capability: a right to each resource, under caveats. */
export function mint(key: SigningKey, resources: string | readonly string[], options: Mint = {}, caveats: Caveats = {}): string {
  known(options, { allow: true, keyId: true });
  whole("keyId", options.keyId, NUMBER_MAX);
  const operations = "allow" in options ? [options.allow ?? []].flat() : ["*"];
  // Absence is every method; what is named and empty is a mistake, not every method.
  if (operations.length === 0) throw new PosternError("invalid-method", "allow: name at least one method, or leave it out for all of them");
  const rights = [resources].flat().flatMap((resource) => operations.map((operation) => ({ resource, operation })));
  return call(() => native.mint(key.toSecretText(), options.keyId ?? 1, rights, flags(caveats)));
}

/** Narrows a token. No key and no network is needed. */
export function attenuate(token: string, caveats: Caveats): string {
  return call(() => native.attenuate(token, flags(caveats)));
}

/** Narrows a token to one request: this method, path below the resource and query string, for `seconds`. */
export function narrow(token: string, request: { method: string; path: string; query?: string; seconds?: number }): string {
  const { method, path, query = "", seconds = 60 } = request;
  whole("seconds", seconds, NUMBER_MAX);
  return call(() => native.narrow(token, method, path, query, seconds));
}

/** Closes a token: nobody can narrow it any further. */
export function seal(token: string): string {
  return call(() => native.seal(token));
}

/** What a token says. With a key: whether its signatures hold as well. */
export function inspect(token: string, options: { key?: string; keyId?: number } = {}): Inspection {
  return JSON.parse(call(() => native.inspect(token, options.key, options.keyId ?? 1))) as Inspection;
}

/** What in a token can never pass or is not admitted. */
export function lint(token: string): Finding[] {
  return JSON.parse(call(() => native.lint(token))) as Finding[];
}
