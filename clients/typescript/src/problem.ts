// Refusals as RFC 9457 problems, as the gateway writes them.

import { PosternError, VerifyError } from "./errors.js";

/** What a gateway or a backend says when it refuses. */
export interface Problem {
  /** The stable word. */
  type: string;
  title: string;
  status: number;
  /** What happened this time, and what to do. */
  detail: string;
  /** Whether repeating the same message is safe; absent where nobody says. */
  retry?: "safe" | "unknown" | "no";
}

export const MEDIA_TYPE = "application/problem+json";

/** The answer to what was thrown. What is not the caller's fault is a 503. */
export function problemOf(error: unknown): Problem {
  if (error instanceof VerifyError) return error.problem;
  const type = error instanceof PosternError ? error.kind : "unavailable";
  const detail = error instanceof PosternError ? error.message : "The message cannot be verified now. Try again later.";
  return { type, title: "The message cannot be verified", status: 503, detail };
}

/** The fields of that answer. */
export function problemFields(error: unknown): Record<string, string> {
  const fields: Record<string, string> = { "content-type": MEDIA_TYPE, "cache-control": "no-store" };
  if (!(error instanceof VerifyError)) fields["retry-after"] = "1";
  else if (error.challenge !== undefined) fields["www-authenticate"] = error.challenge;
  return fields;
}

/** Reads a problem from a response, whose body is consumed only then; `undefined` where it is none. */
export async function problemIn(response: Response): Promise<Problem | undefined> {
  const mediaType = (response.headers.get("content-type") ?? "").split(";")[0]!.trim().toLowerCase();
  if (mediaType !== MEDIA_TYPE) return undefined;
  const document: unknown = await response.json().catch(() => undefined);
  if (typeof document !== "object" || document === null) return undefined;
  const { type, title, status, detail, retry } = document as Record<string, unknown>;
  if (typeof type !== "string") return undefined;
  return {
    type,
    title: String(title ?? ""),
    status: typeof status === "number" ? status : response.status,
    detail: String(detail ?? ""),
    ...(retry === "safe" || retry === "unknown" || retry === "no" ? { retry } : {}),
  };
}
