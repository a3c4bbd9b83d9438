// How a service in Node answers what it does not act upon. The words are the compiled code's, the same in every language.

import { native } from "./addon.js";
import { VerifyError } from "./errors.js";
import { MEDIA_TYPE, type Problem } from "./problem.js";

/** Is told what no caller is. */
export type Log = (error: unknown) => void;

/** The answer to what was thrown. What is not the caller's fault is a 503, whose reason is for the log and not for the caller. */
export function problemOf(error: unknown, log?: Log): Problem {
  if (error instanceof VerifyError) return error.problem;
  log?.(error);
  return read(native.keysUnavailable());
}

/** The fields of that answer. */
export function problemFields(error: unknown): Record<string, string> {
  const fields: Record<string, string> = { "content-type": MEDIA_TYPE, "cache-control": "no-store" };
  if (!(error instanceof VerifyError)) fields["retry-after"] = "1";
  else if (error.challenge !== undefined) fields["www-authenticate"] = error.challenge;
  return fields;
}

/** More came than is read of a body that a caveat asks about. */
export function bodyTooLarge(max: number): VerifyError {
  return refusal(native.bodyTooLarge(max));
}

/** The other side left before its body was complete. */
export function bodyBroken(): VerifyError {
  return refusal(native.bodyBroken());
}

/** The application is given another path than the one that was asked for. */
export function rerouted(): VerifyError {
  return refusal(native.rerouted());
}

function refusal(document: string): VerifyError {
  const problem = read(document);
  return new VerifyError(problem.detail, problem);
}

function read(document: string): Problem {
  return JSON.parse(document) as Problem;
}
