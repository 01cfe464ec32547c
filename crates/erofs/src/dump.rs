//! The composefs dump file: a tree as text, a line for each name.

use crate::tree::Tree;

/// Why a text is no dump file of a tree.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line}: {problem}")]
pub struct ParseError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

/// The dump file of a tree: depth first, names sorted by their bytes.
pub fn write(tree: &Tree) -> Vec<u8> {
    let _ = tree;
    Vec::new()
}

/// The tree that a dump file describes.
pub fn parse(dump: &[u8]) -> Result<Tree, ParseError> {
    let _ = dump;
    Ok(Tree::default())
}
