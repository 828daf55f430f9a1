/** One page, everything in it, nothing inline: the policy of the orchestrator allows no inline script or style. */
import { defineConfig } from 'vite';

const config = defineConfig({
  build: {
    outDir: 'dist/page',
    emptyOutDir: true,
    target: 'es2022',
    modulePreload: false,
    assetsInlineLimit: 0,
    reportCompressedSize: false,
  },
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
});

export default config;
