//! What bootc and rpm-ostree have and hull has not: each by name, with what to do instead.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};

const OPTIONS: &[(&str, &str)] = &[
    (
        "--soft-reboot",
        "hull reboots through the boot loader, which counts boots that fail",
    ),
    ("--tag", "`hull switch` follows another tag"),
    (
        "--mutate-in-place",
        "it changes a deployment of ostree's, and hull has none; `hull switch` stages a new one",
    ),
    (
        "--experimental-unified-storage",
        "images of podman's store are named containers-storage:IMAGE",
    ),
    ("--stateroot", "there is one, `default`"),
    (
        "--bound-images",
        "hull brings no application images along; they are pulled when they are first run",
    ),
    (
        "--run-fetch-check",
        "hull asks the target's registry at the first upgrade",
    ),
    ("--uki-addon", "hull starts kernel and initrd by themselves"),
    (
        "--sign-commit",
        "what comes out is no ostree commit; cosign and `podman push --sign-by` sign the image",
    ),
];

const VERBS: &[(&str, &str)] = &[
    (
        "usr-overlay",
        "`transient = true` under [root] in the image's setup-root-conf.toml makes / writable until the reboot",
    ),
    ("usroverlay", "see `usr-overlay`"),
    ("edit", "`hull switch IMAGE` follows another image"),
    (
        "config-diff",
        "`hull upgrade` says what of /etc is in conflict",
    ),
    (
        "inspect",
        "`hull install print-configuration IMAGE --all` says what an image asks for",
    ),
    ("ukify", "hull starts kernel and initrd by themselves"),
    (
        "split-kernel-and-rootfs",
        "hull starts kernel and initrd where they are, in /usr/lib/modules",
    ),
    ("delete-deployment", "`hull gc` removes what nothing needs"),
    ("loader-entries", "`hull status` lists the entries"),
    (
        "to-filesystem",
        "`hull install to-disk` installs to whole disks",
    ),
    (
        "to-existing-root",
        "`hull install to-disk` installs to whole disks",
    ),
    ("reset", "`hull install to-disk --wipe` starts anew"),
    (
        "finalize",
        "what `hull install to-disk` makes needs no more steps",
    ),
    (
        "copy-to-storage",
        "`hull image push IMAGE containers-storage:NAME` does that",
    ),
    (
        "set-unified",
        "images of podman's store are named containers-storage:IMAGE",
    ),
    ("cmd", "podman itself does that"),
    (
        "pull-from-default-storage",
        "`hull image pull containers-storage:IMAGE` does that",
    ),
    (
        "export",
        "`podman image mount`, or `podman export` of a container of it, gives its files",
    ),
    (
        "ensure-completion",
        "what `hull install to-disk` makes needs no more steps",
    ),
    (
        "composefs-finalize-staged",
        "/etc is merged when the new system boots",
    ),
    ("state", "no ostree is there to be wiped"),
];

/// Gives the reason where somebody used what only bootc has.
pub(super) fn explain(error: Error, command: &mut Command) -> Error {
    let (table, kind) = match error.kind() {
        ErrorKind::UnknownArgument => (OPTIONS, ContextKind::InvalidArg),
        ErrorKind::InvalidSubcommand => (VERBS, ContextKind::InvalidSubcommand),
        _ => return error,
    };
    let Some(ContextValue::String(used)) = error.get(kind) else {
        return error;
    };
    let used = used.split('=').next().unwrap_or_default();
    match table.iter().find(|(name, _)| *name == used) {
        Some((name, reason)) => {
            command.error(error.kind(), format!("hull has no `{name}`: {reason}"))
        }
        None => error,
    }
}
