//! Comparing output with the file that holds what it was.

use std::path::PathBuf;

/// Compares with `tests/golden/<name>`; `HULL_BLESS=1` writes the file instead.
#[expect(
    clippy::disallowed_methods,
    reason = "a test writes a source file, on the wish of who runs it"
)]
pub(crate) fn check(name: &str, actual: &str) {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests/golden", name]
        .iter()
        .collect();
    if std::env::var_os("HULL_BLESS").is_some() {
        std::fs::write(&path, actual).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        actual == expected,
        "{} differs; `HULL_BLESS=1 cargo test -p hull` accepts it.\n--- now:\n{actual}\n--- before:\n{expected}",
        path.display()
    );
}
