//! The one table: what went wrong → what to do → the exit code.
//!
//! Messages of the other crates say what failed and what was left as it was.
//! Here is what a person at the command line can do about it, where the
//! message does not say so itself.

use std::error::Error;
use std::process::ExitCode;

use hull_boot::esp::EspError;
use hull_chunk::ChunkError;
use hull_deploy::bless::BlessError;
use hull_deploy::cleanup::CleanupError;
use hull_deploy::machine::MachineError;
use hull_deploy::repair::RepairError;
use hull_deploy::rollback::RollbackError;
use hull_deploy::running::RunningError;
use hull_deploy::seal::SealError;
use hull_deploy::stage::StageError;
use hull_deploy::update::UpdateError;
use hull_disk::install::InstallError;
use hull_oci::push::PushError;
use hull_store::StoreError;
use hull_store::gc::GcError;
use hull_sys::run::RunError;

use crate::environment::Environment;
use crate::failure::Failure;
use crate::output;
use crate::render::{Style, text};
use crate::select::SelectError;

/// The command was not done.
pub(crate) const FAILED: u8 = 1;
/// The command line asks for something that hull can't do.
pub(crate) const USAGE: u8 = 2;
/// `upgrade --check --exit-code`: there is nothing new.
pub(crate) const NOTHING_NEW: u8 = 77;

const GC: &str = "`hull gc` removes what is not needed; `hull gc --dry-run` says what that is";
const FSCK: &str = "`hull fsck --repair` downloads again what is damaged";
const NEXT_BOOT_SAME: &str = "the next boot is what it was; try again when that is solved";
const STATUS: &str = "`hull status` lists the deployments";

/// What a person can do about a failure, where that is known; and the exit code.
fn advice(failure: &Failure) -> (Option<&'static str>, u8) {
    match failure {
        Failure::Running(error) => (running(error), FAILED),
        Failure::SeveralImages(_) => (
            Some("`hull image list --format json` has all digits"),
            FAILED,
        ),
        Failure::ImageChanged(_) => (
            Some("`hull image list` shows what is there now; try again"),
            FAILED,
        ),
        Failure::Deployed(_) => (
            Some("it goes with the deployment: `hull gc` removes those that no boot needs"),
            FAILED,
        ),
        Failure::Machine(error) => (machine(error), FAILED),
        Failure::Update(error) => (update(error), FAILED),
        Failure::Rollback(error) => (rollback(error), FAILED),
        Failure::Cleanup(error) => (cleanup(error), FAILED),
        Failure::Bless(error) => (bless(error), FAILED),
        Failure::EnableVerity(_) => (
            Some("the system runs as before; the next boot tries again"),
            FAILED,
        ),
        Failure::Fsck(_) => (None, FAILED),
        Failure::Repair(error) => (repair(error), FAILED),
        Failure::Install(error) => (install(error), FAILED),
        Failure::Chunk(error) if matches!(**error, ChunkError::Exclusion(_)) => (None, USAGE),
        Failure::Chunk(_) | Failure::Differs(_) | Failure::Lint(_) => (None, FAILED),
        Failure::InstallConfig(_) | Failure::Seal(_) | Failure::Transform(_) => (
            Some("the image has to be made anew with that corrected"),
            FAILED,
        ),
        Failure::NoRoomToUnpack(_) => (
            Some(
                "the image is unpacked in /var/tmp and removed there at the end: make room or mount more",
            ),
            FAILED,
        ),
        Failure::Pull(_) | Failure::Merge(_) | Failure::Architecture(_) => (None, FAILED),
        Failure::Push(error) => (push(error), FAILED),
        Failure::Store(error) => (store(error), FAILED),
        Failure::Reference(_) => (
            Some("an image is named as registry.example/os/debian:stable"),
            USAGE,
        ),
        Failure::Select(error) => (select(error), FAILED),
        Failure::ProgressFd(_) => (
            Some("open it in the shell: `hull upgrade --progress-fd 3 3>progress.jsonl`"),
            USAGE,
        ),
        Failure::Reboot(_) => (Some("`systemctl reboot` starts the new system"), FAILED),
        Failure::Refused { .. } => (Some("nothing was changed"), USAGE),
        Failure::NoCommand(_) => (Some("`hull help` lists the commands"), USAGE),
        Failure::Output(_) | Failure::Serialize(_) => (None, FAILED),
        Failure::ShortName(_) => (None, USAGE),
        Failure::Storage(RunError::NotFound { .. }) => (
            Some("or write to oci-archive:FILE, which `podman pull oci-archive:FILE` takes in"),
            FAILED,
        ),
        Failure::Storage(_) => (None, FAILED),
        Failure::Policy(_)
        | Failure::Registries(_)
        | Failure::Write { .. }
        | Failure::Load(_)
        | Failure::Read { .. }
        | Failure::Unusable { .. } => (None, FAILED),
    }
}

fn running(error: &RunningError) -> Option<&'static str> {
    match error {
        RunningError::Machine(error) => machine(error),
        RunningError::NotBooted => Some(
            "`hull install`, `chunk`, `image copy` and `container lint` work anywhere, and the other image verbs with --store DIR",
        ),
        RunningError::NoEsp(_) => Some("is the disk that hull was installed to attached?"),
        _ => None,
    }
}

fn machine(error: &MachineError) -> Option<&'static str> {
    match error {
        MachineError::Store(error) => store(error),
        MachineError::Esp(error) => esp(error),
        _ => None,
    }
}

fn store(error: &StoreError) -> Option<&'static str> {
    match error {
        StoreError::NoSpace { .. } => Some(GC),
        StoreError::Missing { .. } | StoreError::Corrupt { .. } | StoreError::BadMeta { .. } => {
            Some(FSCK)
        }
        StoreError::NewerVersion { .. } => Some("use the hull of the newer image"),
        _ => None,
    }
}

fn esp(error: &EspError) -> Option<&'static str> {
    match error {
        EspError::NoSpace { .. } => {
            Some("`hull pin --unpin` lets old deployments go, `hull gc` removes them")
        }
        _ => None,
    }
}

fn update(error: &UpdateError) -> Option<&'static str> {
    match error {
        UpdateError::Pull(error) if error.is_no_space() => Some(GC),
        UpdateError::Pull(_) => Some(NEXT_BOOT_SAME),
        UpdateError::Seal(SealError::Store(error)) | UpdateError::Store(error) => store(error),
        UpdateError::Seal(_) => Some("the image cannot boot; the next boot is what it was"),
        UpdateError::Stage(StageError::Machine(error)) | UpdateError::Machine(error) => {
            machine(error)
        }
        UpdateError::Stage(StageError::Esp(error)) => esp(error),
        UpdateError::Stage(StageError::Store(error)) => store(error),
        UpdateError::Cleanup(error) => cleanup(error),
        UpdateError::BadReference { .. } => Some("`hull switch IMAGE` names another image"),
        _ => None,
    }
}

fn push(error: &PushError) -> Option<&'static str> {
    match error {
        PushError::NoImage { .. } => {
            Some("`hull image list` shows what is there; `hull image pull` fetches another one")
        }
        PushError::Load(_) => Some("`hull image pull` fetches it again"),
        PushError::Upload(_) | PushError::Read { .. } | PushError::Content { .. } => {
            Some("no name leads to it; what was sent is not sent again at the next try")
        }
        PushError::Store(error) => store(error),
        _ => None,
    }
}

fn bless(error: &BlessError) -> Option<&'static str> {
    match error {
        BlessError::Machine(error) => machine(error),
        BlessError::NotBooted | BlessError::NoRecord(_) => None,
    }
}

fn install(error: &InstallError) -> Option<&'static str> {
    match error {
        InstallError::NoSpace { .. } => Some("--workdir names another directory to work in"),
        InstallError::Stage(error) => error
            .downcast_ref::<hull_deploy::install::InstallError>()
            .and_then(system),
        _ => None,
    }
}

/// Putting together the system that is to be installed.
fn system(error: &hull_deploy::install::InstallError) -> Option<&'static str> {
    use hull_deploy::install::InstallError;
    match error {
        InstallError::Pull(error) if error.is_no_space() => {
            Some("--workdir names another directory to work in")
        }
        InstallError::Seal(_) | InstallError::BootLoader(_) => Some(
            "the image has to be made anew with that corrected; nothing was written to the target",
        ),
        InstallError::Pull(_) => Some("nothing was written to the target"),
        _ => None,
    }
}

fn rollback(error: &RollbackError) -> Option<&'static str> {
    match error {
        RollbackError::Machine(error) => machine(error),
        RollbackError::NoTarget | RollbackError::NoEntry(_) => {
            Some("`hull switch IMAGE` with the digest of an older image goes back to it")
        }
    }
}

fn repair(error: &RepairError) -> Option<&'static str> {
    match error {
        RepairError::Machine(error) => machine(error),
        RepairError::Store(error) => store(error),
        RepairError::Pull { source, .. } if source.is_no_space() => Some(GC),
        RepairError::Pull { .. } => {
            Some("run it again when the image can be had; until then, nothing else changes")
        }
        _ => None,
    }
}

fn cleanup(error: &CleanupError) -> Option<&'static str> {
    match error {
        CleanupError::Machine(error) => machine(error),
        CleanupError::Esp(error) => esp(error),
        CleanupError::Store(error) => store(error),
        CleanupError::Collect(error) => collect(error),
        CleanupError::Spool(_) => None,
    }
}

fn collect(error: &GcError) -> Option<&'static str> {
    match error {
        GcError::Busy { .. } => Some("nothing is wrong with it: try again when that is done"),
        GcError::Store(error) => store(error),
        _ => Some(FSCK),
    }
}

fn select(error: &SelectError) -> Option<&'static str> {
    match error {
        SelectError::NoRole(_) | SelectError::NoName(_) => Some(STATUS),
        SelectError::Ambiguous { .. } => Some("type more of its name"),
    }
}

/// Tells of a failure on standard error and gives the exit code.
pub(crate) fn report(failure: &Failure, environment: &Environment) -> ExitCode {
    let (hint, code) = advice(failure);
    output::note(&told(failure, hint, Style::new(environment.colour_err)));
    ExitCode::from(code)
}

/// An error and its causes, in one line.
pub(crate) fn in_one_line(failure: &dyn Error) -> String {
    messages(failure).join(": ")
}

/// What an error says, and then each of its causes.
fn messages(failure: &dyn Error) -> Vec<String> {
    let mut messages = vec![printable(&failure.to_string())];
    let mut cause = failure.source();
    while let Some(error) = cause {
        let message = printable(&error.to_string());
        // Some messages have their cause in them already.
        if messages.last().is_none_or(|last| !last.contains(&message)) {
            messages.push(message);
        }
        cause = error.source();
    }
    messages
}

/// `error:`, its causes, and the hint, a line each.
fn told(failure: &dyn Error, hint: Option<&str>, style: Style) -> String {
    let labels = std::iter::once("error:").chain(std::iter::repeat("caused by:"));
    let messages = messages(failure).into_iter().zip(labels);
    let mut lines: Vec<_> = messages
        .map(|(message, label)| format!("{} {message}", style.bad(label)))
        .collect();
    if let Some(hint) = hint {
        lines.push(format!("{} {hint}", style.good("hint:")));
    }
    lines.join("\n")
}

/// What registries and images say is part of messages. Lines stay lines.
fn printable(message: &str) -> String {
    let lines: Vec<_> = message.trim_end().lines().map(text::line).collect();
    lines.join("\n  ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn lines(failure: &Failure) -> Vec<String> {
        let (hint, _) = advice(failure);
        let text = told(failure, hint, Style::default());
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn an_error_has_its_cause_and_a_hint() {
        let full = StoreError::io("writing object x", io::Error::from_raw_os_error(28));
        let lines = lines(&UpdateError::Store(full).into());
        assert_eq!(
            lines[0],
            "error: no space left on the store's file system, while writing object x"
        );
        assert!(
            lines[1].starts_with("caused by: No space left on device"),
            "{lines:?}"
        );
        assert_eq!(lines[2], format!("hint: {GC}"));
    }

    #[test]
    fn a_cause_that_the_message_has_is_not_told_twice() {
        let failure = Failure::from(MachineError::Io {
            what: "/state".into(),
            source: io::Error::from_raw_os_error(13),
        });
        assert_eq!(
            lines(&failure),
            ["error: /state: Permission denied (os error 13)"]
        );
    }

    #[test]
    fn a_store_in_use_is_not_called_damaged() {
        let busy = CleanupError::Collect(GcError::Busy { seconds: 5 });
        let lines = lines(&busy.into());
        assert!(lines[0].contains("has been in use for 5 s"), "{lines:?}");
        assert!(
            lines[1].ends_with("try again when that is done"),
            "{lines:?}"
        );
    }

    #[test]
    fn messages_from_outside_cannot_move_the_cursor() {
        let failure = Failure::NoCommand("\u{1b}[2Jx\r".into());
        assert!(!lines(&failure)[0].contains('\u{1b}'));
    }

    #[test]
    fn wrong_usage_and_failure_have_codes_of_their_own() {
        assert_eq!(advice(&Failure::NoCommand("x".into())).1, USAGE);
        assert_eq!(advice(&RunningError::NotRoot.into()).1, FAILED);
    }
}
