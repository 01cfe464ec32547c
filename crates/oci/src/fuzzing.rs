//! Parsers that are not public, for the fuzz targets.

pub use crate::policy::fuzzing::{policy, signature};
pub use crate::source::fuzz_tar_split as tar_split;
pub use crate::source::fuzzing::{auth, registries};
