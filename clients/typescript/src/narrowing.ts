// Which requests get the token, and how far it is narrowed for each: the same in Node and in pages.

import { PosternError } from "./errors.js";

/** A token for the requests to one resource. */
export interface CarriedOptions {
  token: string;
  /** The URL at which the resource is mounted. The token is sent nowhere else. */
  resource: string | URL;
  /** Each request carries the token narrowed to its method, path and query string. A sealed token cannot be. Default: true. */
  narrow?: boolean;
  /** How long a narrowed token lives. */
  seconds?: number;
  /** The field that carries it. */
  field?: "authorization" | "postern-capability";
  /** Another `fetch`. */
  fetch?: typeof globalThis.fetch;
}

export type Narrow = (
  token: string,
  request: { method: string; path: string; query: string; seconds: number },
) => string | Promise<string>;

/** A `fetch` that carries a capability to one resource, and to nothing else. */
export function carrying(options: CarriedOptions, narrow: Narrow): typeof globalThis.fetch {
  const { token, field = "authorization", seconds = 60, fetch = globalThis.fetch } = options;
  if (typeof token !== "string" || token === "") throw new PosternError("missing-capability", "there is no token to carry");
  const base = URL.canParse(options.resource) ? new URL(options.resource) : undefined;
  if (!base || !["http:", "https:"].includes(base.protocol) || base.search || base.hash)
    throw new PosternError("invalid-url", `${String(options.resource)} is not where a resource is mounted; write a URL such as http://gateway:7400/orders`);
  const mount = base.pathname.replace(/\/+$/, "");

  return async (input, init) => {
    const asked = new Request(input, init);
    // Only `authorization` is taken off by `fetch` itself when a redirect leads to another origin.
    const mayFollow = field === "authorization" || asked.redirect !== "follow";
    const request = mayFollow ? asked : new Request(asked, { redirect: "error" });
    const url = new URL(request.url);
    const isOurs = url.origin === base.origin && (url.pathname === mount || url.pathname.startsWith(`${mount}/`));
    if (!isOurs) return fetch(asked);
    const path = url.pathname.slice(mount.length) || "/";
    const presented =
      options.narrow === false ? token : await narrow(token, { method: request.method, path, query: url.search.slice(1), seconds });
    request.headers.set(field, field === "authorization" ? `Bearer ${presented}` : presented);
    return fetch(request);
  };
}
