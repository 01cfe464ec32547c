//! Results as lines for people. Pure: values go in, text comes out.

pub(crate) mod fsck;
pub(crate) mod gc;
pub(crate) mod history;
pub(crate) mod lint;
pub(crate) mod quantity;
pub(crate) mod rollback;
pub(crate) mod status;
mod style;
pub(crate) mod table;
pub(crate) mod text;
pub(crate) mod update;

pub(crate) use style::Style;

#[cfg(test)]
mod tests;
