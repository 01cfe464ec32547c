//! The program itself: exit codes, streams, and files that it makes.

use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Output;

#[expect(
    clippy::disallowed_methods,
    reason = "hull runs its helpers in one place; a test runs hull"
)]
fn hull(arguments: &[&str]) -> Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_hull"))
        .args(arguments)
        .env_remove("NO_COLOR")
        .output()
        .expect("hull was built")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("messages are text")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("results are text")
}

#[test]
fn help_is_no_error_and_wrong_usage_is_2() {
    let help = hull(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(stdout(&help).contains("This machine:"));
    for arguments in [
        &["frobnicate"][..],
        &["upgrade", "--check", "--apply"],
        &["upgrade", "--progress-fd", "2"],
        &["help", "frobnicate"],
        &["switch", "not//an image"],
    ] {
        let output = hull(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(stderr(&output).starts_with("error: "), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
}

#[test]
fn a_transport_that_hull_does_not_read_is_named_and_not_taken_for_a_registry() {
    for image in [
        "docker-daemon:foo",
        "dir:/srv",
        "ostree-unverified-registry:quay.example/os",
        "https://quay.example/os",
    ] {
        let output = hull(&["image", "copy", image, "oci:out"]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let (transport, _) = image.split_once(':').expect("each has one");
        let told = stderr(&output);
        let expected = format!("the transport \"{transport}\" is not supported");
        assert!(told.contains(&expected), "{told}");
    }
}

#[test]
fn a_short_name_is_what_the_registries_conf_of_the_environment_or_the_user_says() {
    let temp = tempfile::tempdir().unwrap();
    let conf = temp.path().join("registries.conf");
    let users = temp.path().join(".config/containers");
    std::fs::create_dir_all(&users).unwrap();
    // A name that cannot be reached, so that nothing is asked.
    let text = "[aliases]\nmybase = \"registry.invalid/team/base\"\n\
                [[registry]]\nlocation = \"registry.invalid\"\nblocked = true\n";
    for path in [&conf, &users.join("registries.conf")] {
        let mut file = std::fs::File::create(path).unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    }
    let copy = |name: &str, value: &std::path::Path| {
        #[expect(clippy::disallowed_methods, reason = "a test runs hull")]
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_hull"))
            .args(["image", "copy", "mybase", "oci:out"])
            .env("HOME", "/nonexistent")
            .env(name, value)
            .current_dir(temp.path())
            .output();
        stderr(&output.expect("hull was built"))
    };
    for told in [
        copy("CONTAINERS_REGISTRIES_CONF", &conf),
        copy("HOME", temp.path()),
    ] {
        assert!(told.contains("blocked"), "{told}");
        assert!(told.contains("registry.invalid/team/base"), "{told}");
    }
}

#[test]
fn help_of_a_command_is_the_same_by_both_names() {
    let by_verb = hull(&["help", "install", "to-disk"]);
    let by_option = hull(&["install", "to-disk", "--help"]);
    assert_eq!(stdout(&by_verb), stdout(&by_option));
}

#[test]
fn the_status_of_a_directory_that_holds_no_machine_fails_with_its_name() {
    let temp = tempfile::tempdir().unwrap();
    let there = temp.path().to_str().unwrap();
    let gone = temp.path().join("gone").display().to_string();
    for (sysroot, named) in [(there, "/composefs"), (&*gone, &*gone)] {
        let output = hull(&["status", "--sysroot", sysroot, "--esp", there]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(stderr(&output).contains(named), "{output:?}");
    }
    let half = hull(&["status", "--sysroot", there]);
    assert_eq!(half.status.code(), Some(2), "{half:?}");
}

#[test]
fn a_command_for_a_machine_that_is_none_fails_with_a_reason() {
    for verb in ["upgrade", "rollback", "history", "gc", "fsck"] {
        let output = hull(&[verb]);
        assert_eq!(output.status.code(), Some(1), "{verb}");
        assert!(
            stderr(&output).contains("not started by hull"),
            "{output:?}"
        );
    }
}

#[test]
fn status_of_a_machine_that_is_none_is_an_empty_document() {
    let output = hull(&["status"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(stdout(&output).starts_with("apiVersion: org.containers.bootc/v1\n"));
    let output = hull(&["status", "--json"]);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["kind"], "BootcHost");
    assert!(document["status"]["booted"].is_null());
    let output = hull(&["status", "--format", "humanreadable"]);
    assert_eq!(
        stdout(&output),
        "This system was not started from an image of hull's.\n"
    );
}

#[test]
fn nothing_is_coloured_that_goes_into_a_pipe() {
    for arguments in [
        &["help", "upgrade"][..],
        &["--help"],
        &["gc"],
        &["frobnicate"],
    ] {
        let output = hull(arguments);
        assert!(
            !output.stdout.contains(&0x1b) && !output.stderr.contains(&0x1b),
            "{output:?}"
        );
    }
}

#[test]
fn a_dry_run_of_an_installation_says_what_it_would_do_and_makes_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let disk = temp.path().join("disk.raw");
    let output = hull(&[
        "install",
        "to-disk",
        "--source-imgref",
        "oci:/nowhere",
        "--dry-run",
        disk.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = stdout(&output);
    assert!(text.contains("oci:/nowhere would be installed."), "{text}");
    assert!(text.contains("disk.raw is made"), "{text}");
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
}

#[test]
fn an_installation_of_nothing_names_the_image_and_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let disk = temp.path().join("disk.raw");
    let source = format!("oci:{}/no-image", temp.path().display());
    let disk_name = disk.to_str().unwrap();
    let output = hull(&[
        "install",
        "to-disk",
        "--source-imgref",
        &source,
        "--quiet",
        disk_name,
    ]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stderr(&output).contains("no-image"), "{output:?}");
    assert!(stderr(&output).contains("hint: "), "{output:?}");
    assert!(!disk.exists());
}

#[test]
fn a_descriptor_that_is_not_open_is_wrong_usage() {
    // Ours is closed on exec, so the program has nothing there.
    let (_reader, writer) = std::io::pipe().unwrap();
    let number = writer.as_raw_fd().to_string();
    let temp = tempfile::tempdir().unwrap();
    let disk = temp.path().join("disk.raw");
    let output = hull(&[
        "install",
        "to-disk",
        "--source-imgref",
        "oci:/nowhere",
        "--progress-fd",
        &number,
        disk.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(
        stderr(&output).contains("no file is open there"),
        "{output:?}"
    );
}

#[test]
fn man_pages_and_completions_are_made_for_all_commands() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("made/by/it");
    let dir = dir.to_str().unwrap();
    for what in ["man", "completions"] {
        let output = hull(&["internals", what, dir]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    let read = |name: &str| std::fs::read_to_string(Path::new(dir).join(name)).unwrap();
    for page in [
        "hull.8",
        "hull-upgrade.8",
        "hull-install-to-disk.8",
        "hull-image-list.8",
        "hull-image-pull.8",
        "hull-image-push.8",
        "hull-image-copy.8",
    ] {
        let text = read(page);
        let title = page.trim_end_matches(".8");
        assert!(text.contains(&format!(".TH {title} 8")), "{text}");
    }
    assert!(read("hull-upgrade.8").contains("hull upgrade \\-\\-check"));
    assert!(!Path::new(dir).join("hull-internals.8").exists());
    let whole = read("hull.8");
    for part in ["EXIT STATUS", "CONTAINERS_REGISTRIES_CONF", "hull\\-pin(8)"] {
        assert!(whole.contains(part), "{part}: {whole}");
    }
    for page in std::fs::read_dir(dir).unwrap() {
        let page = page.unwrap().path();
        let text = std::fs::read_to_string(&page).unwrap();
        assert!(!text.contains("help(8)"), "{}", page.display());
    }
    for completions in ["hull.bash", "_hull", "hull.fish"] {
        assert!(read(completions).contains("download-only"), "{completions}");
    }
    let printed = hull(&["completion", "bash"]);
    assert_eq!(stdout(&printed), read("hull.bash"));
}

#[test]
fn a_root_with_something_fatal_is_reported_and_exits_with_1() {
    let temp = tempfile::tempdir().unwrap();
    let rootfs = temp.path().to_str().unwrap();
    let output = hull(&["container", "lint", "--rootfs", rootfs]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = stdout(&output);
    assert!(text.contains("\nkernel-initramfs (fatal)\n"), "{text}");
    assert!(text.contains("\nChecks passed: "), "{text}");

    let json = hull(&["container", "lint", "--rootfs", rootfs, "--format=json"]);
    assert_eq!(json.status.code(), Some(1), "{json:?}");
    let document: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let listed = hull(&["container", "lint", "--list", "--format=json"]);
    let list: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed.status.code(), Some(0), "{listed:?}");
    let names = |list: &serde_json::Value| -> Vec<String> {
        let list = list.as_array().unwrap();
        list.iter().map(|lint| lint["name"].to_string()).collect()
    };
    assert_eq!(names(&document["lints"]), names(&list));
}

#[test]
fn lints_that_are_skipped_do_not_fail_and_warnings_do_only_on_request() {
    let temp = tempfile::tempdir().unwrap();
    let rootfs = temp.path().to_str().unwrap();
    let fatal = [
        "baseimage-root",
        "api-base-directories",
        "kernel-initramfs",
        "systemd-boot",
    ];
    let mut arguments = vec!["container", "lint", "--rootfs", rootfs];
    arguments.extend(fatal.iter().flat_map(|name| ["--skip", name]));
    let output = hull(&arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(stdout(&output).contains("nonempty-boot (warning)"));
    arguments.push("--fatal-warnings");
    assert_eq!(hull(&arguments).status.code(), Some(1));

    let unknown = hull(&["container", "lint", "--skip", "no-such-lint"]);
    assert_eq!(unknown.status.code(), Some(2), "{unknown:?}");
    let gone = hull(&["container", "lint", "--rootfs", "/nowhere/root"]);
    assert_eq!(gone.status.code(), Some(1), "{gone:?}");
    assert!(stderr(&gone).contains("/nowhere/root"), "{gone:?}");
}
