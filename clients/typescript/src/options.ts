// Options of programs that have no types: a name that is not known is an error, never skipped, and so is a number that would
// become another one on its way into compiled code.

import { PosternError } from "./errors.js";

/** Refuses every member that is none of these. */
export function known(options: object, names: Readonly<Record<string, true>>): void {
  for (const name of Object.keys(options))
    if (!Object.hasOwn(names, name))
      throw new PosternError("invalid-option", `there is no option ${JSON.stringify(name)}; there are ${Object.keys(names).join(", ")}`);
}

/** Refuses what is no whole number from 0 to `most`. */
export function whole(name: string, value: number | undefined, most: number): void {
  if (value !== undefined && !(Number.isInteger(value) && value >= 0 && value <= most))
    throw new PosternError("invalid-option", `${name} is a whole number from 0 to ${most}, and not ${String(value)}`);
}

/** Reads the paths that need no capability. In a text that is taken for a list of them, every part of it would be exempt. */
export function paths(exempt: readonly string[] | undefined): readonly string[] {
  if (exempt === undefined) return [];
  if (!Array.isArray(exempt) || !exempt.every((path) => typeof path === "string" && path.startsWith("/")))
    throw new PosternError("invalid-option", `exempt is a list of paths, such as ["/health"], and not ${JSON.stringify(exempt)}`);
  return [...(exempt as readonly string[])];
}

/** The most that compiled code takes, where nothing else bounds a number. */
export const NUMBER_MAX = 2 ** 32 - 1;
