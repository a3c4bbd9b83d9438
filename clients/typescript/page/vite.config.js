// The page, built with Vite: `npx vite build page`. The library's WebAssembly is a module that imports another, which browsers
// do not load by themselves yet: the plugin instantiates it, with the top-level await of modern output. The library also says
// that none of its modules has side effects, which is not so: one of them hands the instance on.
import { defineConfig } from "vite";
import wasm from "vite-plugin-wasm";

const handsOn = {
  name: "the-library-has-side-effects",
  transform: (code, id) => (id.endsWith("/biscuit-wasm/module/biscuit.js") ? { code, moduleSideEffects: true } : null),
};

export default defineConfig({
  base: "./",
  plugins: [wasm(), handsOn],
  build: {
    target: "esnext",
    outDir: "../dist/page",
    emptyOutDir: true,
  },
});
