// Refusals as RFC 9457 problems, as the gateway writes them.

/** A caveat that stopped a message. */
export interface FailedCaveat {
  /** The block that carries it; 0 is the authority. */
  block: number;
  /** Its place in that block. */
  check: number;
  /** The caveat, printed. */
  caveat: string;
  /** What it allows and what the message asked for instead, where there are words for it. */
  words?: string;
}

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
  /** The caveats that stopped the message, where it is they that do. */
  caveats?: FailedCaveat[];
}

export const MEDIA_TYPE = "application/problem+json";

/** Reads a problem from a response, whose body is consumed only then; `undefined` where it is none. */
export async function problemIn(response: Response): Promise<Problem | undefined> {
  const mediaType = (response.headers.get("content-type") ?? "").split(";")[0]!.trim().toLowerCase();
  if (mediaType !== MEDIA_TYPE) return undefined;
  const document: unknown = await response.json().catch(() => undefined);
  if (typeof document !== "object" || document === null) return undefined;
  const { type, title, status, detail, retry, caveats } = document as Record<string, unknown>;
  if (typeof type !== "string") return undefined;
  return {
    type,
    title: String(title ?? ""),
    status: typeof status === "number" ? status : response.status,
    detail: String(detail ?? ""),
    ...(retry === "safe" || retry === "unknown" || retry === "no" ? { retry } : {}),
    ...(Array.isArray(caveats) ? { caveats: caveats.filter(isFailedCaveat) } : {}),
  };
}

function isFailedCaveat(said: unknown): said is FailedCaveat {
  if (typeof said !== "object" || said === null) return false;
  const { block, check, caveat, words } = said as Record<string, unknown>;
  return typeof block === "number" && typeof check === "number" && typeof caveat === "string" && (words === undefined || typeof words === "string");
}
