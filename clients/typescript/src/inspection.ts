// What a token says, as `inspect` and `lint` give it.

/** What a token says. */
export interface Inspection {
  /** The number of the key that it says it was signed with. */
  root_key_id: number | null;
  /** Whether it cannot be narrowed any further. */
  sealed: boolean;
  signature: SignatureState;
  content: Content;
  /** Its blocks, the authority first. */
  blocks: Block[];
}

/** Whether a token's signatures hold. */
export type SignatureState =
  | { state: "not-checked" }
  | { state: "verified"; key: string }
  | { state: "refused"; problem: string; reason: string };

/** What a gateway makes of a token's content. */
export type Content =
  | { state: "admitted"; rights: Array<{ resource: string; operation: string }>; expires_at?: number; price: number; prices: { once: number; each: number }; dates: number }
  | { state: "not-admitted"; [detail: string]: unknown };

/** What one block says. */
export interface Block {
  block: number;
  revocation_id?: string;
  third_party?: string;
  note?: string;
  trusting?: string;
  facts: string[];
  checks: Array<{ check: number; text: string; expires_at?: number }>;
}

/** Something that a token's author should know. */
export interface Finding {
  severity: "useless" | "suspicious";
  block?: number;
  check?: number;
  message: string;
}
