//! A terminal to draw on: its other screen, without the cursor, keys at once. What it was before comes back when this is
//! dropped, however the command ends.

use std::io::{self, Read as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::sync::mpsc;

use crate::output;
use crate::stop::Stop;

/// To the other screen, cursor off; and back again.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[2J";
const LEAVE: &[u8] = b"\x1b[?25h\x1b[?1049l";

/// Keys that wait to be looked at.
const KEYS_MAX: usize = 16;

/// What somebody pressed.
pub(super) enum Key {
    /// `q`, or the end of input.
    Quit,
    /// Something else.
    Other,
}

/// The terminal while it shows the table.
pub(super) struct Screen {
    before: Termios,
    keys: mpsc::Receiver<u8>,
}

/// Columns and rows of the terminal at standard output, if there is one.
pub(super) fn size() -> Option<(usize, usize)> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((usize::from(size.ws_col), usize::from(size.ws_row)))
}

impl Screen {
    /// Takes the terminal over.
    pub(super) fn open() -> Result<Self, Stop> {
        let cannot = |error| Stop::failed(format!("the terminal cannot be drawn on: {error}; use --once"));
        let before = tcgetattr(io::stdin()).map_err(cannot)?;
        let mut drawing = before.clone();
        // Keys come at once and are not echoed; Ctrl-C stays a signal.
        drawing.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Now, &drawing).map_err(cannot)?;
        let (pressed, keys) = mpsc::channel(KEYS_MAX);
        // It waits in a system call that nothing interrupts, and ends with the process.
        let reader = std::thread::Builder::new().name("keys".into()).spawn(move || {
            for byte in io::stdin().lock().bytes() {
                let Ok(byte) = byte else { return };
                if pressed.blocking_send(byte).is_err() {
                    return;
                }
            }
        });
        let screen = Self { before, keys };
        reader.map_err(|error| Stop::failed(format!("keys cannot be read: {error}; use --once")))?;
        output::raw(ENTER)?;
        Ok(screen)
    }

    /// The next key.
    pub(super) async fn key(&mut self) -> Key {
        match self.keys.recv().await {
            Some(b'q' | b'Q') | None => Key::Quit,
            Some(_) => Key::Other,
        }
    }

    /// Draws lines over what was there, as many as there is room for, and one below them. Nothing scrolls and nothing
    /// flickers: each line is overwritten and its rest erased.
    pub(super) fn draw(&mut self, lines: &[String], height: usize, last: &str) -> Result<(), Stop> {
        let mut frame = String::from("\x1b[H");
        for line in lines.iter().take(height.saturating_sub(1)) {
            frame.push_str(line);
            frame.push_str("\x1b[K\r\n");
        }
        frame.push_str(last);
        frame.push_str("\x1b[K\x1b[J");
        output::raw(frame.as_bytes())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut stdout = io::stdout().lock();
        // If the terminal is gone there is nothing to put back.
        let _ = stdout.write_all(LEAVE).and_then(|()| stdout.flush());
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}
