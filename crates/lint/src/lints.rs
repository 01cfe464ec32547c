//! The list of lints, and running them.

use crate::finding::{Finding, Verdict};
use crate::root::Root;
use crate::{accounts, boot, bound_images, config, labels, layout, leftovers, names, tmpfiles};

/// How bad it is when a lint finds something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The image does not boot, or cannot be installed or stored as it is.
    Fatal,
    /// The image works, and something in it is likely not meant so.
    Warning,
}

impl Severity {
    /// The word for it, in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fatal => "fatal",
            Self::Warning => "warning",
        }
    }
}

/// One check.
#[derive(Debug, Clone, Copy)]
pub struct Lint {
    /// Its name, for `--skip`.
    pub name: &'static str,
    /// How bad its findings are.
    pub severity: Severity,
    /// What holds when it finds nothing, in one line.
    pub about: &'static str,
    /// Whether bootc has a lint of this name.
    pub of_bootc: bool,
    check: fn(&Root) -> Verdict,
}

/// What came of one lint.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Which one.
    pub lint: &'static Lint,
    /// What it says; nothing where it was skipped on request.
    pub verdict: Option<Verdict>,
}

impl Outcome {
    /// What it found.
    pub fn findings(&self) -> &[Finding] {
        match &self.verdict {
            Some(Verdict::Checked(findings)) => findings,
            _ => &[],
        }
    }

    /// Whether it was checked, and nothing was found.
    pub fn passed(&self) -> bool {
        matches!(&self.verdict, Some(Verdict::Checked(findings)) if findings.is_empty())
    }

    /// Whether it found something of this severity.
    pub fn failed(&self, severity: Severity) -> bool {
        self.lint.severity == severity && !self.findings().is_empty()
    }
}

/// Runs all lints but those named in `skip`, in the order of [`LINTS`].
pub fn run(root: &Root, skip: &[String]) -> Vec<Outcome> {
    let one = |lint: &'static Lint| Outcome {
        lint,
        verdict: (!skip.iter().any(|name| name == lint.name)).then(|| sorted((lint.check)(root))),
    };
    LINTS.iter().map(one).collect()
}

fn sorted(mut verdict: Verdict) -> Verdict {
    if let Verdict::Checked(findings) = &mut verdict {
        findings.sort();
        findings.dedup();
    }
    verdict
}

const fn lint(
    name: &'static str,
    severity: Severity,
    about: &'static str,
    check: fn(&Root) -> Verdict,
) -> Lint {
    Lint {
        name,
        severity,
        about,
        of_bootc: false,
        check,
    }
}

/// The same, for one that bootc has.
const fn bootc(
    name: &'static str,
    severity: Severity,
    about: &'static str,
    check: fn(&Root) -> Verdict,
) -> Lint {
    Lint {
        of_bootc: true,
        ..lint(name, severity, about, check)
    }
}

use Severity::{Fatal, Warning};

/// All lints: those that bootc has, under its names, then hull's own.
pub const LINTS: &[Lint] = &[
    bootc(
        "var-run",
        Fatal,
        "/var/run is a symbolic link",
        layout::var_run,
    ),
    bootc(
        "etc-usretc",
        Fatal,
        "there is /etc or /usr/etc, not both",
        layout::etc_usretc,
    ),
    bootc(
        "bootc-kargs",
        Fatal,
        "the files of /usr/lib/bootc/kargs.d can be read, without unknown keys",
        config::bootc_kargs,
    ),
    bootc(
        "kernel",
        Fatal,
        "there is at most one kernel below /usr/lib/modules",
        boot::kernel,
    ),
    bootc(
        "utf8",
        Fatal,
        "all names and the targets of all links are UTF-8",
        names::utf8,
    ),
    bootc(
        "baseimage-root",
        Fatal,
        "/sysroot is a directory; with ostree in the image, /ostree leads to sysroot/ostree",
        layout::baseimage_root,
    ),
    bootc(
        "api-base-directories",
        Fatal,
        "/dev, /proc, /run, /sys, /tmp and /var are directories",
        layout::api_base_directories,
    ),
    bootc(
        "var-log",
        Warning,
        "no file in /var/log has content",
        leftovers::var_log,
    ),
    bootc(
        "nonempty-boot",
        Warning,
        "/boot is there, and has nothing in it but EFI",
        leftovers::nonempty_boot,
    ),
    bootc(
        "buildah-injected",
        Warning,
        "/etc/hostname and /etc/resolv.conf are not the empty files of a build",
        leftovers::buildah_injected,
    ),
    bootc(
        "var-tmpfiles",
        Warning,
        "tmpfiles.d makes what is in /var",
        tmpfiles::var_tmpfiles,
    ),
    bootc(
        "sysusers",
        Warning,
        "sysusers.d makes the users and groups of /etc/passwd and /etc/group",
        accounts::sysusers,
    ),
    bootc(
        "baseimage-composefs",
        Warning,
        "with ostree in the image, prepare-root.conf turns composefs on",
        layout::baseimage_composefs,
    ),
    bootc(
        "nonempty-run-tmp",
        Warning,
        "/run and /tmp are empty",
        leftovers::nonempty_run_tmp,
    ),
    lint(
        "readable",
        Fatal,
        "every name of the root can be looked at",
        names::readable,
    ),
    lint(
        "kernel-initramfs",
        Fatal,
        "there is a kernel that firmware can start, and beside it an initrd that the kernel can unpack",
        boot::kernel_initramfs,
    ),
    lint(
        "setup-root",
        Fatal,
        "where the image says that its initrd has setup-root, it has one of this hull's format",
        boot::setup_root,
    ),
    lint(
        "second-initrd",
        Warning,
        "the initrd has setup-root, so that hull need not add a second one",
        boot::second_initrd,
    ),
    lint(
        "initrd-modules",
        Warning,
        "the kernel or the initrd has EROFS and overlay, which the root is mounted with",
        boot::initrd_modules,
    ),
    lint(
        "systemd-boot",
        Fatal,
        "there is the EFI program of systemd-boot, which an installation needs",
        boot::systemd_boot,
    ),
    lint(
        "kargs",
        Warning,
        "kargs.d has nothing that is ignored, or that is for hull to say",
        config::kargs,
    ),
    lint(
        "install-config",
        Fatal,
        "the files of /usr/lib/bootc/install can be read, without unknown keys",
        config::install_config,
    ),
    lint(
        "setup-root-conf",
        Fatal,
        "setup-root-conf.toml and prepare-root.conf can be read",
        config::setup_root_conf,
    ),
    lint(
        "bound-images",
        Fatal,
        "bound-images.d has links to quadlet files that each name an image",
        bound_images::bound_images,
    ),
    lint(
        "chunkable",
        Warning,
        "there is no file that hull chunk refuses",
        names::chunkable,
    ),
    lint(
        "labels",
        Warning,
        "an image has the label containers.bootc=1, and a version",
        labels::labels,
    ),
    lint(
        "os-release",
        Warning,
        "os-release has a PRETTY_NAME for the boot menu",
        layout::os_release,
    ),
    lint(
        "hull-program",
        Warning,
        "hull is in the image, so that machines can upgrade themselves",
        layout::hull_program,
    ),
    lint(
        "machine-id",
        Warning,
        "/etc/machine-id has no number, which all machines would share",
        leftovers::machine_id,
    ),
    lint(
        "ssh-host-keys",
        Warning,
        "/etc/ssh has no host keys, which all machines would share",
        leftovers::ssh_host_keys,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_documentation_has_every_lint_with_its_severity_and_no_other() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/lint.md");
        let text = std::fs::read_to_string(path).unwrap();
        let rows: BTreeSet<(&str, &str)> = text
            .lines()
            .filter_map(|line| line.strip_prefix("| `"))
            .filter_map(|row| {
                let mut cells = row.split('|').map(str::trim);
                Some((cells.next()?.trim_end_matches('`'), cells.next()?))
            })
            .collect();
        let there: BTreeSet<_> = LINTS
            .iter()
            .map(|lint| (lint.name, lint.severity.name()))
            .collect();
        assert_eq!(rows, there);
    }

    #[test]
    fn all_lints_of_bootc_are_there_and_no_name_comes_twice() {
        let of_bootc = LINTS.iter().filter(|lint| lint.of_bootc);
        let names: Vec<_> = of_bootc
            .map(|lint| (lint.name, lint.severity.name()))
            .collect();
        assert_eq!(
            names,
            [
                ("var-run", "fatal"),
                ("etc-usretc", "fatal"),
                ("bootc-kargs", "fatal"),
                ("kernel", "fatal"),
                ("utf8", "fatal"),
                ("baseimage-root", "fatal"),
                ("api-base-directories", "fatal"),
                ("var-log", "warning"),
                ("nonempty-boot", "warning"),
                ("buildah-injected", "warning"),
                ("var-tmpfiles", "warning"),
                ("sysusers", "warning"),
                ("baseimage-composefs", "warning"),
                ("nonempty-run-tmp", "warning"),
            ]
        );
        let all: BTreeSet<_> = LINTS.iter().map(|lint| lint.name).collect();
        assert_eq!(all.len(), LINTS.len());
    }
}
