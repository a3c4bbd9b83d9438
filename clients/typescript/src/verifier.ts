// The verifier that applications use: the compiled one, with its keys kept fresh.

import { readFileSync } from "node:fs";

import { call, native, type NativeCapability } from "./addon.js";
import { PosternError, VerifyError } from "./errors.js";
import { KeyDocument, type KeyDocumentOptions } from "./keys.js";
import { NUMBER_MAX, known, whole } from "./options.js";

/** More would keep expired tokens alive rather than forgive a clock. */
const LEEWAY_SECONDS_MAX = 300;

/** Fields of a message: Node's `rawHeaders`, an object, `Headers`, or pairs. */
export type HeaderFields =
  | readonly string[]
  | Iterable<readonly [string, string]>
  | Record<string, string | string[] | undefined>;

/** A message as it was received. */
export interface Received {
  method: string;
  /** Path and query as they came. */
  target: string;
  headers: HeaderFields;
  /** The body, where `needsBody` says so. */
  body?: Uint8Array;
  /** The address of the connection's other end, where no gateway says whose message it is. */
  peer?: string | undefined;
  /** How the connection came, where no gateway says it. */
  scheme?: "http" | "https";
  /** Whether it came over HTTP/2. */
  isHttp2?: boolean;
  /** Seconds since 1970; left out: the clock. */
  now?: number;
}

/** A verified capability, good for the message that it was verified for. */
export interface Capability {
  /** Pairs of resource and method. */
  readonly rights: ReadonlyArray<readonly [string, string]>;
  /** Eight characters that name the token in logs. */
  readonly shortId: string;
  /** What its blocks are revoked by, the authority first. */
  readonly revocationIds: readonly string[];
  /** The last second at which no expiry has passed. */
  readonly expiresAt: number | undefined;
  readonly isSealed: boolean;
  /** Whether it holds a right; its caveats are another question. */
  holds(resource: string, method: string): boolean;
}

/** A root key with the number that tokens name it by. */
export interface NumberedKey {
  id: number;
  key: string;
  /** Whether what it signed is refused. */
  isRetired: boolean;
}

export interface VerifierOptions {
  /** What the gateway calls this service: tokens that it narrowed for another one are refused. */
  resource: string;
  /** Forgives clocks that differ, at most 300: a token is honoured so much after its expiry. */
  leewaySeconds?: number;
  /** Revocation ids to refuse, for services that can be reached past their gateway. */
  revoked?: readonly string[];
  /** The prefix, where the gateway leaves it on the path (`keep_prefix`). */
  mount?: string;
  /**
   * Who says who the client is: `"statement"` (the default), the gateway's own statement in a token that it narrowed; the
   * `"connection"`; or the `X-Forwarded-*` of `"loopback"`, of `"anyone"` where nobody else reaches this service, or of networks.
   */
  believed?: "statement" | "connection" | "loopback" | "anyone" | readonly string[];
  /** The keys that sign statements, `ed25519/<hex>`, where no key document is fetched. */
  statementKeys?: readonly string[];
  /** `"pass"`: the field `Authorization` is the service's own, as at the gateway. */
  authorization?: "capability" | "pass";
  /** As at the gateway. */
  encodedSlash?: "refuse" | "pass";
  /** Most evaluation steps of one decision. */
  budget?: number;
}

/** All names of options: those of the key document go to `ofGateway` together with the verifier's own. */
const OPTIONS: { [Name in keyof Required<VerifierOptions & KeyDocumentOptions>]: true } = {
  resource: true, leewaySeconds: true, revoked: true, mount: true, believed: true, statementKeys: true, authorization: true, encodedSlash: true, budget: true,
  maxAgeSeconds: true, staleMaxSeconds: true, minIntervalSeconds: true, timeoutSeconds: true, check: true, fetch: true, clock: true,
};

/** Decides whether a message is authorised. Make one for each backend and share it: it remembers verified tokens. */
export class Verifier {
  readonly #inner: InstanceType<typeof native.Verifier>;
  readonly #source: KeyDocument | undefined;
  #text: string | undefined;

  constructor(keys: KeyDocument | readonly string[] | readonly NumberedKey[] | Readonly<Record<number, string>>, options: VerifierOptions) {
    known(options, OPTIONS);
    whole("leewaySeconds", options.leewaySeconds, LEEWAY_SECONDS_MAX);
    whole("budget", options.budget, NUMBER_MAX);
    const { resource, believed, statementKeys, leewaySeconds, mount, authorization, encodedSlash, budget } = options;
    const told = { believed: believed === undefined ? undefined : [believed].flat(), statementKeys, leewaySeconds, mount, authorization, encodedSlash, budget };
    this.#inner = call(() => new native.Verifier(resource, told as ConstructorParameters<typeof native.Verifier>[1]));
    if (keys instanceof KeyDocument) {
      keys.checkedBy((document) => call(() => native.checkKeyDocument(document)));
      this.#source = keys;
    } else if (Object.keys(keys).length === 0) {
      throw new PosternError("invalid-key", "at least one public key is needed; nothing is verified without keys");
    } else if (!Array.isArray(keys)) {
      const numbered = Object.entries(keys).map(([id, key]) => ({ id: Number(id), key: String(key), isRetired: false }));
      call(() => this.#inner.setKeys(numbered));
    } else if (typeof keys[0] === "string") {
      call(() => this.#inner.setUnnumberedKeys([...(keys as readonly string[])]));
    } else {
      call(() => this.#inner.setKeys([...(keys as readonly NumberedKey[])]));
    }
    this.revoke(options.revoked ?? []);
  }

  /** From public keys as text, `ed25519/<hex>`. Any of them may have signed. */
  static ofKeys(keys: string | readonly string[], options: VerifierOptions): Verifier {
    return new Verifier(typeof keys === "string" ? [keys] : keys, options);
  }

  /** From a file with one key a line, such as `root.pub`. */
  static ofFile(path: string | URL, options: VerifierOptions): Verifier {
    return new Verifier(readFileSync(path, "utf8").split(/\s+/).filter(Boolean), options);
  }

  /** From the gateway's key document, fetched when it is first needed and kept fresh. */
  static ofGateway(url: string | URL, options: VerifierOptions & KeyDocumentOptions): Verifier {
    return new Verifier(new KeyDocument(url, options), options);
  }

  /** Refuses every token that has one of these revocation ids (128 hexadecimal digits) from now on. */
  revoke(ids: readonly string[]): void {
    call(() => this.#inner.revoke([...ids]));
  }

  /** Whether the presented token's caveats ask what the body says: then `verify` must be given it. */
  async needsBody({ method, target, headers }: Pick<Received, "method" | "target" | "headers">): Promise<boolean> {
    await this.#refresh();
    return this.#inner.needsBody(method, target, flat(headers));
  }

  /** Verifies a token for a message whose every fact is stated, by the names of the test vectors. */
  async check(token: string, facts: Readonly<Record<string, unknown>> | string): Promise<Capability> {
    await this.#refresh();
    // As JSON text where numbers are larger than JavaScript's.
    return capability(call(() => this.#inner.check(token, typeof facts === "string" ? facts : JSON.stringify(facts))));
  }

  /**
   * Verifies the token in the message's fields for this very message.
   *
   * @throws VerifyError whose `kind` is the stable reason, and whose `status` is the HTTP status to answer with.
   */
  async verify(received: Received): Promise<Capability> {
    await this.#refresh();
    const known = this.#text;
    try {
      return this.#decide(received);
    } catch (error) {
      if (!this.#source || !(error instanceof VerifyError) || error.kind !== "unknown-key") throw error;
      // A key that was published meanwhile: fetched now if enough time has passed, or being fetched already.
      await this.#source.refresh();
      await this.#refresh();
      if (this.#text === known) throw error;
    }
    return this.#decide(received);
  }

  #decide(received: Received): Capability {
    const { headers, ...rest } = received;
    const message = { ...rest, headers: flat(headers) } as Parameters<InstanceType<typeof native.Verifier>["verify"]>[0];
    return capability(call(() => this.#inner.verify(message)));
  }

  async #refresh(): Promise<void> {
    if (!this.#source) return;
    const text = await this.#source.text();
    if (text === this.#text) return;
    call(() => this.#inner.setKeyDocument(text));
    this.#text = text;
  }
}

function capability(inner: NativeCapability): Capability {
  return {
    rights: inner.rights.map(({ resource, operation }) => [resource, operation] as const),
    shortId: inner.shortId,
    revocationIds: inner.revocationIds,
    expiresAt: inner.expiresAt ?? undefined,
    isSealed: inner.isSealed,
    holds: (resource, method) => inner.holds(resource, method),
  };
}

/** Name, value, name, value, …: what crosses the border to the addon at the least cost. */
function flat(headers: HeaderFields): string[] {
  if (Array.isArray(headers) && (headers.length === 0 || typeof headers[0] === "string")) return withHost([...(headers as string[])]);
  const pairs =
    Symbol.iterator in headers
      ? [...(headers as Iterable<readonly [string, string]>)]
      : Object.entries(headers as Record<string, string | string[] | undefined>).flatMap(([name, value]) =>
          value === undefined ? [] : [value].flat().map((one) => [name, one] as const),
        );
  return withHost(pairs.flatMap(([name, value]) => [name, value]));
}

/** Over HTTP/2 the host comes as `:authority`, where the field does not come as well. */
function withHost(fields: string[]): string[] {
  const at = fields.findIndex((name, index) => index % 2 === 0 && name === ":authority");
  const isAlone = at >= 0 && !fields.some((name, index) => index % 2 === 0 && name.toLowerCase() === "host");
  if (isAlone) fields[at] = "host";
  return fields;
}
