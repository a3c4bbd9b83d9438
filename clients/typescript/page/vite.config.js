// The page, built with Vite: `npx vite build page`.
import { defineConfig } from "vite";
import { postern } from "postern/vite";

export default defineConfig({
  base: "./",
  plugins: [postern()],
  build: { outDir: "../dist/page", emptyOutDir: true },
});
