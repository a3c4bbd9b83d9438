// Where public keys come from: given once, or fetched from a gateway's key document and kept fresh.

import { PosternError } from "./errors.js";

/** Where a gateway publishes its keys. */
export const KEY_DOCUMENT_PATH = "/.well-known/biscuit-web-keys";

/** A document of four keys has some 500 bytes. */
const DOCUMENT_BYTES_MAX = 64 * 1024;

export interface KeyDocumentOptions {
  /** How long a document is believed before it is fetched again, while the old one still serves. */
  maxAgeSeconds?: number;
  /** How long it serves when it cannot be fetched: a backend that cannot learn that a key was retired must not go on. */
  staleMaxSeconds?: number;
  /** How often a token under an unknown key number may make it look again. */
  minIntervalSeconds?: number;
  /** How long one fetch may take. */
  timeoutSeconds?: number;
  /** Throws where a document cannot be used; the verifier brings the compiled reader. */
  check?: (document: string) => void;
  /** Another `fetch`, for certificates of your own authority. */
  fetch?: typeof globalThis.fetch;
  /** Milliseconds that only go forward. */
  clock?: () => number;
}

/** The key document of a gateway, fetched when it is first needed and kept fresh. */
export class KeyDocument {
  readonly #url: string;
  readonly #options: Required<KeyDocumentOptions>;
  #text: string | undefined;
  #failure: unknown;
  #fetchedAt = -Infinity;
  #triedAt = -Infinity;
  #fetching: Promise<void> | undefined;

  /** `gateway`: its URL, or the document's own. */
  constructor(gateway: string | URL, options: KeyDocumentOptions = {}) {
    const url = URL.canParse(gateway) ? new URL(gateway) : undefined;
    if (!url || !["http:", "https:"].includes(url.protocol))
      throw new PosternError("invalid-url", `${String(gateway)} is not the URL of a gateway; write http://… or https://…`);
    if (url.pathname === "/") url.pathname = KEY_DOCUMENT_PATH;
    this.#url = url.href;
    const told = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
    this.#options = {
      maxAgeSeconds: 60,
      staleMaxSeconds: 600,
      minIntervalSeconds: 5,
      timeoutSeconds: 5,
      check: () => {},
      fetch: globalThis.fetch,
      clock: () => performance.now(),
      ...told,
    };
  }

  /** The document as it is now. Waits only where there is none that may still be believed. */
  async text(): Promise<string> {
    if (this.#isUsable()) {
      if (this.#age() > this.#options.maxAgeSeconds && this.mayLookAgain()) void this.#fetchOnce();
    } else if (this.#fetching || this.#failure === undefined || this.mayLookAgain()) await this.#fetchOnce();
    // Who has just failed is not asked again at once.
    if (!this.#isUsable()) throw this.#failure;
    return this.#text!;
  }

  /** Whether enough time has passed since the last look. */
  mayLookAgain(): boolean {
    return this.#options.clock() - this.#triedAt > this.#options.minIntervalSeconds * 1000;
  }

  /** Looks again now. */
  async refresh(): Promise<void> {
    if (this.#fetching || this.mayLookAgain()) await this.#fetchOnce();
  }

  /** Used by the verifier, whose compiled reader knows what a document is. */
  checkedBy(check: (document: string) => void): void {
    this.#options.check = check;
  }

  #isUsable(): boolean {
    return this.#text !== undefined && this.#age() <= this.#options.staleMaxSeconds;
  }

  #age(): number {
    return (this.#options.clock() - this.#fetchedAt) / 1000;
  }

  /** Fetches. What cannot be fetched or used leaves the earlier document as it was, and its reason behind. */
  #fetchOnce(): Promise<void> {
    this.#fetching ??= this.#fetch()
      .catch((error: unknown) => {
        this.#failure = error instanceof PosternError ? error : this.#unavailable(error);
      })
      .finally(() => (this.#fetching = undefined));
    return this.#fetching;
  }

  #unavailable(error: unknown): PosternError {
    const reason = error instanceof Error ? (error.cause instanceof Error ? error.cause.message : error.message) : String(error);
    const message = `the key document at ${this.#url} cannot be fetched: ${reason}. Nothing is verified without keys.`;
    return new PosternError("keys-unavailable", message, { cause: error });
  }

  async #fetch(): Promise<void> {
    this.#triedAt = this.#options.clock();
    const signal = AbortSignal.timeout(this.#options.timeoutSeconds * 1000);
    const { fetch } = this.#options;
    const response = await fetch(this.#url, { headers: { accept: "application/json" }, signal });
    if (!response.ok) throw new Error(`the answer is ${response.status}`);
    const text = await bounded(response);
    this.#options.check(text);
    this.#text = text;
    this.#fetchedAt = this.#options.clock();
    this.#failure = undefined;
  }
}

/** The text of a response, of which no more is read than a document may have. */
async function bounded(response: Response): Promise<string> {
  const reader = response.body?.getReader();
  const decoder = new TextDecoder();
  let [text, length] = ["", 0];
  for (let part = await reader?.read(); part?.value; part = await reader?.read()) {
    length += part.value.length;
    if (length > DOCUMENT_BYTES_MAX) {
      await reader?.cancel();
      throw new Error(`it has more than ${DOCUMENT_BYTES_MAX} bytes`);
    }
    text += decoder.decode(part.value, { stream: true });
  }
  return text + decoder.decode();
}
