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

type Reader = (flag: string, value: unknown) => Flag | undefined;

const ABSENT = "or leave the caveat out where it shall not restrict";

/** How an error repeats a value. */
const shown = (value: unknown): string => {
  if (Array.isArray(value)) return `[${value.map(shown).join(", ")}]`;
  if (typeof value === "string") return JSON.stringify(value);
  return typeof value === "object" && value !== null ? "an object" : typeof value === "function" ? "a function" : String(value);
};

function refuse(flag: string, value: unknown, advice: string): never {
  throw new PosternError("invalid-caveat", `${flag} ${shown(value)}: ${advice}`);
}

/** An object as it is written down, and neither a list, a map nor a promise: what is in those would be overlooked. */
const isPlain = (value: unknown): value is Record<string, unknown> => {
  if (typeof value !== "object" || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
};

const text: Reader = (flag, value) =>
  typeof value === "string" ? { flag, values: [value] } : refuse(flag, value, `write a text, ${ABSENT}`);

const texts: Reader = (flag, value) => {
  if (!Array.isArray(value)) return typeof value === "string" ? { flag, values: [value] } : refuse(flag, value, `write a text or a list of texts, ${ABSENT}`);
  // Array.from, since a hole in a list is no element for `every`.
  const values = Array.from(value as unknown[]);
  if (values.length === 0) refuse(flag, value, `an empty list restricts nothing: name at least one value, ${ABSENT}`);
  return values.every((one) => typeof one === "string") ? { flag, values } : refuse(flag, value, "a list holds texts alone");
};

// Without a fraction of a second, as the token's own dates; the stricter reading on either side.
const moment = (round: (seconds: number) => number): Reader => (flag, value) => {
  if (!(value instanceof Date)) return text(flag, value);
  const at = new Date(round(value.getTime() / 1000) * 1000);
  if (Number.isNaN(at.getTime())) refuse(flag, value, "this date is none");
  return { flag, values: [at.toISOString().replace(".000Z", "Z")] };
};

const truth: Reader = (flag, value) =>
  typeof value === "boolean" ? (value ? { flag, values: [""] } : undefined) : refuse(flag, value, "write true or false, the boolean and not a text or a number");

const size: Reader = (flag, value) => {
  if (typeof value === "string") return { flag, values: [value] };
  const isSize = typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
  return isSize ? { flag, values: [String(value)] } : refuse(flag, value, `write a number of bytes or a size such as "1MiB", ${ABSENT}`);
};

const record = (written: (flag: string, value: unknown) => string): Reader => (flag, value) => {
  const entries = isPlain(value) ? Object.entries(value) : [];
  if (entries.length === 0) refuse(flag, value, `name at least one, as in { name: value }, ${ABSENT}`);
  return { flag, values: entries.map(([name, wanted]) => {
    if (name === "" || name.includes("=")) refuse(flag, name, "a name is not empty and has no `=` in it");
    return `${name}=${written(flag, wanted)}`;
  }) };
};

const parameter = (flag: string, value: unknown): string => (typeof value === "string" ? value : refuse(flag, value, "write the parameter's value as a text"));

const argument = (flag: string, value: unknown): string => {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "boolean" || (typeof value === "number" && Number.isSafeInteger(value))) return String(value);
  return refuse(flag, value, "write a text, a boolean, or a whole number that JavaScript holds exactly");
};

/** Every caveat with its flag and what reads its value: the one place that does, for Node and for pages. */
const READERS: { [K in keyof Required<Caveats>]: [flag: string, read: Reader] } = {
  expires: ["expires", moment(Math.floor)],
  notBefore: ["not-before", moment(Math.ceil)],
  method: ["method", texts],
  path: ["path", texts],
  query: ["query", record(parameter)],
  host: ["host", text],
  client: ["client", texts],
  clientCert: ["client-cert", text],
  noUpgrade: ["no-upgrade", truth],
  maxBody: ["max-body", size],
  rpc: ["rpc", texts],
  tool: ["tool", texts],
  arg: ["arg", record(argument)],
  grpc: ["grpc", texts],
  check: ["check", texts],
};

/**
 * The flags of these caveats. An unknown name is an error, never skipped: it would be a restriction that is not there. So is a
 * name whose value says nothing (`undefined`, `null`, an empty list): the token would be wider than its maker believes.
 */
export function flags(caveats: Caveats): Flag[] {
  if (!isPlain(caveats)) throw new PosternError("invalid-caveat", `caveats are an object such as { expires: "10m" }, and not ${shown(caveats)}`);
  return Object.entries(caveats).flatMap(([name, value]) => {
    if (!Object.hasOwn(READERS, name))
      throw new PosternError("invalid-caveat", `there is no caveat ${JSON.stringify(name)}; there are ${Object.keys(READERS).join(", ")}`);
    const [flag, read] = READERS[name as keyof Caveats];
    return read(flag, value) ?? [];
  });
}
