//! Results as lines for people. Pure: values go in, text comes out.

pub(crate) mod history;
pub(crate) mod quantity;
pub(crate) mod status;
mod style;
pub(crate) mod text;

pub(crate) use style::Style;
