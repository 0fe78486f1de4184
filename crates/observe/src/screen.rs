//! Stderr: lines for people, and, on a terminal, a block of lines that stays below them.
//!
//! The block is written over itself in one piece, without being erased first, so that it does not
//! flicker. The cursor stays visible, at the line below it: whatever ends the process, the terminal
//! is as it was.

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// Synchronized output, where a terminal knows it: what is between is shown at once.
const BEGIN: &str = "\u{1b}[?2026h";
const END: &str = "\u{1b}[?2026l";
/// Erases what is right of the cursor; and all that is after it.
const REST_OF_LINE: &str = "\u{1b}[K";
const REST_OF_SCREEN: &str = "\u{1b}[J";

static SCREEN: Mutex<Block> = Mutex::new(Block { lines: Vec::new() });

/// What stands at the end of the terminal.
struct Block {
    /// Its lines, each shorter than the terminal was wide when it was drawn.
    lines: Vec<String>,
}

impl Block {
    /// To the beginning of the block, if the terminal is `width` wide now: where it has become
    /// narrower, it has wrapped the lines.
    fn up(&self, width: usize) -> String {
        let rows: usize = self
            .lines
            .iter()
            .map(|line| {
                console::measure_text_width(line)
                    .div_ceil(width.max(1))
                    .max(1)
            })
            .sum();
        match rows {
            0 => String::new(),
            rows => format!("\r\u{1b}[{rows}A"),
        }
    }

    fn text(&self) -> String {
        let line = |line: &String| format!("{line}{REST_OF_LINE}\r\n");
        self.lines.iter().map(line).collect()
    }

    /// Writes `lines`, and the block below them.
    fn print(&self, lines: &str, width: usize) -> String {
        if self.lines.is_empty() {
            return lines.to_owned();
        }
        let (up, lines) = (self.up(width), lines.replace('\n', "\u{1b}[K\r\n"));
        format!("{BEGIN}{up}{REST_OF_SCREEN}{lines}{}{END}", self.text())
    }

    /// Puts `lines` in its place.
    fn replace(&mut self, lines: Vec<String>, width: usize) -> String {
        let up = self.up(width);
        self.lines = lines;
        if up.is_empty() && self.lines.is_empty() {
            return String::new();
        }
        format!("{BEGIN}{up}{}{REST_OF_SCREEN}{END}", self.text())
    }
}

fn lock() -> MutexGuard<'static, Block> {
    SCREEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What cannot be written is lost.
fn write(text: &str) {
    if !text.is_empty() {
        drop(io::stderr().write_all(text.as_bytes()));
    }
}

/// The width of the terminal.
pub(crate) fn width() -> usize {
    size().1
}

/// Its height and width.
pub(crate) fn size() -> (usize, usize) {
    let (height, width) = console::Term::stderr().size_checked().unwrap_or((24, 80));
    (height.max(2).into(), width.max(20).into())
}

/// Prints lines, each with its end.
pub(crate) fn print(lines: &str) {
    let block = lock();
    let text = block.print(lines, width());
    write(&text);
}

/// What stands at the end from now on.
pub(crate) fn draw(lines: Vec<String>) {
    let mut block = lock();
    let text = block.replace(lines, width());
    write(&text);
}

/// Prints to stdout, which may be the same terminal.
pub(crate) fn beside<T>(print: impl FnOnce() -> T) -> T {
    let mut block = lock();
    let lines = std::mem::take(&mut block.lines);
    if lines.is_empty() {
        drop(block);
        return print();
    }
    block.lines = lines.clone();
    write(&block.replace(Vec::new(), width()));
    let printed = print();
    write(&block.replace(lines, width()));
    printed
}

/// Takes the block away, unless somebody is writing at this moment: for whoever ends the process at
/// once.
pub(crate) fn clear_now() {
    let mut block = match SCREEN.try_lock() {
        Ok(block) => block,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return,
    };
    let text = block.replace(Vec::new(), width());
    write(&text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_above_the_block_and_nothing_of_it_stays() {
        let mut block = Block { lines: Vec::new() };
        assert_eq!(block.print("a\n", 80), "a\n");
        assert_eq!(block.replace(Vec::new(), 80), "");
        let lines = vec!["one".to_owned(), "two".to_owned()];
        assert_eq!(
            block.replace(lines, 80),
            "\u{1b}[?2026hone\u{1b}[K\r\ntwo\u{1b}[K\r\n\u{1b}[J\u{1b}[?2026l"
        );
        assert_eq!(
            block.print("a\n", 80),
            "\u{1b}[?2026h\r\u{1b}[2A\u{1b}[Ja\u{1b}[K\r\none\u{1b}[K\r\ntwo\u{1b}[K\r\n\u{1b}[?2026l"
        );
        assert_eq!(
            block.replace(Vec::new(), 80),
            "\u{1b}[?2026h\r\u{1b}[2A\u{1b}[J\u{1b}[?2026l"
        );
    }

    #[test]
    fn a_terminal_that_became_narrower_has_wrapped_the_block() {
        let lines = vec!["x".repeat(70), "\u{1b}[1mshort\u{1b}[0m".to_owned()];
        let block = Block { lines };
        assert_eq!(block.up(80), "\r\u{1b}[2A");
        assert_eq!(block.up(40), "\r\u{1b}[3A");
    }
}
