//! Machines in every state that `status` tells of.

use hull_boot::cmdline;
use hull_boot::entry::{Entry, EntryName, loader_order};
use hull_boot::esp::InstalledEntry;
use hull_boot::record::{
    BootFiles, ComposefsRecord, DeploymentName, ImageRecord, Operation, Record,
};
use hull_deploy::state::{Deployment, Downloaded};
use hull_erofs::fsverity::ObjectId;

use super::Observation;

fn name(n: u8) -> DeploymentName {
    DeploymentName {
        digest: ObjectId::from_bytes([0x10 * n + n; ObjectId::LEN]),
        generation: n.into(),
    }
}

fn deployment(n: u8) -> Deployment {
    let digest = |digit: &str| format!("sha256:{}", digit.repeat(64));
    Deployment {
        name: name(n),
        record: Record {
            image: ImageRecord {
                enforce_policy: false,
                reference: "docker://registry.example/os/debian:stable".into(),
                manifest_digest: digest(&n.to_string()),
                version: Some(n.to_string()),
                created: Some(format!("2026-01-0{n}T03:04:05.123Z")),
                architecture: "amd64".into(),
            },
            composefs: ComposefsRecord {
                digest: name(n).digest,
                verity: n < 3,
            },
            kernel_arguments: vec!["console=ttyS0".into(), "quiet".into()],
            boot_files: BootFiles {
                directory: "d".repeat(64),
                files: Vec::new(),
            },
            bound_images: Vec::new(),
            previous: None,
            operation: Operation::Upgrade,
            created: "2026-01-01T00:00:00Z".into(),
        },
        has_etc: true,
        pinned: false,
    }
}

/// A machine with these deployments, each with its entry; the first is the newest.
fn machine(deployments: &[(u8, &str)], booted: u8) -> Observation {
    let mut seen = Observation::default();
    for (n, entry) in deployments {
        seen.state.deployments.push(deployment(*n));
        add_entry(&mut seen, *n, entry);
    }
    seen.state.booted = Some(name(booted));
    seen
}

fn add_entry(seen: &mut Observation, n: u8, file_name: &str) {
    let entry = EntryName::parse(file_name).unwrap();
    let options = format!(
        "{} {}",
        cmdline::composefs_argument(&name(n).digest, n == 1),
        cmdline::deployment_argument(&name(n))
    );
    seen.state.entries.push(InstalledEntry {
        name: entry,
        entry: Entry {
            title: format!("Debian {n}"),
            version: entry.order,
            linux: format!("/EFI/hull/{}/linux", "d".repeat(64)),
            initrds: Vec::new(),
            options,
        },
    });
    seen.state
        .entries
        .sort_by_key(|found| loader_order(&found.name));
}

fn staged(seen: &mut Observation) {
    seen.state.deployments[0].has_etc = false;
}

/// All of them, with the names of their snapshots.
pub(crate) fn all() -> Vec<(&'static str, Observation)> {
    let mut all = vec![("one-deployment", machine(&[(1, "hull-1.conf")], 1))];

    let mut seen = machine(&[(2, "hull-2+3-0.conf"), (1, "hull-1.conf")], 1);
    staged(&mut seen);
    all.push(("staged", seen));

    let mut seen = machine(&[(2, "hull-2.conf"), (1, "hull-1.conf")], 2);
    all.push((
        "after-upgrade",
        machine(&[(2, "hull-2.conf"), (1, "hull-1.conf")], 2),
    ));
    add_entry(&mut seen, 1, "hull-3.conf");
    all.push(("rollback-queued", seen));

    let entries = [
        (3, "hull-3+2-1.conf"),
        (2, "hull-2.conf"),
        (1, "hull-1.conf"),
    ];
    let mut seen = machine(&entries, 3);
    seen.state.deployments[2].pinned = true;
    seen.state.deployments[2].record.image.reference = "oci:/srv/image:golden".into();
    seen.etc_conflicts = vec![
        "/etc/ssh/sshd_config: changed here and in the new image; this machine's version is used"
            .into(),
    ];
    all.push(("pinned", seen));

    let mut seen = machine(&[(1, "hull-1.conf")], 1);
    seen.state.downloaded = Some(downloaded());
    all.push(("download-only", seen));

    let mut seen = machine(&[(2, "hull-2+0-3.conf"), (1, "hull-1.conf")], 1);
    seen.state.warnings = vec![format!(
        "deployment {} did not come up in 3 tries, the boot loader has given it up",
        name(2)
    )];
    all.push(("bad-deployment", seen));

    let mut seen = machine(&[(1, "hull-1.conf")], 1);
    let image = &mut seen.state.deployments[0].record.image;
    image.version = Some("1\u{1b}[2J\nwarning: call 555".into());
    image.created = Some("soon".into());
    all.push(("hostile-labels", seen));

    let mut seen = machine(&[(1, "hull-2.conf")], 1);
    seen.booted_verity = Some(false);
    all.push(("verity-since-boot", seen));

    all.push(("not-a-deployment", Observation::default()));
    all
}

fn downloaded() -> Downloaded {
    Downloaded {
        reference: "docker://registry.example/os/debian:stable".into(),
        manifest_digest: format!("sha256:{}", "2".repeat(64)),
    }
}
