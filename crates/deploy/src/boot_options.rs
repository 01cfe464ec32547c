//! The kernel command lines and entries of deployments.

use hull_boot::cmdline;
use hull_boot::entry::{Entry, EntryName};
use hull_boot::record::{DeploymentName, Record};

/// What a counted entry carries beside the machine's own arguments: all that
/// makes a boot that fails end in a reboot, so that the loader counts it.
///
/// `panic`: the kernel. `rd.shell`, `rd.emergency`: dracut. `hull.try`: hull's
/// unit in emergency.target, which reboots instead of waiting for somebody.
/// `systemd.wants`: the unit that asks for boot-complete.target (with a time
/// limit that ends in a reboot) and then makes the entry a good one.
const TRY_ARGUMENTS: [&str; 5] = [
    "panic=10",
    "rd.shell=0",
    "rd.emergency=reboot",
    "hull.try",
    "systemd.wants=hull-bless.service",
];

/// The command line of a deployment's entry.
pub fn command_line(name: &DeploymentName, record: &Record, counted: bool) -> String {
    let mut words = record.kernel_arguments.clone();
    words.push(cmdline::composefs_argument(
        &record.composefs.digest,
        record.composefs.verity,
    ));
    words.push(cmdline::deployment_argument(name));
    if counted {
        words.extend(TRY_ARGUMENTS.map(str::to_owned));
    }
    words.join(" ")
}

/// The entry of a deployment under that name.
pub fn entry(title: &str, entry: EntryName, name: &DeploymentName, record: &Record) -> Entry {
    let directory = &record.boot_files.directory;
    let mut paths = record
        .boot_files
        .files
        .iter()
        .map(|file| format!("/EFI/hull/{directory}/{}", file.name));
    Entry {
        title: title.to_owned(),
        version: entry.order,
        linux: paths.next().unwrap_or_default(),
        initrds: paths.collect(),
        options: command_line(name, record, entry.counter.is_some()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::fixtures::{machine, name};

    #[test]
    fn only_a_counted_entry_reboots_by_itself_when_it_fails() {
        let state = machine(&[(1, "hull-1.conf")]).0;
        let record = &state.deployments[0].record;
        let tried = entry("t", EntryName::counted(1), &name(1), record).options;
        let good = entry("t", EntryName::good(1), &name(1), record).options;
        assert!(tried.contains("panic=10") && tried.contains("hull-bless"));
        assert!(!good.contains("panic") && !good.contains("hull-bless"));
        assert!(tried.starts_with(&good));
    }
}
