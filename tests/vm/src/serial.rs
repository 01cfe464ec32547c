//! The serial console, as a person would read it.

use std::fs;
use std::path::Path;

/// How many lines of a console an error shows.
const LINES: usize = 60;

/// The last lines of a console's log, without what only a terminal understands.
pub(crate) fn tail(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let text = readable(&String::from_utf8_lossy(&bytes));
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// Text without escape sequences and control characters.
pub(crate) fn readable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => match characters.next() {
                Some('[') => skip_until(&mut characters, |c| ('@'..='~').contains(&c)),
                Some(']' | 'P') => {
                    skip_until(&mut characters, |c| matches!(c, '\u{7}' | '\\' | '\n'));
                }
                _ => {}
            },
            '\n' | '\t' => shown.push(character),
            control if control.is_control() => {}
            plain => shown.push(plain),
        }
    }
    shown
}

fn skip_until(characters: &mut impl Iterator<Item = char>, ends: impl Fn(char) -> bool) {
    for character in characters {
        if ends(character) {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_is_shown_without_escape_sequences() {
        let raw = "\u{1b}[2J\u{1b}[01;01HBdsDxe: starting\r\n\u{1b}[0;32m  OK  \u{1b}[0m Reached\r\n\u{1b}]8;;x\u{7}login:\u{1b}";
        assert_eq!(readable(raw), "BdsDxe: starting\n  OK   Reached\nlogin:");
    }

    #[test]
    fn the_tail_of_a_missing_log_is_empty() {
        assert_eq!(tail(Path::new("/nonexistent/log")), "");
    }
}
