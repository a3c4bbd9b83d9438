//! The bounded driver: mutates a few good messages. No coverage guidance, no nightly toolchain, the same targets. A finding
//! prints the input that makes it, which becomes a test.

use super::TARGETS;

/// Good messages, to be spoiled.
const SEEDS: [&[u8]; 14] = [
    b"GET /orders/42?page=2 HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: Bearer x\r\nAccept: */*\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a:80\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
    b"PUT http://a/b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close, X-Gone\r\nX-Gone: 1\r\n\r\n",
    b"OPTIONS * HTTP/1.0\r\nHost: [::1]:80\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Sum\r\n\r\n",
    b"HTTP/1.0 304 Not Modified\r\nETag: \"a\"\r\n\r\n",
    b"\x015\r\nhello\r\n00A;name=\"value\"\r\n0123456789\r\n0\r\nSum: 1\r\n\r\n",
    b"\x08hello world",
    br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"search","arguments":{"table":"orders","filter":{"owner":7,"a/b":[true,"x"]},"/x":"y"}}}"#,
    br#"[{"jsonrpc":"2.0","id":"a","method":"resources/read","params":{"uri":"file:///a","n":-1}},{"jsonrpc":"2.0","method":"note"}]"#,
    br#"{"jsonrpc":"2.0","id":null,"method":"sum","params":[1,9007199254740991,"\u00e9\n",null,{},[],1.5e3]}"#,
    br#"{"jsonrpc":"2.0","id":3,"result":{"deep":[[[[{"a":{"b":[1]}}]]]]}}"#,
    br#"{"jsonrpc":"2.0","id":-3,"error":{"code":-32601,"message":"none"}}"#,
];

/// What attackers put into messages.
const WORDS: [&[u8]; 46] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b"\0",
    b":",
    b"_",
    b"\x7f",
    b"\xe9",
    b";",
    b"0",
    b"FFFFFFFFFFFFFFFF",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 0\r\n",
    b"Host: b\r\n",
    b"chunked",
    b"Transfer_Encoding: chunked\r\n",
    b"Connection: Host\r\n",
    b"0\r\n\r\n",
    b"http://",
    b"GET / HTTP/1.1\r\n",
    b",",
    b"{}",
    b"[]",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"null",
    b"-0",
    b"1e400",
    b"9007199254740992",
    b"18446744073709551616",
    b"\\u0000",
    b"\\ud800",
    b"\\u0041",
    b"~1",
    b"~01",
    b"/",
    b"\"a\":1,\"A\":2,",
    b"\"jsonrpc\":\"2.0\",",
    b"\"arguments\":",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
];

/// A small generator of good enough numbers (xorshift64*), so that a seed repeats a run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % below.max(1)
    }
}

fn spoil(bytes: &mut Vec<u8>, corpus: &[Vec<u8>], numbers: &mut Numbers) {
    for _ in 0..=numbers.next(4) {
        let at = numbers.next(bytes.len() + 1);
        let end = (at + numbers.next(8)).min(bytes.len());
        match numbers.next(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << numbers.next(8),
            1 if at < bytes.len() => bytes[at] = numbers.next(256) as u8,
            2 => drop(bytes.drain(at..end)),
            3 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            4 => {
                let other = &corpus[numbers.next(corpus.len())];
                bytes.truncate(at);
                bytes.extend_from_slice(&other[numbers.next(other.len())..]);
            }
            _ => drop(bytes.splice(at..at, WORDS[numbers.next(WORDS.len())].iter().copied())),
        }
    }
    bytes.truncate(4096);
}

/// A run that a seed repeats.
pub struct Run {
    seed: u64,
    numbers: Numbers,
    corpus: Vec<Vec<u8>>,
    /// Messages tried so far.
    pub messages: u64,
}

impl Run {
    /// A new run.
    pub fn new(seed: u64) -> Self {
        let numbers = Numbers(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        Self { seed, numbers, corpus: SEEDS.iter().map(|seed| seed.to_vec()).collect(), messages: 0 }
    }

    /// Tries one spoiled message on every target; panics with the message where a target does.
    pub fn step(&mut self) {
        let Self { seed, numbers, corpus, messages } = self;
        let mut bytes = corpus[numbers.next(corpus.len())].clone();
        spoil(&mut bytes, corpus, numbers);
        for (name, target) in TARGETS {
            let result = std::panic::catch_unwind(|| target(&bytes));
            assert!(result.is_ok(), "target {name}, seed {seed}, message {messages}: b\"{}\"", bytes.escape_ascii());
        }
        *messages += 1;
        // Spoiled messages are spoiled further, so that several faults meet in one.
        if numbers.next(50) == 0 {
            let place = SEEDS.len() + numbers.next(500);
            if place < corpus.len() {
                corpus[place] = bytes;
            } else {
                corpus.push(bytes);
            }
        }
    }
}
