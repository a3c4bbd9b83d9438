// A body that has to be read before the message is allowed, and is then read once more by the service.

import type { IncomingMessage } from "node:http";

import { bodyBroken, bodyTooLarge } from "./refusal.js";

/** Reads a body whole, within a bound, and puts it back into the stream for whoever reads next. */
export async function readBody(request: IncomingMessage, max: number): Promise<Buffer> {
  const declared = Number(request.headers["content-length"] ?? 0);
  const parts: Buffer[] = [];
  let length = 0;
  if (declared <= max) {
    // `readable` and not `data` or a loop: those would end the stream, and nothing could be put back into it.
    await new Promise<void>((resolve, reject) => {
      const take = (): void => {
        for (let part = request.read() as Buffer | null; part; part = request.read() as Buffer | null) {
          parts.push(part);
          length += part.length;
        }
        if (length > max || request.complete) finish();
      };
      const fail = (): void => finish(bodyBroken());
      const finish = (error?: Error): void => {
        request.off("readable", take).off("error", fail).off("aborted", fail);
        // At once: a tick later the stream would have said that it is over.
        if (!error && length > 0 && length <= max) request.unshift(Buffer.concat(parts));
        if (error) reject(error);
        else resolve();
      };
      request.on("readable", take).on("error", fail).on("aborted", fail);
      take();
    });
  }
  if (declared > max || length > max) throw bodyTooLarge(max);
  return Buffer.concat(parts);
}
