//! What people read, as it was when somebody last looked at it.

use hull_boot::entry::EntryName;
use hull_boot::record::{BootFile, DeploymentName, Operation};
use hull_deploy::cleanup::Cleanup;
use hull_deploy::foresee::{Preview, Then};
use hull_deploy::history::Event;
use hull_deploy::retention::Retention;
use hull_deploy::rollback::RollbackPlan;
use hull_deploy::room::Room;
use hull_deploy::stage::StagePlan;
use hull_deploy::state::Downloaded;
use hull_deploy::update::{Outcome, Staged};
use hull_erofs::fsverity::ObjectId;
use hull_store::fsck::{Checked, Damage, Finding, Report, User};
use hull_store::gc::Garbage;
use hull_store::{Store, Verity};

use super::gc::Tense;
use super::update::{Layers, Offer};
use super::{Style, fsck, gc, history, rollback, update};
use crate::golden;
use crate::host_v1::fixtures;

const PLAIN: fn() -> Style = Style::default;

fn object(n: u8) -> ObjectId {
    ObjectId::from_bytes([n; ObjectId::LEN])
}

fn name(n: u8) -> DeploymentName {
    DeploymentName {
        digest: object(n),
        generation: n.into(),
    }
}

fn digest(digit: &str) -> String {
    format!("sha256:{}", digit.repeat(64))
}

/// The plan for a store without anything in it.
fn nothing() -> Cleanup {
    let temp = tempfile::tempdir().unwrap();
    let dir = std::fs::File::open(temp.path()).unwrap();
    let store = Store::create(dir.into(), Verity::WhereSupported).unwrap();
    Cleanup {
        retention: Retention::default(),
        store: hull_store::gc::plan(&store, &[]).unwrap(),
        downloads: Vec::new(),
    }
}

fn much() -> Cleanup {
    let mut cleanup = nothing();
    cleanup.retention = Retention {
        entries: vec![EntryName::parse("hull-1.conf").unwrap()],
        boot_directories: vec!["d".repeat(64), "new-0123".to_owned()],
        deployments: vec![name(1)],
    };
    let garbage = |n| Garbage {
        object: object(n),
        size: 600_000 * u64::from(n),
    };
    cleanup.store.objects = vec![garbage(1), garbage(2)];
    cleanup.store.streams = vec!["oci-manifest-x".to_owned()];
    cleanup.store.images = vec![object(1)];
    cleanup.store.dangling = vec!["streams/refs/x".to_owned()];
    cleanup
}

#[test]
fn gc_looks_as_it_did() {
    let shown = [
        gc::render(&nothing(), Tense::Past, false, PLAIN()),
        gc::render(&much(), Tense::Future, false, PLAIN()),
        gc::render(&much(), Tense::Past, true, PLAIN()),
    ];
    golden::check("gc.txt", &shown.join("\n"));
}

fn damaged() -> Report {
    let user = User::Image(object(3));
    let foreign = |n: u8| Finding::Foreign {
        path: format!("objects/{n}"),
    };
    let mut report = Report {
        findings: vec![
            Finding::Missing {
                object: object(1),
                users: vec![user.clone()],
            },
            Finding::Damaged {
                object: object(2),
                damage: Damage::Truncated {
                    length: 3,
                    expected: Some(4),
                },
                users: Vec::new(),
            },
        ],
        checked: Checked {
            objects: 12_345,
            measured: 12_000,
            streams: 7,
            images: 1,
            references: 2,
        },
        references: [(
            user,
            vec![format!("images/refs/hull/deployments/{}", name(3))],
        )]
        .into(),
    };
    report.findings.extend((0..5).map(foreign));
    report
}

#[test]
fn fsck_looks_as_it_did() {
    let sound = Report::default();
    let shown = [
        fsck::render(&sound, false, PLAIN()),
        fsck::render(&damaged(), false, PLAIN()),
        fsck::render(&damaged(), true, PLAIN()),
    ];
    golden::check("fsck.txt", &shown.join("\n"));
    let json = serde_json::to_string_pretty(&fsck::document(&damaged())).unwrap();
    golden::check("fsck.json", &json);
}

fn offer() -> Offer {
    Offer {
        reference: "docker://registry.example/os/debian:stable".to_owned(),
        manifest_digest: digest("2"),
        version: Some("2".to_owned()),
        created: Some("2026-02-01T00:00:00.5Z".to_owned()),
        all: Layers {
            count: 67,
            bytes: 412_000_000,
        },
        missing: Layers {
            count: 3,
            bytes: 12_000_000,
        },
        deployment: None,
        known_bad: false,
    }
}

#[test]
fn what_an_update_would_be_looks_as_it_did() {
    let known = Offer {
        deployment: Some(name(1)),
        ..offer()
    };
    let bad = Offer {
        known_bad: true,
        ..known.clone()
    };
    let here = Offer {
        missing: Layers::default(),
        ..offer()
    };
    let shown = [
        update::offer(&offer(), PLAIN()),
        update::offer(&known, PLAIN()),
        update::offer(&bad, PLAIN()),
        update::dry_run(&offer(), &unknown(), PLAIN()),
        update::dry_run(&offer(), &Then::Keep, PLAIN()),
        update::dry_run(&known, &Then::Nothing, PLAIN()),
        update::dry_run(&here, &Then::StageThis(Box::new(preview(true))), PLAIN()),
        update::dry_run(&here, &Then::StageThis(Box::new(preview(false))), PLAIN()),
        update::dry_run(&here, &Then::Relabel(name(1)), PLAIN()),
    ];
    golden::check("update-offer.txt", &shown.join("\n"));
}

fn staged() -> Staged {
    let all = fixtures::all();
    let (_, seen) = all.into_iter().find(|(name, _)| *name == "staged").unwrap();
    let deployment = seen.state.deployments[0].clone();
    Staged {
        plan: StagePlan {
            name: deployment.name,
            record: deployment.record,
            entry: EntryName::counted(2),
            title: "Debian".to_owned(),
            second_initrd: None,
            etc_additions: Default::default(),
        },
        conflicts: vec!["/etc/motd: changed here and in the new image".to_owned()],
        notes: vec!["the image has no hull".to_owned()],
        removed: much().retention,
        downloaded_bytes: 12_000_000,
    }
}

/// What is known before the image is here.
fn unknown() -> Then {
    Then::Stage {
        order: 5,
        generation: 4,
        removed: Retention {
            boot_directories: Vec::new(),
            ..much().retention
        },
    }
}

fn preview(new_kernel: bool) -> Preview {
    let Staged {
        plan,
        conflicts,
        notes,
        removed,
        ..
    } = staged();
    let file = |name: &str, size| BootFile {
        name: name.to_owned(),
        digest: object(7),
        size,
    };
    let files = vec![file("linux", 12_000_000), file("initrd", 20_000_000)];
    Preview {
        plan,
        boot_files: if new_kernel { files } else { Vec::new() },
        room: Room {
            entries: vec![EntryName::good(1)],
            directories: vec!["d".repeat(64)],
        },
        removed,
        conflicts,
        notes,
    }
}

#[test]
fn what_an_update_did_looks_as_it_did() {
    let (deployment, manifest_digest) = (name(2), digest("2"));
    let outcomes = [
        Outcome::UpToDate {
            deployment,
            manifest_digest: manifest_digest.clone(),
        },
        Outcome::Relabelled {
            deployment,
            manifest_digest: manifest_digest.clone(),
        },
        Outcome::KnownBad {
            deployment,
            manifest_digest: manifest_digest.clone(),
        },
        Outcome::Downloaded(Downloaded {
            reference: offer().reference,
            manifest_digest,
        }),
        Outcome::Staged(Box::new(staged())),
    ];
    let shown = outcomes.map(|outcome| update::outcome(&outcome, PLAIN()));
    golden::check("update-outcome.txt", &shown.join("\n"));
}

#[test]
fn history_looks_as_it_did() {
    let event = |n: u8, operation| Event {
        when: format!("2026-01-0{n}T03:04:05Z"),
        operation,
        deployment: name(n),
        order: n.into(),
        reference: offer().reference,
        manifest_digest: digest(&n.to_string()),
        version: (n != 2).then(|| n.to_string()),
    };
    let events = [event(1, Operation::Install), event(2, Operation::Upgrade)];
    let shown = [
        history::render(&[], false, PLAIN()),
        history::render(&events, false, PLAIN()),
        history::render(&events, true, Style::new(true)),
    ];
    golden::check("history.txt", &shown.join("\n"));
}

#[test]
fn rollback_looks_as_it_did() {
    let all = fixtures::all();
    let (_, seen) = all
        .into_iter()
        .find(|(name, _)| *name == "after-upgrade")
        .unwrap();
    let plan = RollbackPlan {
        deployment: name(1),
        entry: EntryName::good(3),
        content: seen.state.entries[0].entry.clone(),
        dropped: vec![EntryName::counted(2)],
        takes_back: false,
    };
    let back = RollbackPlan {
        dropped: Vec::new(),
        takes_back: true,
        ..plan.clone()
    };
    let shown = [
        rollback::render(&plan, Some("1"), false, PLAIN()),
        rollback::render(&plan, None, true, PLAIN()),
        rollback::render(&back, Some("2"), false, PLAIN()),
    ];
    golden::check("rollback.txt", &shown.join("\n"));
}
