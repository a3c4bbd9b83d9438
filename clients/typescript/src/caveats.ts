// Caveats as programs write them, and the command line's flags that they stand for. Node hands the flags to the addon, which
// makes the checks; a page makes them itself (browser/checks.ts), from the same flags.

import { PosternError } from "./errors.js";

/** Restrictions on a token. All that are named must hold; where one has several values, any of them will do. */
export interface Caveats {
  /** Until then: a time span such as `"10m"`, or a point in time. */
  expires?: string | Date;
  /** From then on. */
  notBefore?: string | Date;
  /** Only these methods. */
  method?: string | string[];
  /** Only these paths below the resource; `/v1/**` is that path and all below it. */
  path?: string | string[];
  /** These query parameters, with exactly these values. */
  query?: Record<string, string>;
  /** Only on this host name. */
  host?: string;
  /** Only from these networks, such as `10.0.0.0/8`. */
  client?: string | string[];
  /** Only with the client certificate of this SHA-256. */
  clientCert?: string;
  /** No switch to another protocol. */
  noUpgrade?: boolean;
  /** A body of at most so many bytes, or a size such as `"1MiB"`. */
  maxBody?: number | string;
  /** Only these JSON-RPC methods. */
  rpc?: string | string[];
  /** Only these MCP tools, and the protocol's own housekeeping. */
  tool?: string | string[];
  /** These arguments, with exactly these values; nested ones by JSON Pointer. */
  arg?: Record<string, string | number | boolean>;
  /** Only these gRPC methods, `package.Service/Method`, or all of a service. */
  grpc?: string | string[];
  /** Checks in biscuit's own language. */
  check?: string | string[];
}

/** One flag of the command line, with its values. */
export interface Flag {
  flag: string;
  values: string[];
}

const list = (value: string | string[]): string[] => (Array.isArray(value) ? value : [value]);

// Without a fraction of a second, as the token's own dates; the stricter reading on either side.
const moment = (value: string | Date, up = false): string => {
  if (typeof value === "string") return value;
  const seconds = (up ? Math.ceil : Math.floor)(value.getTime() / 1000);
  return new Date(seconds * 1000).toISOString().replace(".000Z", "Z");
};

const argument = (value: string | number | boolean): string => {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "number" && !Number.isSafeInteger(value))
    throw new PosternError("invalid-caveat", `arg: ${value} is not a whole number that JavaScript holds exactly`);
  return String(value);
};

const readers: { [K in keyof Required<Caveats>]: (value: NonNullable<Caveats[K]>) => Flag | undefined } = {
  expires: (value) => ({ flag: "expires", values: [moment(value)] }),
  notBefore: (value) => ({ flag: "not-before", values: [moment(value, true)] }),
  method: (value) => ({ flag: "method", values: list(value) }),
  path: (value) => ({ flag: "path", values: list(value) }),
  query: (value) => ({ flag: "query", values: Object.entries(value).map(([name, wanted]) => `${name}=${wanted}`) }),
  host: (value) => ({ flag: "host", values: [value] }),
  client: (value) => ({ flag: "client", values: list(value) }),
  clientCert: (value) => ({ flag: "client-cert", values: [value] }),
  noUpgrade: (value) => (value ? { flag: "no-upgrade", values: [""] } : undefined),
  maxBody: (value) => ({ flag: "max-body", values: [String(value)] }),
  rpc: (value) => ({ flag: "rpc", values: list(value) }),
  tool: (value) => ({ flag: "tool", values: list(value) }),
  arg: (value) => ({ flag: "arg", values: Object.entries(value).map(([name, wanted]) => `${name}=${argument(wanted)}`) }),
  grpc: (value) => ({ flag: "grpc", values: list(value) }),
  check: (value) => ({ flag: "check", values: list(value) }),
};

/** The flags of these caveats. An unknown name is an error, never skipped: it would be a restriction that is not there. */
export function flags(caveats: Caveats): Flag[] {
  return Object.entries(caveats).flatMap(([name, value]) => {
    const read = readers[name as keyof Caveats] as ((value: unknown) => Flag | undefined) | undefined;
    if (!Object.hasOwn(readers, name) || !read)
      throw new PosternError("invalid-caveat", `there is no caveat ${JSON.stringify(name)}; there are ${Object.keys(readers).join(", ")}`);
    const flag = value === undefined || value === null ? undefined : read(value);
    return flag ? [flag] : [];
  });
}
