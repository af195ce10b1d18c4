//! Where rows go that a person reads: onto the screen, or through the user's pager when they are more than the screen shows.

use std::io::{self, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::cli::output::Stdout;

/// Lines of the screen that the next prompt and what stands above it take.
const OTHER_LINES: usize = 2;
/// Bytes that are held back until it is known whether they fit on the screen.
const HELD_BYTES_MAX: usize = 1 << 20;

/// A screen: its columns and lines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) lines: usize,
}

impl Size {
    /// That of the terminal that stdout is; none if it is none.
    pub(super) fn of_stdout() -> Option<Self> {
        let (terminal_size::Width(columns), terminal_size::Height(lines)) =
            terminal_size::terminal_size_of(io::stdout())?;
        Some(Self { columns: usize::from(columns).max(1), lines: usize::from(lines) })
    }
}

/// The user's pager; none: all goes onto the screen.
#[derive(Clone, Debug)]
pub(super) struct Pager(Option<String>);

impl Pager {
    /// What `$PAGER` says, else `less` or `more`; empty or `cat`: none.
    pub(super) fn of(variable: Option<String>) -> Self {
        let default = || ["less", "more"].into_iter().find(|program| is_there(program)).map(str::to_owned);
        let command = variable.map_or_else(default, Some);
        Self(command.filter(|command| !matches!(command.trim(), "" | "cat") && is_there(command)))
    }

    fn start(&self) -> Option<Child> {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(self.0.as_ref()?);
        if std::env::var_os("LESS").is_none() {
            // Long lines are cut and can be scrolled to; what was shown is still there afterwards.
            shell.env("LESS", "SRX");
        }
        shell.stdin(Stdio::piped()).spawn().ok()
    }
}

/// Whether the program that a command begins with is there, as far as can be seen.
fn is_there(command: &str) -> bool {
    let program = command.split_whitespace().next().unwrap_or_default();
    if program.contains(['=', '/', '$', '"', '\'']) {
        return true;
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// A result on its way to the reader. All clones are one.
#[derive(Clone, Debug)]
pub(super) struct Screen(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    size: Size,
    pager: Pager,
    to: To,
    /// Lines that the text so far takes on the screen.
    lines: usize,
    /// Characters in the last one.
    column: usize,
    was_left: bool,
}

#[derive(Debug)]
enum To {
    /// It is not known yet.
    Held(Vec<u8>),
    Pager(Child, ChildStdin),
    Screen,
}

impl Screen {
    pub(super) fn new(size: Size, pager: Pager) -> Self {
        let state = State { size, pager, to: To::Held(Vec::new()), lines: 0, column: 0, was_left: false };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Shows what is held, or waits until the reader leaves the pager.
    pub(super) fn close(&self) -> io::Result<()> {
        let mut state = self.state();
        match std::mem::replace(&mut state.to, To::Screen) {
            To::Held(bytes) => Stdout.write_all(&bytes).and_then(|()| Stdout.flush()),
            To::Pager(mut child, stdin) => {
                drop(stdin);
                child.wait().map(drop)
            }
            To::Screen => Stdout.flush(),
        }
    }

    /// Whether the reader has left the pager before the end.
    pub(super) fn was_left(&self) -> bool {
        self.state().was_left
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for State {
    /// A result that is given up leaves no pager behind.
    fn drop(&mut self) {
        if let To::Pager(mut child, stdin) = std::mem::replace(&mut self.to, To::Screen) {
            drop(stdin);
            drop(child.wait());
        }
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.state().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.state().to {
            To::Held(_) => Ok(()),
            To::Pager(_, stdin) => stdin.flush(),
            To::Screen => Stdout.flush(),
        }
    }
}

impl State {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let To::Held(held) = &mut self.to {
            held.extend_from_slice(bytes);
            let is_large = held.len() > HELD_BYTES_MAX;
            self.count(bytes);
            if is_large || self.lines + OTHER_LINES > self.size.lines {
                self.let_go()?;
            }
            return Ok(bytes.len());
        }
        match &mut self.to {
            To::Pager(_, stdin) => {
                let written = stdin.write(bytes);
                self.was_left |= written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
                written
            }
            _ => Stdout.write(bytes),
        }
    }

    /// Counts the lines as they will be on the screen: one that is longer than it is wide takes several.
    fn count(&mut self, bytes: &[u8]) {
        for byte in bytes {
            // The first byte of each character.
            let is_first = byte & 0xC0 != 0x80;
            if *byte == b'\n' {
                self.lines += 1 + self.column.saturating_sub(1) / self.size.columns;
                self.column = 0;
            } else {
                self.column += usize::from(is_first);
            }
        }
    }

    /// It does not fit: all goes to the pager, or onto the screen if there is none.
    fn let_go(&mut self) -> io::Result<()> {
        let mut child = self.pager.start();
        let stdin = child.as_mut().and_then(|child| child.stdin.take());
        let next = child.zip(stdin).map_or(To::Screen, |(child, stdin)| To::Pager(child, stdin));
        let To::Held(held) = std::mem::replace(&mut self.to, next) else { return Ok(()) };
        match &mut self.to {
            To::Pager(_, stdin) => stdin.write_all(&held).inspect_err(|_| self.was_left = true),
            _ => Stdout.write_all(&held),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { columns: 10, lines: 6 };

    /// What a pager is given that writes it to a file.
    fn paged(texts: &[&str]) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("paged");
        let mut screen = Screen::new(SIZE, Pager::of(Some(format!("cat > {}", file.display()))));
        for text in texts {
            screen.write_all(text.as_bytes()).unwrap();
        }
        screen.close().unwrap();
        std::fs::read_to_string(file).ok()
    }

    #[test]
    fn what_does_not_fit_goes_through_the_pager() {
        assert_eq!(paged(&["1\n2\n3\n4\n5\n6\n", "7\n"]).unwrap(), "1\n2\n3\n4\n5\n6\n7\n");
        assert_eq!(paged(&["1\n2\n3\n4\n", "5\n"]).unwrap(), "1\n2\n3\n4\n5\n");
        // Four lines of which one is long.
        let long = format!("{}\n1\n2\n3\n", "é".repeat(21));
        assert_eq!(paged(&[&long]).unwrap(), long);
    }

    #[test]
    fn what_fits_goes_onto_the_screen() {
        let full = format!("{}\n1\n2\n", "é".repeat(20));
        assert_eq!(paged(&["1\n2\n", &full[..0]]), None);
        assert_eq!(paged(&[&full]), None);
        assert_eq!(paged(&[]), None);
    }

    #[test]
    fn a_reader_who_leaves_is_noticed() {
        let mut screen = Screen::new(SIZE, Pager::of(Some("true".to_owned())));
        let error = loop {
            match screen.write_all(&[b'\n'; 1 << 13]) {
                Ok(()) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert!(screen.was_left());
        screen.close().unwrap();
    }

    #[test]
    fn there_may_be_no_pager() {
        for none in ["", " cat ", "no-such-pager -x"] {
            assert!(Pager::of(Some(none.to_owned())).start().is_none(), "{none}");
        }
        assert_eq!(Pager::of(Some("sort -r".to_owned())).0.as_deref(), Some("sort -r"));
    }
}
