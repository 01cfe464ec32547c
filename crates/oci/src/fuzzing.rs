//! Parsers that are not public, for the fuzz targets.

pub use crate::source::fuzz_tar_split as tar_split;
