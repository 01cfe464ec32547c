//! Writing results to standard output.

use std::io::{self, Write};

use crate::failure::Failure;
use crate::render::text;

/// Writes a result to standard output.
///
/// A reader that has gone away (`hull status | head -1`) has what it wanted.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// The same for what may not be text.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done.map_err(Failure::Output),
    }
}

/// Writes a note for people to standard error; that it can't be written is no
/// reason to stop.
pub(crate) fn note(text: &str) {
    // Nobody is there to be told about it.
    writeln!(io::stderr().lock(), "{text}").ok();
}

/// The same for what came of an operation that did all that it was to do, and where
/// something beside that did not work.
pub(crate) fn note_if(found: Option<&str>) {
    if let Some(text) = found {
        note(&format!("note: {}", text::line(text)));
    }
}

/// A value as JSON for people and programs: indented, with a final newline.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    let mut text = serde_json::to_string_pretty(value).map_err(Failure::Serialize)?;
    text.push('\n');
    Ok(text)
}
