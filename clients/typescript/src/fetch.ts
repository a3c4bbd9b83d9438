/**
 * A `fetch` that carries a capability, narrowed to each request before it leaves.
 *
 *     const fetch = withCapability({ token, resource: "http://gateway:7400/orders" });
 *     const order = await fetch("http://gateway:7400/orders/42");
 */

import { narrow } from "./index.js";
import { carrying, type CarriedOptions } from "./narrowing.js";

export type { CarriedOptions } from "./narrowing.js";
export { problemIn, type FailedCaveat, type Problem } from "./problem.js";

/** Carries a capability to one resource. */
export function withCapability(options: CarriedOptions): typeof globalThis.fetch {
  return carrying(options, narrow);
}
