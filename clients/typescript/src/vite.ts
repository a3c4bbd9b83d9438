/**
 * What Vite needs to build pages with `postern/browser`.
 *
 *     export default defineConfig({ plugins: [postern()] });
 *
 * Without it a page builds, and does not run: `@biscuit-auth/biscuit-wasm` is WebAssembly that imports another module, which
 * browsers do not load by themselves yet (the plugin `vite-plugin-wasm` instantiates it, with the top-level await of modern
 * output); and it says that none of its modules has side effects, which is not so: one of them hands the instance on.
 */

import type { Plugin } from "vite";
import wasm from "vite-plugin-wasm";

/** The plugins, for `plugins` of Vite's configuration. */
export function postern(): Plugin[] {
  const handsOn: Plugin = {
    name: "postern:the-library-has-side-effects",
    config: () => ({ build: { target: "esnext" } }),
    transform: (code, id) => (id.endsWith("/biscuit-wasm/module/biscuit.js") ? { code, moduleSideEffects: true } : null),
  };
  // Its types describe another module than the one that Node loads.
  return [(wasm as unknown as () => Plugin)(), handsOn];
}

export default postern;
