//! Reading.
use super::error::ReadError;
use crate::tree::Tree;
/// The tree in an image.
pub fn read(image: &[u8]) -> Result<Tree, ReadError> {
    let _ = image;
    Ok(Tree::default())
}
