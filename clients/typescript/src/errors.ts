// What is thrown. `kind` is the stable word for programs; the message is for people.

import type { Problem } from "./problem.js";

/** Something was not done. */
export class PosternError extends Error {
  override name = "PosternError";
  constructor(
    /** The stable word, the same as a gateway's problem `type` where there is one. */
    readonly kind: string,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** A message is not authorised. */
export class VerifyError extends PosternError {
  override name = "VerifyError";
  constructor(
    message: string,
    /** What a gateway would answer with. */
    readonly problem: Problem,
    /** The challenge that goes with it. */
    readonly challenge?: string,
  ) {
    super(problem.type, message);
  }
  /** The HTTP status to answer with. */
  get status(): number {
    return this.problem.status;
  }
}
