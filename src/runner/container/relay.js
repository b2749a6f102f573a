// Listens at the first places and connects each caller to the last: unix:PATH or tcp:HOST:PORT.
const fs = require('fs'), net = require('net');
const place = text => {
  if (text.startsWith('unix:')) return { path: text.slice(5) };
  const at = text.lastIndexOf(':');
  return { host: text.slice(4, at), port: Number(text.slice(at + 1)) };
};
const places = process.argv.slice(2).map(place), to = places.pop();
// One after the other: when the last one is there, all are.
const open = () => {
  const at = places.shift();
  if (!at) return;
  if (at.path) fs.rmSync(at.path, { force: true });
  const server = net.createServer({ allowHalfOpen: true }, near => {
    const far = net.connect({ ...to, allowHalfOpen: true });
    const end = () => { near.destroy(); far.destroy(); };
    near.on('error', end).pipe(far).on('error', end).pipe(near);
  });
  server.on('error', error => { console.error(String(error)); process.exit(1); });
  server.listen(at, () => {
    if (at.path) fs.chmodSync(at.path, 0o666);
    open();
  });
};
open();
// The job is over when its directory is gone.
const kept = process.env.RELAY_WHILE;
if (kept) setInterval(() => fs.existsSync(kept) || process.exit(0), 30000);
process.on('SIGHUP', () => {});
