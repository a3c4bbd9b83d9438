//! Server-sent events on their way through (WHATWG HTML section 9.2): each is looked at when it is whole, and rewritten or
//! passed on byte for byte.

use super::tools::Unfilterable;

/// A stream of events that is taken apart.
#[derive(Debug)]
pub struct Events {
    /// The event that has begun.
    pending: Vec<u8>,
    bytes_max: usize,
    /// How the last byte was read.
    last: Last,
    /// Whether no event has ended yet: a byte order mark may stand before the first.
    is_first: bool,
    /// Whether the last event was rewritten, its end included.
    was_rewritten: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    /// A byte of a line.
    Inside,
    /// The end of a line; `after_cr`: one that a line feed would still belong to.
    LineEnd { after_cr: bool },
}

impl Events {
    /// At the beginning of a stream. An event has at most so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        // An empty line before the first event ends nothing; it is passed on with whatever comes.
        Self {
            pending: Vec::new(),
            bytes_max,
            last: Last::LineEnd { after_cr: false },
            is_first: true,
            was_rewritten: false,
        }
    }

    /// Takes a stretch of the stream and appends the events that ended in it; `rewrite` gets each one's data, and returns what
    /// it is to be instead.
    ///
    /// # Errors
    /// [`Unfilterable::TooLong`], and what `rewrite` says.
    pub fn pass(
        &mut self,
        data: &[u8],
        out: &mut Vec<u8>,
        mut rewrite: impl FnMut(&str) -> Result<Option<String>, Unfilterable>,
    ) -> Result<(), Unfilterable> {
        for &byte in data {
            if byte == b'\n' && self.pending.is_empty() && self.last == (Last::LineEnd { after_cr: true }) {
                // The second half of the line end that ended the last event.
                self.last = Last::LineEnd { after_cr: false };
                if !self.was_rewritten {
                    out.push(byte);
                }
                continue;
            }
            self.pending.push(byte);
            if self.ends_event(byte) {
                self.event(out, &mut rewrite)?;
            } else if self.pending.len() > self.bytes_max {
                return Err(Unfilterable::TooLong { max: self.bytes_max });
            }
        }
        Ok(())
    }

    /// What came after the last event.
    pub fn rest(&self) -> &[u8] {
        &self.pending
    }

    /// Whether this byte ends an event: the line that it ends is empty.
    fn ends_event(&mut self, byte: u8) -> bool {
        let (last, ends) = match (byte, self.last) {
            (b'\n', Last::LineEnd { after_cr: true }) => (Last::LineEnd { after_cr: false }, false),
            (b'\n' | b'\r', last) => (Last::LineEnd { after_cr: byte == b'\r' }, last != Last::Inside),
            _ => (Last::Inside, false),
        };
        self.last = last;
        ends
    }

    fn event(
        &mut self,
        out: &mut Vec<u8>,
        rewrite: &mut impl FnMut(&str) -> Result<Option<String>, Unfilterable>,
    ) -> Result<(), Unfilterable> {
        let text = std::str::from_utf8(&self.pending).map_err(|_| Unfilterable::Unreadable)?;
        let text = if std::mem::take(&mut self.is_first) { text.trim_start_matches('\u{feff}') } else { text };
        let lines = || text.split(['\r', '\n']).filter(|line| !line.is_empty());
        let value = |line: &'_ str| -> Option<String> {
            let value = line.strip_prefix("data")?;
            match value.strip_prefix(':') {
                Some(value) => Some(value.strip_prefix(' ').unwrap_or(value).to_owned()),
                None => value.is_empty().then(String::new),
            }
        };
        let data: Vec<String> = lines().filter_map(value).collect();
        let replaced = if data.is_empty() { None } else { rewrite(&data.join("\n"))? };
        self.was_rewritten = replaced.is_some();
        match replaced {
            None => out.extend_from_slice(&self.pending),
            Some(replaced) => {
                for line in lines().filter(|line| value(line).is_none()) {
                    out.extend_from_slice(line.as_bytes());
                    out.push(b'\n');
                }
                for line in replaced.split('\n') {
                    out.extend_from_slice(b"data: ");
                    out.extend_from_slice(line.as_bytes());
                    out.push(b'\n');
                }
                out.push(b'\n');
            }
        }
        self.pending.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(stream: &[u8], stretch: usize) -> (Vec<String>, Vec<u8>) {
        let mut events = Events::new(100);
        let (mut data, mut out) = (Vec::new(), Vec::new());
        for stretch in stream.chunks(stretch) {
            let passed = events.pass(stretch, &mut out, |event| {
                data.push(event.to_owned());
                Ok(event.strip_prefix("no").map(|rest| format!("yes{rest}")))
            });
            passed.expect("readable");
        }
        out.extend_from_slice(events.rest());
        (data, out)
    }

    #[test]
    fn events_are_found_however_their_lines_end() {
        for end in ["\n", "\r\n", "\r"] {
            let stream =
                [": c", "", "data: a", "data:b", "data", "id: 1", "", "", "event: x", "", "data:  c", "", "data: half"]
                    .join(end);
            for stretch in [1, 2, 3, 1000] {
                let (data, out) = seen(stream.as_bytes(), stretch);
                assert_eq!(data, ["a\nb\n", " c"], "{end:?} {stretch}");
                assert_eq!(out, stream.as_bytes(), "what is not rewritten stays as it is");
            }
        }
        assert_eq!(seen("\u{feff}data: a\n\n".as_bytes(), 4).0, ["a"]);
    }

    #[test]
    fn a_rewritten_event_keeps_its_other_fields() {
        let (_, out) = seen(b"id: 1\r\ndata: no\r\ndata: 2\r\nretry: 5\r\n\r\ndata: 3\r\n\r\n", 1000);
        assert_eq!(out, b"id: 1\nretry: 5\ndata: yes\ndata: 2\n\ndata: 3\r\n\r\n");
    }
}
