// Makes vendor.js of entry.js, and LICENSES.txt of the licences of every package in it.
import { build } from "esbuild";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";

const { metafile } = await build({
  entryPoints: ["entry.js"],
  bundle: true,
  minify: true,
  format: "iife",
  globalName: "vendor",
  target: "es2022",
  legalComments: "none",
  define: { "process.env.NODE_ENV": '"production"' },
  outfile: "vendor.js",
  metafile: true,
});

const inOutput = Object.entries(metafile.outputs["vendor.js"].inputs).filter(([, { bytesInOutput }]) => bytesInOutput > 0);
const names = new Set(inOutput.map(([path]) => path.match(/.*node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1]).filter(Boolean));
const parts = [...names].sort().map((name) => {
  const folder = `node_modules/${name}`;
  const { version, license } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
  const file = readdirSync(folder).find((each) => /^(licen[cs]e|copying|unlicense)/i.test(each));
  if (file === undefined) throw new Error(`${name}: no licence file`);
  return `${name} ${version} (${license})\n\n${readFileSync(`${folder}/${file}`, "utf8").trim()}\n`;
});
writeFileSync("LICENSES.txt", parts.join(`\n${"-".repeat(78)}\n\n`));
