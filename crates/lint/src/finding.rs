//! What a lint says.

use crate::root::printable;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Where, with its slash in front; bytes that are not text are escaped.
    pub path: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

/// What a lint comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It was checked; no finding means that all is well.
    Checked(Vec<Finding>),
    /// There is nothing here that it could check, because of this.
    NotApplicable(&'static str),
}

impl Finding {
    pub(crate) fn new(path: &[u8], problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            path: printable(path),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
}

impl From<Vec<Finding>> for Verdict {
    fn from(findings: Vec<Finding>) -> Self {
        Self::Checked(findings)
    }
}

impl From<Option<Finding>> for Verdict {
    fn from(finding: Option<Finding>) -> Self {
        Self::Checked(finding.into_iter().collect())
    }
}
