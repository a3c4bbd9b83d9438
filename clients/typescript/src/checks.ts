// From flags to checks, for pages: the table of the command line's documentation, value by value through parameters, so that
// no value can break out of its place. A test compares each with what the compiled code makes of the same flag.

import type { Flag } from "./caveats.js";
import { PosternError } from "./errors.js";

/** A check in biscuit's language, with the values of its parameters. */
export interface Check {
  code: string;
  values: Record<string, unknown>;
}

const HOUSEKEEPING = ["initialize", "server/discover", "notifications/initialized", "notifications/cancelled", "ping", "tools/list", ""];
const UNITS: Record<string, number> = { w: 604_800, d: 86_400, h: 3600, m: 60, s: 1 };
const SIZES: Record<string, number> = {
  "": 1, B: 1, kB: 1e3, KB: 1e3, MB: 1e6, GB: 1e9, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30,
};

/** The checks of one block. */
export function checks(flags: readonly Flag[]): Check[] {
  const besideTool = flags.some(({ flag }) => flag === "tool");
  return flags.flatMap(({ flag, values }) => (values.length === 0 ? [] : made(flag, values, besideTool)));
}

/** The checks of a token that is narrowed to one request. */
export function exactly(method: string, path: string, query: string, until: Date): Check[] {
  const built = new Builder();
  return [
    built.check("if", [`operation(${built.value(method)})`]),
    new Builder().one("path", path),
    new Builder().one("query_string", query),
    expiry("<=", seconds(until)),
  ];
}

/** Collects the values of one check as numbered parameters. */
class Builder {
  readonly values: Record<string, unknown> = {};
  #count = 0;
  value(value: unknown): string {
    const name = `p${this.#count++}`;
    this.values[name] = value;
    return `{${name}}`;
  }
  check(kind: "if" | "all", queries: string[]): Check {
    return { code: `check ${kind} ${queries.join(" or ")}`, values: this.values };
  }
  one(fact: string, value: string): Check {
    return this.check("if", [`${fact}(${this.value(value)})`]);
  }
  housekeeping(): string[] {
    return HOUSEKEEPING.map((method) => `rpc(${this.value(method)})`);
  }
}

function made(flag: string, values: string[], besideTool: boolean): Check[] {
  const built = new Builder();
  const any = (fact: string, listed = split(flag, values)): Check[] => [
    built.check("if", listed.map((value) => `${fact}(${built.value(value)})`)),
  ];
  switch (flag) {
    case "expires":
      return values.map((value) => expiry("<=", moment(flag, value, Math.floor)));
    case "not-before":
      return values.map((value) => expiry(">=", moment(flag, value, Math.ceil)));
    case "method":
      for (const method of split(flag, values)) if (!/^[A-Z][A-Z_-]*$/.test(method)) refuse(flag, method, "write a method in upper case");
      return any("operation");
    case "path":
      return [built.check("if", values.flatMap((value) => path(value, built)))];
    case "query":
      return values.map((value) => {
        const [name, wanted] = pair(flag, value);
        const one = new Builder();
        return one.check("all", [`query(${one.value(name)}, $value), $value === ${one.value(wanted)}`]);
      });
    case "host":
      for (const host of values) if (!/^([a-zA-Z0-9._-]+|\[[0-9a-fA-F:.]+\])$/.test(host)) refuse(flag, host, "write a host name without a port");
      return values.map((value) => new Builder().one("host", value.toLowerCase()));
    case "client-cert":
      return values.map((value) => {
        const digits = value.replaceAll(":", "").toLowerCase();
        if (!/^[0-9a-f]{64}$/.test(digits)) refuse(flag, value, "write the SHA-256 of the certificate: 64 hexadecimal digits");
        return new Builder().one("client_cert", digits);
      });
    case "no-upgrade":
      return [built.one("upgrade", "")];
    case "max-body":
      return values.map((value) => {
        const one = new Builder();
        return one.check("if", [`body_size($body_size), $body_size <= ${one.value(size(value))}`]);
      });
    case "rpc":
      return any("rpc");
    case "tool": {
      const calls = split(flag, values).map((tool) => `rpc(${built.value("tools/call")}), tool(${built.value(tool)})`);
      return [built.check("if", [...calls, ...built.housekeeping()])];
    }
    case "arg":
      return values.map((value) => argument(value, besideTool));
    case "grpc":
      return [
        built.check("if", split(flag, values).map((value) => {
          const [service, method, ...more] = value.split("/");
          if (!service || method === "" || more.length > 0) refuse(flag, value, "write package.Service/Method");
          return `grpc(${built.value(service)}, ${method === undefined ? "$method" : built.value(method)})`;
        })),
      ];
    case "check":
      return values.map((value) => ({ code: value.trim().replace(/;$/, ""), values: {} }));
    case "client":
      // Networks have one canonical form, which only the compiled code knows how to write.
      return refuse(flag, values.join(", "), "a page cannot narrow by network; do it where the token is minted");
    default:
      return refuse(flag, values.join(", "), "there is no such caveat");
  }
}

function refuse(flag: string, given: string, advice: string): never {
  throw new PosternError("invalid-caveat", `${flag} ${JSON.stringify(given)}: ${advice}`);
}

function split(flag: string, values: string[]): string[] {
  const listed = values.flatMap((value) => value.split(","));
  if (listed.includes("")) refuse(flag, values.join(","), "there is an empty entry in the list");
  return listed;
}

function pair(flag: string, value: string): [string, string] {
  const at = value.indexOf("=");
  if (at < 1) refuse(flag, value, "write it as name=value");
  return [value.slice(0, at), value.slice(at + 1)];
}

function expiry(comparison: "<=" | ">=", at: Date): Check {
  // The library takes no date as a parameter; this text is the clock's own and nobody else's.
  const literal = at.toISOString().replace(".000Z", "Z");
  return { code: `check if time($time), $time ${comparison} ${literal}`, values: {} };
}

function seconds(at: Date): Date {
  return new Date(Math.floor(at.getTime() / 1000) * 1000);
}

function moment(flag: string, text: string, round: (seconds: number) => number): Date {
  const span = /^(\d+w)?(\d+d)?(\d+h)?(\d+m)?(\d+s)?$/.exec(text);
  if (span && text !== "") {
    const total = span.slice(1).reduce((sum, part) => sum + (part ? Number(part.slice(0, -1)) * UNITS[part.slice(-1)]! : 0), 0);
    return new Date((Math.floor(Date.now() / 1000) + total) * 1000);
  }
  const at = Date.parse(text);
  if (!/^\d{4}-\d\d-\d\d[Tt ]/.test(text) || Number.isNaN(at) || at < 0)
    refuse(flag, text, "write a duration such as 90s, 10m, 12h, 7d or 1h30m, or a time such as 2030-01-31T12:00:00Z");
  return new Date(round(at / 1000) * 1000);
}

function size(text: string): number {
  const [, number, unit] = /^(\d+)(\D*)$/.exec(text) ?? [];
  const factor = unit === undefined ? undefined : SIZES[unit];
  if (number === undefined || factor === undefined || !Number.isSafeInteger(Number(number) * factor))
    refuse("max-body", text, "write a number of bytes, or a size such as 64KiB or 1MiB");
  return Number(number) * factor;
}

function argument(text: string, besideTool: boolean): Check {
  const [name, written] = pair("arg", text);
  const built = new Builder();
  const isInteger = /^[+-]?\d+$/.test(written) && Number.isSafeInteger(Number(written));
  const value: unknown =
    written === "true" || written === "false" ? written === "true"
    : written.startsWith('"') ? json(written)
    : isInteger ? Number(written)
    : written;
  const is = `arg(${built.value(name)}, $value), ${built.value({ set: [value] })}.contains($value)`;
  return built.check("all", besideTool ? [is, ...built.housekeeping()] : [is]);
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return refuse("arg", text, "a value that begins with a quote must be a JSON string");
  }
}

/** The queries of one path, or of a path and all below it. Only paths that are canonical as they stand are taken. */
function path(text: string, built: Builder): string[] {
  const isBelow = text.endsWith("/**");
  const bare = isBelow ? text.slice(0, -3) : text;
  const isCanonical = /^(\/[A-Za-z0-9\-._~!$&'()+,;=:@]*)*$/.test(bare) && !/\/\.{1,2}(;|\/|$)|\/\//.test(bare);
  if (!isCanonical || (!isBelow && bare === "") || (isBelow && bare.endsWith("/")))
    refuse("path", text, "write a path such as /v1/orders/42 or /v1/orders/**, without escapes, dot segments or empty segments");
  const queries = bare === "" ? [] : [`path(${built.value(bare)})`];
  if (isBelow) queries.push(`path($path), $path.starts_with(${built.value(`${bare}/`)})`);
  return queries;
}
