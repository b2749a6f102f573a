// Drives Chromium for the tests: one JSON command a line in, one JSON answer a line out.
import { createInterface } from "node:readline";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
const require = createRequire(process.cwd() + "/");
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const [, , base, shots, executablePath] = process.argv;
mkdirSync(shots, { recursive: true });

const browser = await chromium.launch({
  executablePath,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"],
});
let context, page, faults = [];
const patience = 20_000;

const commands = {
  async open({ width = 1280, height = 800, dark = false, js = true, touch = false }) {
    await context?.close();
    context = await browser.newContext({
      viewport: { width, height }, colorScheme: dark ? "dark" : "light", javaScriptEnabled: js, baseURL: base, hasTouch: touch,
      reducedMotion: "reduce", timezoneId: "UTC", locale: "en-GB",
    });
    page = await context.newPage();
    page.setDefaultTimeout(patience);
    page.on("console", (message) => { if (message.type() === "error") faults.push(`console: ${message.text()}`); });
    page.on("pageerror", (error) => faults.push(`script: ${error.message}`));
    page.on("dialog", (dialog) => { faults.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
    page.on("request", (request) => { if (!request.url().startsWith(base)) faults.push(`asked elsewhere: ${request.url()}`); });
  },
  async goto({ path }) {
    const answer = await page.goto(path, { waitUntil: "load" });
    return { status: answer.status() };
  },
  click: ({ on, text }) => (text ? page.locator(on).filter({ hasText: text }) : page.locator(on)).first().click(),
  check: ({ on }) => page.locator(on).first().check(),
  fill: ({ on, with: value }) => page.locator(on).first().fill(value),
  select: ({ on, with: value }) => page.locator(on).first().selectOption(value),
  press: ({ key }) => page.keyboard.press(key),
  wheel: ({ by }) => page.mouse.wheel(0, by),
  wait: ({ on, text }) => (text ? page.locator(on).filter({ hasText: text }) : page.locator(on)).first().waitFor({ state: "attached" }),
  gone: ({ on }) => page.locator(on).first().waitFor({ state: "detached" }),
  text: ({ on }) => page.locator(on).first().innerText(),
  count: ({ on }) => page.locator(on).count(),
  visible: ({ on }) => page.locator(on).first().isVisible(),
  eval: ({ js }) => page.evaluate(js),
  url: () => page.url(),
  shot: ({ name, full = false }) => page.screenshot({ path: `${shots}/${name}.png`, fullPage: full, animations: "disabled" }),
  offline: ({ is }) => context.setOffline(is),
  async axe() {
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
    return violations.flatMap((one) => one.nodes.map((node) => `${one.id} (${one.impact}): ${node.target.join(" ")}: ${node.failureSummary.split("\n").slice(1, 2).join("").trim()}`));
  },
  faults() { const found = faults; faults = []; return found; },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, ...rest } = JSON.parse(line);
  let answer;
  try {
    const value = await commands[name](rest);
    answer = { ok: Buffer.isBuffer(value) ? null : value ?? null };
  } catch (error) {
    const seen = await page?.evaluate(() => document.querySelector("main")?.innerText.slice(0, 400)).catch(() => "");
    answer = { error: `${name} ${JSON.stringify(rest)}: ${error.message}\nat ${page?.url()}: ${seen}` };
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
await browser.close();
