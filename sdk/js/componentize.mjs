// Makes a component: `node sdk/componentize.mjs ENTRY OUT`. `rhost frontend build` runs it.
import { componentize } from '@bytecodealliance/componentize-js';
import { writeFile } from 'node:fs/promises';

const [entry, out] = process.argv.slice(2);
try {
  const { component } = await componentize({
    sourcePath: entry,
    witPath: 'sdk/wit',
    worldName: 'frontend',
    // What a frontend has not: it would have to be imported.
    disableFeatures: ['stdio', 'random', 'clocks', 'http', 'fetch-event'],
  });
  await writeFile(out, component);
} catch (error) {
  console.error(error?.message ?? String(error));
  process.exit(1);
}
