//! Where WebSocket frames begin and end (RFC 6455 section 5.2), so that a last frame can be put between two others.
//!
//! Only the headers are followed, and only for their lengths and for the last frame of a direction, a Close (section 5.5.1):
//! what else a frame carries, whether it is masked as it should be, and what it means to either end is for the ends.

/// How far into its frames one direction has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    state: State,
    /// Whether the frame that is under way, or was last, is a Close.
    is_close: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Between two frames.
    #[default]
    Between,
    /// After the first byte of a header.
    Second,
    /// So many bytes of the extended length are missing.
    Length { missing: u8, length: u64, is_masked: bool },
    /// So many bytes of the masking key are missing.
    Mask { missing: u8, length: u64 },
    /// So many bytes of the payload are missing.
    Payload { missing: u64 },
}

impl Frames {
    /// Whether a frame can begin here.
    pub fn is_between(self) -> bool {
        self.state == State::Between
    }

    /// Whether a whole Close was the last frame: then nothing may follow it.
    pub fn has_closed(self) -> bool {
        self.is_close && self.is_between()
    }

    /// Bytes have passed.
    pub fn pass(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            data = &data[self.step(data)..];
        }
    }

    /// How many of these bytes reach up to the next boundary; all, if it lies beyond them. None, if it is here.
    pub fn up_to_boundary(mut self, data: &[u8]) -> usize {
        let mut at = 0;
        while at < data.len() && !self.is_between() {
            at += self.step(&data[at..]);
        }
        at
    }

    /// Takes one part of a frame, or as much of it as there is; `data` is not empty.
    fn step(&mut self, data: &[u8]) -> usize {
        let byte = data[0];
        let (state, taken) = match self.state {
            State::Between => {
                self.is_close = byte & 0x0F == CLOSE;
                (State::Second, 1)
            }
            State::Second => {
                let is_masked = byte & 0x80 != 0;
                let state = match byte & 0x7F {
                    126 => State::Length { missing: 2, length: 0, is_masked },
                    127 => State::Length { missing: 8, length: 0, is_masked },
                    length => after_length(length.into(), is_masked),
                };
                (state, 1)
            }
            State::Length { missing, length, is_masked } => {
                let length = length << 8 | u64::from(byte);
                let state = match missing - 1 {
                    0 => after_length(length, is_masked),
                    missing => State::Length { missing, length, is_masked },
                };
                (state, 1)
            }
            State::Mask { missing: 1, length } => (payload(length), 1),
            State::Mask { missing, length } => (State::Mask { missing: missing - 1, length }, 1),
            State::Payload { missing } => {
                let taken = missing.min(data.len() as u64);
                (payload(missing - taken), taken as usize)
            }
        };
        self.state = state;
        taken
    }
}

fn after_length(length: u64, is_masked: bool) -> State {
    if is_masked { State::Mask { missing: 4, length } } else { payload(length) }
}

fn payload(missing: u64) -> State {
    if missing == 0 { State::Between } else { State::Payload { missing } }
}

/// The opcode of a Close frame (section 5.2).
const CLOSE: u8 = 0x8;

/// The message violates the policy of who takes it (RFC 6455 section 7.4.1): its capability has fallen.
pub const POLICY_VIOLATION: u16 = 1008;
/// An endpoint is going away.
pub const GOING_AWAY: u16 = 1001;

/// A Close frame; with a masking key if it is for a server (section 5.3). The reason is cut to what fits.
pub fn close_frame(code: u16, reason: &str, mask: Option<[u8; 4]>) -> Vec<u8> {
    /// Most bytes of a control frame's payload (section 5.5), less the code's two.
    const REASON_BYTES_MAX: usize = 123;
    let reason = &reason.as_bytes()[..reason.len().min(REASON_BYTES_MAX)];
    let payload = [&code.to_be_bytes(), reason].concat();
    let mut frame = vec![0x88, payload.len() as u8];
    match mask {
        None => frame.extend_from_slice(&payload),
        Some(mask) => {
            frame[1] |= 0x80;
            frame.extend_from_slice(&mask);
            frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        }
    }
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(length: u64, wide: u8, is_masked: bool) -> Vec<u8> {
        let mask = if is_masked { 0x80 } else { 0 };
        let mut frame = match wide {
            0 if length < 126 => vec![0x82, mask | length as u8],
            0 | 1 if length < 65_536 => [&[0x02, mask | 126][..], &(length as u16).to_be_bytes()].concat(),
            _ => [&[0x02, mask | 127][..], &length.to_be_bytes()].concat(),
        };
        if is_masked {
            frame.extend_from_slice(&[1, 2, 3, 4]);
        }
        frame.resize(frame.len() + length as usize, 0x81);
        frame
    }

    proptest! {
        /// However the network cuts the bytes, the boundaries are the same.
        #[test]
        fn boundaries_do_not_depend_on_how_bytes_are_cut(
            parts in prop::collection::vec((prop_oneof![0..3u64, 120..130u64, 65_530..65_540u64], 0..3u8, any::<bool>()), 1..6),
            cuts in prop::collection::vec(1..5_000usize, 1..60),
        ) {
            let frames: Vec<_> = parts.iter().map(|(length, wide, masked)| frame(*length, *wide, *masked)).collect();
            let ends: Vec<_> = frames.iter().scan(0, |end, frame| { *end += frame.len(); Some(*end) }).collect();
            let bytes = frames.concat();
            let (mut tracker, mut at) = (Frames::default(), 0);
            for cut in cuts.iter().cycle() {
                let to = bytes.len().min(at + cut);
                let next = ends.iter().copied().find(|end| *end >= at.max(1)).unwrap_or(bytes.len());
                let reach = if at == 0 || ends.contains(&at) { at } else { next };
                prop_assert_eq!(tracker.up_to_boundary(&bytes[at..]), reach - at);
                tracker.pass(&bytes[at..to]);
                prop_assert_eq!(tracker.is_between(), ends.contains(&to));
                at = to;
                if at == bytes.len() { break }
            }
        }

        #[test]
        fn nothing_that_comes_stops_it(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut tracker = Frames::default();
            tracker.pass(&bytes);
            prop_assert!(tracker.up_to_boundary(&bytes) <= bytes.len());
        }
    }

    #[test]
    fn a_close_frame_is_one_whole_frame() {
        assert_eq!(close_frame(1008, "revoked", None), b"\x88\x09\x03\xf0revoked");
        let masked = close_frame(1001, "", Some([1, 2, 3, 4]));
        assert_eq!(masked, [0x88, 0x82, 1, 2, 3, 4, 0x03 ^ 1, 0xE9 ^ 2]);
        for frame in [masked, close_frame(1008, &"x".repeat(200), None), close_frame(1008, "x", Some([9; 4]))] {
            assert!(frame.len() <= 131);
            let mut frames = Frames::default();
            frames.pass(&frame[..frame.len() - 1]);
            assert!(!frames.is_between());
            frames.pass(&frame[frame.len() - 1..]);
            assert!(frames.is_between());
        }
    }
}
