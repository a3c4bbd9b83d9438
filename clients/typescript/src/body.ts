// A body that has to be read before the message is allowed, and is then read once more by the service.

import type { IncomingMessage } from "node:http";

import { VerifyError } from "./errors.js";

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
      const fail = (): void => finish(broken());
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
  if (declared > max || length > max) throw tooLarge(max);
  return Buffer.concat(parts);
}

/** More than is read of a body that a caveat asks about. */
export function tooLarge(max: number): VerifyError {
  const detail = `A caveat asks what the body says, and at most ${max} bytes of it are read.`;
  return new VerifyError(detail, { type: "body-too-large", title: "The body is too large", status: 413, detail, retry: "no" });
}

function broken(): VerifyError {
  const detail = "The body broke off before its end.";
  return new VerifyError(detail, { type: "malformed-request", title: "The request is not strict HTTP", status: 400, detail, retry: "no" });
}
