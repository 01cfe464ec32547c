//! What the command line accepts, and how it explains itself.

use std::ffi::OsString;

use clap::Command;
use clap::error::ErrorKind;

use super::*;
use crate::golden;

fn parsed(line: &str) -> Result<Verb, ErrorKind> {
    let arguments = line.split_whitespace().map(OsString::from);
    parse(arguments)
        .map(|(cli, _)| cli.verb)
        .map_err(|error| error.kind())
}

/// Every command with its path, such as `hull-install-to-disk`.
fn commands() -> Vec<(String, Command)> {
    fn collect(command: &Command, path: &str, found: &mut Vec<(String, Command)>) {
        found.push((path.to_owned(), command.clone()));
        for sub in command.get_subcommands() {
            collect(sub, &format!("{path}-{}", sub.get_name()), found);
        }
    }
    let mut command = command("hull");
    command.build();
    let mut found = Vec::new();
    collect(&command, "hull", &mut found);
    found
}

#[test]
fn definitions_are_consistent() {
    command("hull").debug_assert();
}

#[test]
fn help_looks_as_it_did() {
    for (path, mut command) in commands() {
        let help = command.render_long_help().to_string();
        let help: Vec<_> = help.lines().map(str::trim_end).collect();
        golden::check(
            &format!("help-{path}.txt"),
            &format!("{}\n", help.join("\n")),
        );
    }
}

#[test]
fn no_help_is_wider_than_80_columns() {
    for (path, mut command) in commands() {
        for help in [command.render_help(), command.render_long_help()] {
            for line in help.to_string().lines() {
                assert!(line.chars().count() <= HELP_WIDTH, "{path}: {line}");
            }
        }
    }
}

#[test]
fn every_argument_is_explained() {
    for (path, command) in commands() {
        assert!(command.get_about().is_some(), "{path} is not explained");
        for argument in command.get_arguments() {
            let id = argument.get_id();
            assert!(
                argument.get_help().is_some(),
                "{path}: {id} is not explained"
            );
        }
    }
}

#[test]
fn arguments_that_contradict_each_other_are_refused() {
    for line in [
        "hull upgrade --check --apply",
        "hull upgrade --check --download-only",
        "hull upgrade --check --from-downloaded",
        "hull upgrade --check --dry-run",
        "hull upgrade --download-only --apply",
        "hull upgrade --download-only --from-downloaded",
        "hull upgrade --apply --dry-run",
        "hull upgrade --from-downloaded --dry-run",
        "hull switch image --apply --dry-run",
        "hull rollback --apply --dry-run",
        "hull status --json --format yaml",
    ] {
        assert_eq!(
            parsed(line).unwrap_err(),
            ErrorKind::ArgumentConflict,
            "{line}"
        );
    }
}

#[test]
fn arguments_that_need_others_are_refused_without_them() {
    for line in [
        "hull upgrade --exit-code",
        "hull switch",
        "hull pin",
        "hull install to-disk disk.raw",
        "hull install to-disk --source-imgref x",
    ] {
        assert_eq!(
            parsed(line).unwrap_err(),
            ErrorKind::MissingRequiredArgument,
            "{line}"
        );
    }
}

#[test]
fn values_out_of_range_are_refused() {
    for line in [
        "hull upgrade --progress-fd 2",
        "hull upgrade --progress-fd=-1",
        "hull upgrade --progress-fd x",
        "hull status --format-version 2",
        "hull install to-disk --source-imgref x --size 10GB disk.raw",
    ] {
        assert_eq!(
            parsed(line).unwrap_err(),
            ErrorKind::ValueValidation,
            "{line}"
        );
    }
    for line in [
        "hull status --format xml",
        "hull switch --transport dir image",
        "hull install to-disk --source-imgref x --block-setup tpm2-luks disk.raw",
        "hull install to-disk --source-imgref x --filesystem zfs disk.raw",
    ] {
        assert_eq!(parsed(line).unwrap_err(), ErrorKind::InvalidValue, "{line}");
    }
}

#[test]
fn lines_made_for_bootc_are_understood() {
    for line in [
        "bootc status --json",
        "bootc status --format=json --format-version=1",
        "bootc status --booted -v",
        "bootc upgrade",
        "bootc update --quiet",
        "bootc upgrade --check",
        "bootc upgrade --download-only --progress-fd 3",
        "bootc upgrade --from-downloaded --apply",
        "bootc switch --transport registry --retain quay.example/os:1",
        "bootc switch --apply quay.example/os:1",
        "bootc rollback --apply",
        "bootc install to-disk --via-loopback --generic-image --filesystem xfs --wipe \
         --disable-selinux --skip-fetch-check --block-setup direct --bootloader systemd \
         --composefs-backend --allow-missing-verity \
         --source-imgref docker://quay.example/os:1 --target-imgref quay.example/os:1 \
         --target-transport registry --karg=quiet --karg console=ttyS0 --karg-delete=rhgb \
         --root-ssh-authorized-keys /keys --root-size 10G /dev/vda",
        "bootc install print-configuration --all",
        "bootc image list --type host --format json",
        "bootc container lint",
        "bootc container lint --rootfs /r --fatal-warnings --no-truncate --skip kernel --skip utf8",
        "bootc container lint --list",
        "bootc completion bash",
    ] {
        assert!(parsed(line).is_ok(), "{line}: {:?}", parsed(line));
    }
}

#[test]
fn the_program_speaks_of_itself_by_the_name_it_was_called_by() {
    for (called, name) in [
        ("/usr/bin/bootc", "bootc"),
        ("hull", "hull"),
        ("./hull-x", "hull"),
    ] {
        let (_, answered) = parse([called, "status"].map(OsString::from)).unwrap();
        assert_eq!(answered, name);
    }
    let error = parse(["bootc", "nonsense"].map(OsString::from)).unwrap_err();
    assert!(error.to_string().contains("Usage: bootc"), "{error}");
}

#[test]
fn an_image_without_transport_is_of_the_one_that_is_named() {
    for (transport, name, reference) in [
        (
            Transport::Registry,
            "a.example/b:c",
            "docker://a.example/b:c",
        ),
        (
            Transport::Registry,
            "docker://a.example/b",
            "docker://a.example/b",
        ),
        (Transport::Registry, "oci:/a", "oci:/a"),
        (
            Transport::ContainersStorage,
            "registry:localhost:5000/a:b",
            "registry:localhost:5000/a:b",
        ),
        (
            Transport::Registry,
            "registry:5000/a:b",
            "docker://registry:5000/a:b",
        ),
        (Transport::Oci, "/a:b", "oci:/a:b"),
        (Transport::Oci, "oci:/a:b", "oci:/a:b"),
        (Transport::OciArchive, "/a.tar", "oci-archive:/a.tar"),
        (Transport::DockerArchive, "-", "docker-archive:-"),
        (
            Transport::ContainersStorage,
            "[/srv]localhost/os",
            "containers-storage:[/srv]localhost/os",
        ),
    ] {
        assert_eq!(transport.reference(name), reference);
    }
}

#[test]
fn what_is_asked_for_arrives() {
    let Ok(Verb::Upgrade(upgrade)) = parsed("hull update --check --exit-code --authfile /a") else {
        panic!("no upgrade");
    };
    assert!(upgrade.check && upgrade.exit_code && !upgrade.apply);
    assert_eq!(upgrade.auth.authfile, Some("/a".into()));
    let line = "hull install to-disk --source-imgref x --karg a=b --karg c --size 10G d.raw";
    let Ok(Verb::Install(install::Install::ToDisk(disk))) = parsed(line) else {
        panic!("no install");
    };
    assert_eq!(disk.karg, ["a=b", "c"]);
    assert_eq!(disk.size, Some(size::Size(10 << 30)));
}

#[test]
fn what_only_bootc_has_is_refused_by_name_with_what_to_do_instead() {
    for (words, expected) in [
        (
            &["hull", "upgrade", "--soft-reboot=required"][..],
            "hull has no `--soft-reboot`: ",
        ),
        (&["hull", "upgrade", "--tag", "v2"], "`hull switch` follows"),
        (
            &["hull", "container", "ukify"],
            "hull starts kernel and initrd",
        ),
        (&["hull", "usr-overlay"], "hull has no `usr-overlay`: "),
        (
            &["hull", "install", "to-filesystem", "/mnt"],
            "hull install to-disk",
        ),
    ] {
        let error = parse(words.iter().map(OsString::from)).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    let error = parse(["hull", "upgrade", "--no-such"].map(OsString::from)).unwrap_err();
    assert!(error.to_string().contains("unexpected argument"), "{error}");
}

#[test]
fn a_users_numbers_are_wanted_where_layers_in_podmans_storage_are_read_and_nothing_else() {
    let reads = |line: &str| {
        let words = line.split(' ').map(std::ffi::OsString::from);
        let (cli, _) = parse(words).expect("it is a command");
        !cli.podmans_images().is_empty()
    };
    for line in [
        "hull image copy containers-storage:localhost/os oci:out",
        "hull image pull --store s containers-storage:os",
        "hull chunk --from containers-storage:os --output oci:out",
        "hull chunk report containers-storage:os:1 containers-storage:os:2",
        "hull container lint --image containers-storage:os",
        "hull build-chunked-oci --from localhost/os --output oci:out",
    ] {
        assert!(reads(line), "{line}");
    }
    for line in [
        "hull image copy oci:in containers-storage:localhost/os",
        "hull chunk --rootfs r --previous containers-storage:os:1 --output oci:out",
        "hull chunk verify r containers-storage:os",
        "hull image pull quay.io/containers-storage:os",
        "hull status",
    ] {
        assert!(!reads(line), "{line}");
    }
}
