//! The three-way merge of `/etc`.
//!
//! The base is the `/etc` of the image that the old deployment booted, mine is
//! the old deployment's `/etc`, theirs is that of the new image. What only one
//! side changed is taken from it; where both did, a policy decides and the
//! other version is kept beside, under a name that ends in a tilde: programs
//! that read whole directories (run-parts, logrotate, sudo, bash-completion)
//! pass editors' backups over, but not every suffix that hull could invent.
//!
//! The time of the last modification says nothing, so it changes nothing.
//! Account files are merged by line ([`crate::accounts`]). What makes a
//! machine itself (`machine-id`, the host keys of ssh) is always mine.

mod compare;
mod conflict;
mod execute;
mod plan;
mod scan;
mod special;
#[cfg(test)]
mod tests;
mod tree;

pub use conflict::{Conflict, ConflictKind, Policy, Side};
pub use execute::{ExecuteError, execute};
pub use plan::{Counts, MergePlan, PlanError, plan};
pub use scan::ScanError;
pub use tree::EtcTree;
