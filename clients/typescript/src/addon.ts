// The addon, and its errors made into ours.

import { createRequire } from "node:module";

import { PosternError, VerifyError } from "./errors.js";
import type { Problem } from "./problem.js";
import type * as Addon from "../native/index.cjs";

/** The compiled half: `npm run build` makes it, and the package that is packed on a machine holds that machine's. */
export const native: typeof Addon = createRequire(import.meta.url)("../native/index.cjs");

export type NativeCapability = InstanceType<typeof Addon.Capability>;

/** Calls the addon. It describes errors as JSON, since an addon's error has room for a text alone. */
export function call<T>(ask: () => T): T {
  try {
    return ask();
  } catch (error) {
    throw described(error);
  }
}

function described(error: unknown): unknown {
  if (!(error instanceof Error) || !error.message.startsWith("{")) return error;
  const { kind, message, problem, challenge } = JSON.parse(error.message) as Described;
  return problem ? new VerifyError(message, problem, challenge ?? undefined) : new PosternError(kind, message);
}

interface Described {
  kind: string;
  message: string;
  problem?: Problem;
  challenge?: string | null;
}
