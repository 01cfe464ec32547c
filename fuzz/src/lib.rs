//! What several fuzz targets need.

pub mod scratch;
