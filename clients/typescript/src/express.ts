/**
 * Middleware for Express, and for everything that takes `(request, response, next)`.
 *
 *     app.use(capabilities(verifier));
 *
 * The verified capability is in `response.locals.capability` (Express) and in `request.capability`.
 */

import type { IncomingMessage, ServerResponse } from "node:http";

import { readBody } from "./body.js";
import { known, paths } from "./options.js";
import { problemFields, problemOf, rerouted, type Log } from "./refusal.js";
import type { Capability, Verifier } from "./verifier.js";

declare global {
  // Where the types of Express themselves put what middleware adds.
  namespace Express {
    interface Request {
      /** What the message was verified for; absent on exempt paths. */
      capability?: Capability;
    }
  }
}

export interface MiddlewareOptions {
  /** Paths that need no capability, such as a health check. */
  exempt?: readonly string[];
  /** Bytes of a body that is read because a caveat asks what it says. Every other body streams on untouched. */
  bodyBytesMax?: number;
  /** Is told why messages cannot be verified at all, which no caller is. Default: `console.error`. */
  log?: Log;
}

type Request = IncomingMessage & { originalUrl?: string; baseUrl?: string; capability?: Capability };
type Response = ServerResponse & { locals?: Record<string, unknown> };

/** Lets a message through only with a capability that allows this very message. Put it before parsers of bodies. */
export function capabilities(verifier: Verifier, options: MiddlewareOptions = {}) {
  known(options, { exempt: true, bodyBytesMax: true, log: true });
  const { bodyBytesMax = 1 << 20, log = console.error } = options;
  const exempt = paths(options.exempt);
  return async (request: Request, response: Response, next: (error?: unknown) => void): Promise<void> => {
    try {
      const target = routed(request);
      if (exempt.includes(target.split("?")[0]!)) return next();
      const { method = "GET", rawHeaders: headers } = request;
      const body = (await verifier.needsBody({ method, target, headers })) ? await readBody(request, bodyBytesMax) : undefined;
      const capability = await verifier.verify({
        method,
        target,
        headers,
        ...(body ? { body } : {}),
        peer: request.socket.remoteAddress,
        scheme: "encrypted" in request.socket ? "https" : "http",
        isHttp2: request.httpVersionMajor >= 2,
      });
      request.capability = capability;
      if (response.locals) response.locals["capability"] = capability;
    } catch (error) {
      const problem = problemOf(error, log);
      response.writeHead(problem.status, problemFields(error)).end(JSON.stringify(problem));
      return;
    }
    next();
  };
}

/**
 * The target that came, where it is the one that the application routes on. Behind a mount point Express cuts `url`, and says in
 * `baseUrl` what it cut; whoever else changes `url` has the application act upon another path than the one that was asked for.
 */
function routed({ url = "/", originalUrl = url, baseUrl = "" }: Request): string {
  // Of `/orders?a` below `/orders` Express makes `/?a`.
  const cut = baseUrl !== "" && /^\/(\?|$)/.test(url) ? url.slice(1) : url;
  if (originalUrl !== baseUrl + url && originalUrl !== baseUrl + cut) throw rerouted();
  return originalUrl;
}
