//! Why an image could not be made or compared.

use std::fmt;

use crate::build::BuildError;
use crate::components::ComponentsError;
use crate::image::{LayoutError, PreviousError, SettingsError};
use crate::report::CompareError;
use crate::scan::{InvalidExclusion, Refusal, ScanError};
use crate::selinux::SelinuxError;
use crate::verify::VerifyError;

/// Why an image could not be made or compared.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// The root cannot be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// Files of the root cannot be part of an image.
    #[error(transparent)]
    Refused(#[from] Refusals),
    /// The rules make no sense.
    #[error(transparent)]
    Exclusion(#[from] InvalidExclusion),
    /// Labels that were asked for.
    #[error(transparent)]
    Selinux(#[from] SelinuxError),
    /// The components of the root.
    #[error(transparent)]
    Components(#[from] ComponentsError),
    /// The previous image.
    #[error(transparent)]
    Previous(#[from] PreviousError),
    /// What the image says of itself.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Writing the image.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Looking for what is new in an image.
    #[error(transparent)]
    Compare(#[from] CompareError),
    /// Comparing the image.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

impl From<LayoutError> for ChunkError {
    fn from(error: LayoutError) -> Self {
        Self::Build(error.into())
    }
}

/// All that cannot be part of an image; at least one.
#[derive(Debug)]
pub struct Refusals(pub Vec<Refusal>);

impl std::error::Error for Refusals {}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        let files = if count == 1 { "file" } else { "files" };
        write!(
            f,
            "{count} {files} cannot be part of an image; nothing was written"
        )?;
        for (reason, refusals) in self.by_reason() {
            match refusals[..] {
                [one] => write!(f, "\n{one}")?,
                _ => write!(f, "\n{reason}:")?,
            }
            for refusal in refusals.iter().filter(|_| refusals.len() > 1) {
                write!(f, "\n  {}", refusal.path)?;
            }
        }
        Ok(())
    }
}

impl Refusals {
    /// The refusals with the same reason, which is said once; in the order of the first of each.
    fn by_reason(&self) -> Vec<(String, Vec<&Refusal>)> {
        let mut groups: Vec<(String, Vec<&Refusal>)> = Vec::new();
        for refusal in &self.0 {
            let reason = refusal.reason.to_string();
            match groups.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, group)) => group.push(refusal),
                None => groups.push((reason, vec![refusal])),
            }
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::{FullPath, Reason};

    #[test]
    fn a_reason_that_many_files_have_is_said_once() {
        let refusal = |path: &str, reason| Refusal {
            path: FullPath::new(path.as_bytes()),
            reason,
        };
        let refusals = Refusals(vec![
            refusal("boot/a", Reason::Boot),
            refusal("etc/.wh.x", Reason::Whiteout),
            refusal("boot/b", Reason::Boot),
        ]);
        let told = refusals.to_string();
        assert_eq!(told.matches(&Reason::Boot.to_string()).count(), 1);
        assert!(
            told.contains("--allow-boot:\n  /boot/a\n  /boot/b\n/etc/.wh.x: a name"),
            "{told}"
        );
    }
}
