// The TLS of a service that speaks nothing but HTTP/2: it ends handshakes that do not offer it, by the alert of RFC 7301.
//
//     node h2_only.mjs PORT PORT_BEHIND CERT KEY
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { createServer } from 'node:tls';

const [port, behind, cert, key] = process.argv.slice(2);
const settings = { ALPNProtocols: ['h2'], cert: readFileSync(cert), key: readFileSync(key) };

createServer(settings, (secure) => {
  const clear = connect(Number(behind), '127.0.0.1');
  secure.on('error', () => clear.destroy());
  clear.on('error', () => secure.destroy());
  secure.pipe(clear).pipe(secure);
}).listen(Number(port), '127.0.0.1');
