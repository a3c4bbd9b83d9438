/**
 * A plugin for Fastify.
 *
 *     await app.register(capabilities, { verifier });
 *
 * The verified capability is in `request.capability`.
 */

import { Readable } from "node:stream";

import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";

import { paths } from "./options.js";
import { bodyTooLarge, problemFields, problemOf, rerouted, type Log } from "./refusal.js";
import type { Capability, Verifier } from "./verifier.js";

declare module "fastify" {
  interface FastifyRequest {
    /** What the message was verified for; `null` before, and on exempt paths. */
    capability: Capability | null;
  }
}

export interface PluginOptions {
  verifier: Verifier;
  /** Paths that need no capability, such as a health check. */
  exempt?: readonly string[];
  /** Bytes of a body that is read because a caveat asks what it says. Every other body goes on untouched. */
  bodyBytesMax?: number;
  /** Is told why messages cannot be verified at all, which no caller is. Default: the log of Fastify. */
  log?: Log;
}

/** Lets a message through only with a capability that allows this very message. */
export async function capabilities(app: FastifyInstance, options: PluginOptions): Promise<void> {
  const { verifier, bodyBytesMax = 1 << 20, log = app.log.error.bind(app.log) } = options;
  const exempt = paths(options.exempt);
  const refused = new WeakSet<FastifyRequest>();
  app.decorateRequest("capability", null);

  const verify = async (request: FastifyRequest, body?: Uint8Array): Promise<void> => {
    request.capability = await verifier.verify({
      method: request.method,
      target: request.originalUrl,
      headers: request.raw.rawHeaders,
      ...(body ? { body } : {}),
      peer: request.raw.socket.remoteAddress,
      scheme: "encrypted" in request.raw.socket ? "https" : "http",
      isHttp2: request.raw.httpVersionMajor >= 2,
    });
  };
  const isExempt = (request: FastifyRequest): boolean => exempt.includes(request.originalUrl.split("?")[0]!);
  const refuse = (request: FastifyRequest, reply: FastifyReply, error: unknown): FastifyReply => {
    const problem = problemOf(error, log);
    refused.add(request);
    // As bytes: to a text Fastify would add a character set, which this media type does not have.
    return reply.code(problem.status).headers(problemFields(error)).send(Buffer.from(JSON.stringify(problem)));
  };

  // Before the body is read, so that what needs no body is refused without one.
  app.addHook("onRequest", async (request, reply) => {
    try {
      // `rewriteUrl` has the application act upon another path than the one that was asked for.
      if (request.originalUrl !== request.url) throw rerouted();
      if (isExempt(request)) return;
      const { method, originalUrl: target, raw } = request;
      if (!(await verifier.needsBody({ method, target, headers: raw.rawHeaders }))) return await verify(request);
    } catch (error) {
      return refuse(request, reply, error);
    }
  });
  app.addHook("preParsing", async (request, reply, payload) => {
    if (isExempt(request) || request.capability) return payload;
    try {
      const body = await collect(payload as Readable, bodyBytesMax);
      await verify(request, body);
      const again = Readable.from(body.length > 0 ? [body] : []);
      return Object.assign(again, { receivedEncodedLength: body.length });
    } catch (error) {
      // Until it is sent: where another plugin delays it, parsing what is left of the body would give an answer of its own.
      await refuse(request, reply, error);
      return payload;
    }
  });
  // Fastify skips `preParsing` where it expects no body; nothing may reach a handler unverified.
  app.addHook("preHandler", async (request, reply) => {
    if (isExempt(request) || request.capability) return;
    // Where another plugin delays an answer, it is on its way and not yet sent.
    if (refused.has(request)) return reply;
    try {
      await verify(request);
    } catch (error) {
      return refuse(request, reply, error);
    }
  });
}

// Without it a plugin's hooks would hold for its own routes only.
Object.assign(capabilities, { [Symbol.for("skip-override")]: true, [Symbol.for("fastify.display-name")]: "postern" });

async function collect(payload: Readable, max: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of payload as AsyncIterable<Buffer>) {
    length += part.length;
    if (length > max) throw bodyTooLarge(max);
    parts.push(part);
  }
  return Buffer.concat(parts);
}

export default capabilities;
