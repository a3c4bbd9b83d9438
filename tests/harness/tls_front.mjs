// The TLS of a service that speaks nothing but one protocol: it ends handshakes that do not offer it, by the alert of RFC 7301.
//
//     node tls_front.mjs PORT PORT_BEHIND CERT KEY PROTOCOL
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { createServer } from 'node:tls';

const [port, behind, cert, key, protocol] = process.argv.slice(2);
const settings = { ALPNProtocols: [protocol], cert: readFileSync(cert), key: readFileSync(key) };

createServer(settings, (secure) => {
  const clear = connect(Number(behind), '127.0.0.1');
  secure.on('error', () => clear.destroy());
  clear.on('error', () => secure.destroy());
  secure.pipe(clear).pipe(secure);
}).listen(Number(port), '127.0.0.1');
