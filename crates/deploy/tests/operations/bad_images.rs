//! Bad images: refused by name, the store and the entries as they were, and
//! the next try fine.

use crate::image::{INITRD, LOADER, Recipe, recipe};
use crate::world::World;
use hull_deploy::cleanup;
use hull_deploy::update::{self, Goal, Outcome, UpdateError};
use hull_oci::PullError;
use hull_oci::progress::Silent;
use hull_store::Kind;

/// Upgrades to a bad image, wants this in the message, then to a good one.
fn refused(bad: &Recipe, expected: &str) {
    let world = World::running();
    let before = world.machine().observe().unwrap();
    world.publish(bad);
    let error = world.upgrade().unwrap_err();
    let message = chain(&error);
    assert!(message.contains(expected), "{message}");
    let after = world.machine().observe().unwrap();
    assert_eq!(before.entries, after.entries);
    assert_eq!(before.deployments.len(), after.deployments.len());
    assert_eq!(world.next_version(), "1");
    world.publish(&recipe("3"));
    world.upgrade().unwrap();
    assert_eq!(world.next_version(), "3");
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// Its layers give no tree.
fn without_tree(version: &'static str) -> Recipe {
    Recipe {
        hard_link: Some(("usr/evil", "usr/missing")),
        ..recipe(version)
    }
}

#[test]
fn an_image_whose_layers_give_no_tree_is_refused() {
    refused(&without_tree("2"), "usr/evil");
}

#[test]
fn layers_that_give_no_tree_are_named_with_where_they_came_from() {
    let world = World::running();
    world.publish(&without_tree("2"));
    let error = world.upgrade().unwrap_err();
    let UpdateError::Pull(PullError::Merge { layer, .. }) = error else {
        panic!("another error: {error}");
    };
    assert!(layer.is_some());
}

#[test]
fn a_tag_that_goes_back_leaves_what_was_downloaded() {
    let world = World::running();
    world.publish(&recipe("2"));
    let mut request = world.request(Goal::Upgrade);
    request.download_only = true;
    update::update(&world.machine(), &request, &Silent).unwrap();
    let refs = world.machine().store.refs(Kind::Stream).unwrap();

    world.publish(&recipe("1"));
    request.download_only = false;
    let outcome = update::update(&world.machine(), &request, &Silent).unwrap();
    assert!(matches!(outcome, Outcome::UpToDate { .. }), "{outcome:?}");
    assert_eq!(world.machine().store.refs(Kind::Stream).unwrap(), refs);

    cleanup::collect(&world.machine()).unwrap();
    request.from_downloaded = true;
    update::update(&world.machine(), &request, &Silent).unwrap();
    assert_eq!(world.next_version(), "2");
}

#[test]
fn a_bad_image_does_not_take_the_place_of_a_downloaded_one() {
    for download_only in [true, false] {
        for bad in [
            without_tree("3"),
            Recipe {
                without: &[INITRD],
                ..recipe("3")
            },
        ] {
            if download_only && bad.hard_link.is_none() {
                // Whether an image boots is asked when it is staged.
                continue;
            }
            let world = World::running();
            world.publish(&recipe("2"));
            let mut request = world.request(Goal::Upgrade);
            request.download_only = true;
            update::update(&world.machine(), &request, &Silent).unwrap();
            let downloaded = world.machine().observe().unwrap().downloaded;
            let refs = world.machine().store.refs(Kind::Stream).unwrap();

            world.publish(&bad);
            request.download_only = download_only;
            update::update(&world.machine(), &request, &Silent).unwrap_err();
            assert_eq!(world.machine().observe().unwrap().downloaded, downloaded);
            assert_eq!(world.machine().store.refs(Kind::Stream).unwrap(), refs);

            cleanup::collect(&world.machine()).unwrap();
            request.download_only = false;
            request.from_downloaded = true;
            update::update(&world.machine(), &request, &Silent).unwrap();
            assert_eq!(world.next_version(), "2");
        }
    }
}

#[test]
fn an_image_without_a_kernel_is_refused() {
    let bad = Recipe {
        without: &["usr/lib/modules/6.12/vmlinuz"],
        ..recipe("2")
    };
    refused(&bad, "no kernel");
}

#[test]
fn an_image_with_two_kernels_is_refused() {
    let bad = Recipe {
        with: &[("usr/lib/modules/6.13/vmlinuz", "another kernel")],
        ..recipe("2")
    };
    refused(&bad, "6.12, 6.13");
}

#[test]
fn an_image_with_a_link_in_the_place_of_a_directory_of_the_system_is_refused() {
    // What lies below goes where the link leads, so nothing else is missing.
    for (name, target) in [
        ("etc", "usr/etc"),
        ("etc", "/usr/etc"),
        ("var", "/run"),
        ("boot", "/efi"),
        ("sysroot", "usr"),
        ("usr", "real"),
    ] {
        let bad = Recipe {
            link: Some((name, target)),
            ..recipe("2")
        };
        let expected = match name {
            // Links are not followed to it either, and it is asked for first.
            "usr" => "no kernel".to_owned(),
            _ => format!("/{name} "),
        };
        refused(&bad, &expected);
    }
}

#[test]
fn an_image_without_an_initrd_is_refused() {
    refused(
        &Recipe {
            without: &[INITRD],
            ..recipe("2")
        },
        "no initrd",
    );
}

#[test]
fn an_image_for_another_platform_is_refused() {
    let bad = Recipe {
        architecture: Some("s390x"),
        ..recipe("2")
    };
    refused(&bad, "s390x");
}

#[test]
fn an_image_whose_setup_root_is_of_another_age_is_refused() {
    let bad = Recipe {
        without: &["usr/lib/hull/setup-root.version"],
        with: &[("usr/lib/hull/setup-root.version", "formats=8-9")],
        ..recipe("2")
    };
    refused(&bad, "formats 8 to 9");
}

#[test]
fn an_image_with_bad_kernel_arguments_is_refused_with_the_file_name() {
    let bad = Recipe {
        with: &[("usr/lib/bootc/kargs.d/9.toml", "kargs = 1")],
        ..recipe("2")
    };
    refused(&bad, "9.toml");
}

#[test]
fn an_image_with_more_kernel_arguments_than_a_kernel_reads_is_refused() {
    let arguments = format!("kargs = [\"{}\"]", "long".repeat(500)).leak();
    let bad = Recipe {
        with: vec![("usr/lib/bootc/kargs.d/9.toml", &*arguments)].leak(),
        ..recipe("2")
    };
    refused(&bad, "the kernel reads 2047");
}

#[test]
fn an_image_with_an_endless_name_and_version_gets_short_ones() {
    let world = World::running();
    let name = format!("PRETTY_NAME=\"{}\"\n", "long".repeat(100_000)).leak();
    world.publish(&Recipe {
        without: &["usr/lib/os-release"],
        with: vec![("usr/lib/os-release", &*name)].leak(),
        ..recipe("2")
    });
    world.upgrade().unwrap();
    world.boot();
    world.bless();
    // The same system under another label: its record is written anew.
    world.publish(&Recipe {
        without: &["usr/lib/os-release"],
        with: vec![("usr/lib/os-release", &*name)].leak(),
        version: "2é".repeat(700_000).leak(),
        content: Some("2"),
        ..recipe("2")
    });
    assert!(matches!(
        world.upgrade().unwrap(),
        Outcome::Relabelled { .. }
    ));
    assert_eq!(world.next_version(), "2é".repeat(100));
    world.publish(&recipe("3"));
    world.upgrade().unwrap();
    assert_eq!(world.next_version(), "3");
}

#[test]
fn an_image_with_more_files_in_var_than_a_process_may_open_is_installed() {
    let world = World::empty();
    let files = (0..400).map(|n| (&*format!("var/lib/many/{n}").leak(), "x"));
    world.publish(&Recipe {
        with: files.collect::<Vec<_>>().leak(),
        ..recipe("1")
    });
    assert!(crate::cuts::with_few_descriptors("install", &world));
    assert!(
        world
            .path()
            .join("root/state/os/default/var/lib/many/399")
            .exists()
    );
}

#[test]
fn an_image_that_cannot_mount_its_root_is_refused_where_hull_has_no_setup_root_to_add() {
    let bad = Recipe {
        without: &["usr/lib/hull/setup-root.version"],
        ..recipe("2")
    };
    refused(&bad, "setup-root");
}

#[test]
fn an_image_without_a_boot_loader_cannot_be_installed() {
    let world = World::empty();
    world.publish(&Recipe {
        without: &[LOADER],
        ..recipe("1")
    });
    let error = world.install().unwrap_err();
    assert!(chain(&error).contains("no systemd-boot"), "{error}");
    assert!(!world.has_entry());
    world.publish(&recipe("1"));
    world.install().unwrap();
    assert_eq!(world.next_version(), "1");
}

#[test]
fn a_layer_whose_bytes_changed_is_refused_and_pulled_when_it_is_right_again() {
    let world = World::running();
    world.publish(&recipe("2"));
    let blobs = world.path().join("layout/blobs/sha256");
    let mut damaged = Vec::new();
    for entry in std::fs::read_dir(blobs).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        if bytes.len() > 4096 {
            let mut changed = bytes.clone();
            changed[700] ^= 1;
            crate::image::write(&path, &changed);
            damaged.push((path, bytes));
        }
    }
    let error = world.upgrade().unwrap_err();
    assert!(chain(&error).contains("sha256:"), "{error}");
    assert_eq!(world.next_version(), "1");
    for (path, bytes) in damaged {
        crate::image::write(&path, &bytes);
    }
    world.upgrade().unwrap();
    assert_eq!(world.next_version(), "2");
}
