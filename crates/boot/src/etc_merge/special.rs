//! The names in `/etc` that have a rule of their own.

use crate::accounts::AccountFile;

/// How a name is decided without looking at what changed.
pub(super) enum Special {
    /// Belongs to the machine: what is here stays, what is not here comes.
    Machine,
    /// Describes the image's programs.
    Image,
    /// Must not outlive an update.
    Dropped,
    /// Is merged by line.
    Accounts(AccountFile),
}

/// The rule for `path`, which is below `/etc`, if it has one.
pub(super) fn special(path: &[u8]) -> Option<Special> {
    match path {
        // systemd-update-done: its absence is what makes units with
        // ConditionNeedsUpdate= run.
        b".updated" => Some(Special::Dropped),
        b"machine-id" => Some(Special::Machine),
        // Where the libraries in /usr are; ldconfig writes it anew at each
        // update, so both sides always differ.
        b"ld.so.cache" => Some(Special::Image),
        _ if path.starts_with(b"ssh/ssh_host_") => Some(Special::Machine),
        _ => match path.strip_suffix(b"-") {
            // What the shadow tools write before each change.
            Some(name) if AccountFile::from_name(name).is_some() => Some(Special::Machine),
            _ => AccountFile::from_name(path).map(Special::Accounts),
        },
    }
}
