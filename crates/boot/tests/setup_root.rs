//! setup-root on a physical root that is a directory, in a mount namespace of
//! its own. These need root and file systems erofs and overlay.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use hull_boot::cmdline::{composefs_argument, deployment_argument};
use hull_boot::record::DeploymentName;
use hull_boot::setup_root::{self, BootReport, Options, SetupError};
use hull_erofs::fsverity::{self, ObjectId};
use hull_erofs::image;
use hull_erofs::tree::{Content, DirectoryId, INLINE_MAX, Leaf, Metadata, Tree};
use hull_sys::mount::{self, Mount};
use hull_sys::namespace;
use hull_sys::run::Program;
use rustix::fs::CWD;

/// A physical root with a store, and where setup-root finds it.
struct Machine {
    path: PathBuf,
}

/// Where the physical root is: on the disk images are mounted as files, a file
/// system in memory needs the loop device.
#[derive(Clone, Copy, PartialEq)]
enum On {
    Disk,
    Memory,
}

fn on_machine(on: On, test: impl FnOnce(&Machine) + Send) {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test mounts file systems: run it as root"
    );
    let temp = tempfile::tempdir().unwrap();
    let machine = Machine {
        path: temp.path().to_owned(),
    };
    namespace::with_private_mounts(|| {
        for directory in ["disk", "sysroot", "run"] {
            fs::create_dir(machine.path.join(directory)).unwrap();
        }
        let run = mount::tmpfs("run", 0o755).unwrap();
        run.attach(CWD, machine.path.join("run")).unwrap();
        let disk = match on {
            On::Disk => Mount::copy(fs::File::open(machine.path.join("disk")).unwrap()).unwrap(),
            On::Memory => mount::tmpfs("disk", 0o755).unwrap(),
        };
        disk.attach(CWD, machine.path.join("sysroot")).unwrap();
        for directory in [
            "composefs/objects",
            "composefs/images",
            "state/deploy",
            "state/os/default/var",
        ] {
            fs::create_dir_all(machine.path.join("sysroot").join(directory)).unwrap();
        }
        // As systemd has it: what is mounted is seen everywhere.
        rustix::mount::mount_change(
            "/",
            rustix::mount::MountPropagationFlags::SHARED
                | rustix::mount::MountPropagationFlags::REC,
        )
        .unwrap();
        test(&machine);
    })
    .unwrap();
}

fn write(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::File::create(path).unwrap().write_all(content).unwrap();
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

/// An image: files by path, over the directories that every one has.
fn tree(files: &[(&str, &[u8])]) -> Tree {
    let mut tree = Tree::default();
    let metadata = || Metadata {
        mode: 0o755,
        ..Metadata::default()
    };
    tree.set_directory_metadata(DirectoryId::ROOT, metadata());
    for path in [
        "etc",
        "var",
        "sysroot",
        "usr",
        "usr/lib",
        "usr/lib/composefs",
        "etc/conf.d",
    ] {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = tree.directory(parent.as_bytes()).unwrap().id();
        tree.put_directory(parent, name.as_bytes(), metadata());
    }
    for (path, content) in files {
        let leaf = tree.add_leaf(Leaf {
            metadata: Metadata {
                mode: 0o644,
                ..Metadata::default()
            },
            content: match content.len() {
                length if length <= INLINE_MAX => Content::Inline((*content).into()),
                length => Content::Object {
                    id: fsverity::digest(content),
                    size: u64::try_from(length).unwrap(),
                },
            },
        });
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = tree.directory(parent.as_bytes()).unwrap().id();
        tree.put_leaf(parent, name.as_bytes(), leaf);
    }
    tree
}

impl Machine {
    fn physical(&self, path: &str) -> PathBuf {
        self.path.join("sysroot").join(path)
    }

    fn put_object(&self, content: &[u8]) -> ObjectId {
        let id = fsverity::digest(content);
        let path = format!("composefs/objects/{}", id.to_object_path());
        write(&self.physical(&path), content);
        id
    }

    fn put_image(&self, files: &[(&str, &[u8])]) -> ObjectId {
        for (_, content) in files
            .iter()
            .filter(|(_, content)| content.len() > INLINE_MAX)
        {
            self.put_object(content);
        }
        let id = self.put_object(&image::write(&tree(files)).unwrap());
        let link = self.physical(&format!("composefs/images/{id}"));
        if !link.exists() {
            symlink(format!("../objects/{}", id.to_object_path()), link).unwrap();
        }
        id
    }

    fn deploy(
        &self,
        digest: ObjectId,
        generation: u64,
        previous: Option<DeploymentName>,
    ) -> DeploymentName {
        let name = DeploymentName { digest, generation };
        let directory = self.physical(&format!("state/deploy/{name}"));
        fs::create_dir(&directory).unwrap();
        symlink("../../os/default/var", directory.join("var")).unwrap();
        let previous = previous.map_or("null".to_owned(), |name| format!("\"{name}\""));
        let record = format!(
            "{{\"format\": 1, \"image\": {{\"reference\": \"r\", \"manifest_digest\": \"d\", \
             \"architecture\": \"amd64\"}}, \"composefs\": {{\"digest\": \"{digest}\", \
             \"verity\": false}}, \"kernel_arguments\": [], \"boot_files\": {{\"directory\": \
             \"x\", \"files\": []}}, \"previous\": {previous}, \"operation\": \"upgrade\", \
             \"created\": \"2026-01-01T00:00:00Z\"}}"
        );
        write(&directory.join("deployment.json"), record.as_bytes());
        name
    }

    fn boot_with(&self, cmdline: String) -> Result<Option<BootReport>, SetupError> {
        setup_root::run(&Options {
            sysroot: self.path.join("sysroot"),
            run: self.path.join("run"),
            cmdline,
        })
    }

    fn boot(&self, name: DeploymentName) -> BootReport {
        let cmdline = format!(
            "root=x rw {} {}",
            composefs_argument(&name.digest, false),
            deployment_argument(&name)
        );
        self.boot_with(cmdline).unwrap().unwrap()
    }

    /// Takes the new root away, and mounts the physical root again.
    fn reboot(&self) {
        mount::unmount_tree(self.path.join("sysroot")).unwrap();
        let disk = Mount::copy(fs::File::open(self.path.join("disk")).unwrap()).unwrap();
        disk.attach(CWD, self.path.join("sysroot")).unwrap();
        fs::remove_dir_all(self.path.join("run/systemd")).ok();
    }

    fn root(&self, path: &str) -> PathBuf {
        self.path.join("sysroot").join(path)
    }
}

const LONG: &[u8] = &[b'x'; 5000];

#[test]
fn the_image_is_the_root_with_etc_and_var_of_the_deployment() {
    on_machine(On::Disk, |machine| {
        let image = machine.put_image(&[("usr/file", LONG), ("etc/hostname", b"debian\n")]);
        let name = machine.deploy(image, 1, None);
        write(&machine.physical("state/os/default/var/mine"), b"1");
        let report = machine.boot(name);
        assert_eq!(report.image_backing, "file");
        assert!(report.etc.merged);

        assert_eq!(fs::read(machine.root("usr/file")).unwrap(), LONG);
        assert!(fs::File::create(machine.root("usr/new")).is_err());
        assert_eq!(read(machine.root("etc/hostname")), "debian\n");
        write(&machine.root("etc/hostname"), b"mine\n");
        assert_eq!(read(machine.root("var/mine")), "1");
        write(&machine.root("var/lib/more"), b"2");

        let physical = machine.root("sysroot");
        assert_eq!(
            read(physical.join(format!("state/deploy/{name}/etc/hostname"))),
            "mine\n"
        );
        assert_eq!(read(physical.join("state/os/default/var/lib/more")), "2");
        let error = fs::File::create(physical.join("x")).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    });
}

#[test]
fn a_store_whose_file_system_backs_no_images_goes_through_a_loop_device() {
    on_machine(On::Memory, |machine| {
        let image = machine.put_image(&[("usr/file", LONG)]);
        let name = machine.deploy(image, 1, None);
        assert_eq!(machine.boot(name).image_backing, "loop");
        assert_eq!(fs::read(machine.root("usr/file")).unwrap(), LONG);
    });
}

#[test]
fn the_report_and_the_link_for_systemd_are_in_run() {
    on_machine(On::Disk, |machine| {
        let image = machine.put_image(&[]);
        let name = machine.deploy(image, 1, None);
        let disk = fs::metadata(machine.physical("state")).unwrap().dev();
        machine.boot(name);
        let report = read(machine.path.join("run/hull/boot.json"));
        assert!(report.contains(&name.to_string()), "{report}");
        let stage = machine.path.join("run/hull/stage");
        assert_eq!(fs::read_dir(stage).unwrap().count(), 0);
        let major = rustix::fs::major(disk);
        if major != 0 {
            let link = fs::read_link(machine.path.join("run/systemd/volatile-root")).unwrap();
            let minor = rustix::fs::minor(disk);
            assert_eq!(link, PathBuf::from(format!("/dev/block/{major}:{minor}")));
        }
    });
}

#[test]
fn nothing_of_the_physical_root_s_old_mount_is_left_below_the_new_root() {
    on_machine(On::Disk, |machine| {
        let image = machine.put_image(&[]);
        let name = machine.deploy(image, 1, None);
        machine.boot(name);
        mount::unmount_tree(machine.path.join("sysroot")).unwrap();
        let left = fs::read_dir(machine.path.join("sysroot")).unwrap().count();
        assert_eq!(left, 0);
    });
}

#[test]
fn what_is_mounted_in_var_does_not_show_up_in_the_physical_root() {
    on_machine(On::Disk, |machine| {
        let image = machine.put_image(&[]);
        let name = machine.deploy(image, 1, None);
        fs::create_dir(machine.physical("state/os/default/var/cache")).unwrap();
        machine.boot(name);
        let cache = mount::tmpfs("cache", 0o755).unwrap();
        cache.attach(CWD, machine.root("var/cache")).unwrap();
        write(&machine.root("var/cache/file"), b"x");
        let below = machine.root("sysroot/state/os/default/var/cache");
        assert_eq!(fs::read_dir(below).unwrap().count(), 0);
    });
}

#[test]
fn a_command_line_without_image_changes_nothing() {
    on_machine(On::Disk, |machine| {
        assert!(machine.boot_with("root=x quiet".into()).unwrap().is_none());
        assert!(machine.physical("composefs").exists());
        assert!(!machine.path.join("run/hull").exists());
    });
}

#[test]
fn an_upgrade_merges_etc_and_a_rollback_finds_the_old_one() {
    on_machine(On::Disk, |machine| {
        let old = machine.put_image(&[
            ("etc/both", b"base"),
            ("etc/mine", b"base"),
            ("etc/theirs", b"base"),
            ("etc/large", LONG),
            ("etc/passwd", b"root:x:0:0::/root:/bin/sh\n"),
        ]);
        let mut larger = LONG.to_vec();
        larger.push(b'y');
        let new = machine.put_image(&[
            ("etc/both", b"theirs"),
            ("etc/mine", b"base"),
            ("etc/theirs", b"theirs"),
            ("etc/large", &larger),
            ("etc/conf.d/new", b"new"),
            (
                "etc/passwd",
                b"root:x:0:0::/root:/bin/sh\nsshd:x:100:100::/:/bin/false\n",
            ),
        ]);
        let first = machine.deploy(old, 1, None);
        machine.boot(first);
        write(&machine.root("etc/both"), b"mine");
        write(&machine.root("etc/mine"), b"mine");
        write(&machine.root("etc/machine-id"), b"0123\n");
        write(
            &machine.root("etc/passwd"),
            b"root:x:0:0::/root:/bin/sh\nanna:x:1000:1000::/home/anna:/bin/sh\n",
        );
        machine.reboot();

        let second = machine.deploy(new, 2, Some(first));
        let report = machine.boot(second);
        assert!(report.etc.merged);
        let conflicts: Vec<_> = (report.etc.conflicts.iter()).map(|c| &*c.path).collect();
        assert_eq!(conflicts, ["/etc/both"]);
        assert_eq!(read(machine.root("etc/both")), "mine");
        assert_eq!(read(machine.root("etc/both.hull-new~")), "theirs");
        assert_eq!(read(machine.root("etc/mine")), "mine");
        assert_eq!(read(machine.root("etc/theirs")), "theirs");
        assert_eq!(fs::read(machine.root("etc/large")).unwrap(), larger);
        assert_eq!(read(machine.root("etc/conf.d/new")), "new");
        assert_eq!(read(machine.root("etc/machine-id")), "0123\n");
        let passwd = read(machine.root("etc/passwd"));
        assert!(
            passwd.contains("anna") && passwd.contains("sshd"),
            "{passwd}"
        );
        machine.reboot();

        assert!(!machine.boot(second).etc.merged);
        machine.reboot();
        assert!(!machine.boot(first).etc.merged);
        assert_eq!(read(machine.root("etc/theirs")), "base");
        assert_eq!(read(machine.root("etc/both")), "mine");
        assert!(!machine.root("etc/conf.d/new").exists());
    });
}

#[test]
fn a_merge_that_was_cut_is_made_anew() {
    on_machine(On::Disk, |machine| {
        let image = machine.put_image(&[("etc/file", b"new")]);
        let name = machine.deploy(image, 1, None);
        let half = machine.physical(&format!("state/deploy/{name}/etc.new"));
        write(&half.join("deep/er/half"), b"x");
        machine.boot(name);
        assert_eq!(read(machine.root("etc/file")), "new");
        assert!(!machine.root("etc/deep").exists());
        let half = machine.root(&format!("sysroot/state/deploy/{name}/etc.new"));
        assert!(!half.exists());
    });
}

#[test]
fn files_of_the_installer_are_added_to_the_first_etc() {
    on_machine(On::Disk, |machine| {
        let image = machine.put_image(&[("etc/conf.d/image", b"image"), ("etc/hostname", b"a")]);
        let name = machine.deploy(image, 1, None);
        let installed = machine.physical(&format!("state/deploy/{name}/etc.install"));
        write(&installed.join("conf.d/installer"), b"installer");
        write(&installed.join("hostname"), b"b");
        fs::set_permissions(&installed, fs::Permissions::from_mode(0o700)).unwrap();
        let report = machine.boot(name);
        assert_eq!(report.etc.conflicts, []);
        assert_eq!(read(machine.root("etc/conf.d/installer")), "installer");
        assert_eq!(read(machine.root("etc/conf.d/image")), "image");
        assert_eq!(read(machine.root("etc/hostname")), "b");
        let mode = fs::metadata(machine.root("etc")).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o755);
    });
}

#[test]
fn a_previous_deployment_that_is_gone_is_named_unless_etc_is_there() {
    on_machine(On::Disk, |machine| {
        let image = machine.put_image(&[]);
        let gone = DeploymentName {
            digest: ObjectId::from_bytes([7; 64]),
            generation: 1,
        };
        let name = machine.deploy(image, 2, Some(gone));
        let cmdline = format!(
            "{} {}",
            composefs_argument(&image, false),
            deployment_argument(&name)
        );
        let error = machine.boot_with(cmdline).unwrap_err().to_string();
        assert!(error.contains(&gone.to_string()), "{error}");
        assert!(error.contains("Boot an older entry"), "{error}");
        assert!(machine.physical("composefs").exists());
        fs::create_dir(machine.physical(&format!("state/deploy/{name}/etc"))).unwrap();
        assert!(!machine.boot(name).etc.merged);
    });
}

#[test]
fn a_transient_root_takes_changes_and_a_transient_etc_too() {
    on_machine(On::Disk, |machine| {
        let image = machine.put_image(&[
            (
                "usr/lib/composefs/setup-root-conf.toml",
                b"[root]\ntransient = true\n[etc]\ntransient = true\n",
            ),
            ("etc/file", LONG),
            ("usr/file", LONG),
        ]);
        let name = machine.deploy(image, 1, None);
        let report = machine.boot(name);
        assert!(report.root_transient && !report.etc.merged);
        assert_eq!(fs::read(machine.root("etc/file")).unwrap(), LONG);
        assert_eq!(fs::read(machine.root("usr/file")).unwrap(), LONG);
        write(&machine.root("usr/new"), b"1");
        write(&machine.root("etc/new"), b"2");
        write(&machine.root("etc/file"), b"3");
        assert_eq!(read(machine.root("usr/new")), "1");
        assert_eq!(read(machine.root("etc/file")), "3");
        let mode = fs::metadata(machine.root("")).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o755);
        let etc = machine.root(&format!("sysroot/state/deploy/{name}/etc"));
        assert!(!etc.exists());
        machine.reboot();
        machine.boot(name);
        assert!(!machine.root("usr/new").exists() && !machine.root("etc/new").exists());
    });
}

#[test]
fn a_volatile_var_is_left_to_systemd() {
    on_machine(On::Disk, |machine| {
        let image = machine.put_image(&[]);
        machine.deploy(image, 1, None);
        write(&machine.physical("state/os/default/var/mine"), b"1");
        let cmdline = format!(
            "{} systemd.volatile=state",
            composefs_argument(&image, false)
        );
        machine.boot_with(cmdline).unwrap();
        assert!(!machine.root("var/mine").exists());
    });
}

#[test]
fn without_a_deployment_argument_the_newest_of_the_image_is_booted() {
    on_machine(On::Disk, |machine| {
        let image = machine.put_image(&[]);
        let first = machine.deploy(image, 9, None);
        let newest = machine.deploy(image, 10, Some(first));
        fs::create_dir(machine.physical(&format!("state/deploy/{newest}/etc"))).unwrap();
        let missing = composefs_argument(&ObjectId::from_bytes([7; 64]), true);
        let cmdline = format!("{missing} composefs=?{image}");
        let report = machine.boot_with(cmdline).unwrap().unwrap();
        assert_eq!(report.deployment, Some(newest));
    });
}

#[test]
fn an_image_that_is_not_in_the_store_is_named() {
    on_machine(On::Disk, |machine| {
        let missing = ObjectId::from_bytes([7; 64]);
        let error = machine
            .boot_with(composefs_argument(&missing, false))
            .unwrap_err()
            .to_string();
        assert!(error.contains(&missing.to_hex()), "{error}");
        assert!(error.contains("boot another entry"), "{error}");
    });
}

#[test]
fn an_object_that_is_missing_is_named_with_the_file_that_needs_it() {
    on_machine(On::Disk, |machine| {
        let image = machine.put_image(&[("etc/file", LONG)]);
        let object = fsverity::digest(LONG);
        let path = format!("composefs/objects/{}", object.to_object_path());
        fs::remove_file(machine.physical(&path)).unwrap();
        let name = machine.deploy(image, 1, None);
        let error = machine
            .boot_with(composefs_argument(&image, false))
            .unwrap_err()
            .to_string();
        assert!(error.contains("/etc/file"), "{error}");
        assert!(error.contains(&object.to_hex()), "{error}");
        let etc = machine.physical(&format!("state/deploy/{name}/etc"));
        assert!(!etc.exists());
    });
}

#[test]
fn a_required_verity_that_the_image_does_not_have_is_refused() {
    on_machine(On::Disk, |machine| {
        let image = machine.put_image(&[]);
        machine.deploy(image, 1, None);
        let error = machine
            .boot_with(composefs_argument(&image, true))
            .unwrap_err()
            .to_string();
        assert!(error.contains("requires fs-verity"), "{error}");
        assert!(machine.physical("composefs").exists());
    });
}

#[test]
fn an_image_and_a_deployment_that_do_not_belong_together_are_refused() {
    on_machine(On::Disk, |machine| {
        let one = machine.put_image(&[]);
        let other = machine.put_image(&[("usr/file", b"x")]);
        let name = machine.deploy(one, 1, None);
        let cmdline = format!(
            "{} {}",
            composefs_argument(&other, false),
            deployment_argument(&name)
        );
        let error = machine.boot_with(cmdline).unwrap_err();
        assert!(matches!(error, SetupError::OtherImage { .. }), "{error}");
    });
}

#[test]
fn a_disk_that_hull_never_saw_gets_a_plain_answer() {
    on_machine(On::Disk, |machine| {
        fs::remove_dir_all(machine.physical("composefs")).unwrap();
        let image = ObjectId::from_bytes([7; 64]);
        let error = machine
            .boot_with(composefs_argument(&image, false))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("/composefs") && error.contains("root="),
            "{error}"
        );
    });
}

#[test]
fn a_physical_root_that_is_read_only_is_made_writable_for_etc() {
    on_machine(On::Disk, |machine| {
        let image = machine.put_image(&[("etc/file", b"x")]);
        let name = machine.deploy(image, 1, None);
        let flags = rustix::mount::MountFlags::BIND | rustix::mount::MountFlags::RDONLY;
        rustix::mount::mount_remount(machine.path.join("sysroot"), flags, c"").unwrap();
        machine.boot(name);
        write(&machine.root("etc/file"), b"y");
        write(&machine.root("var/file"), b"y");
    });
}

#[test]
fn a_boot_that_is_cut_at_any_step_leaves_no_half_etc_and_the_next_one_succeeds() {
    on_machine(On::Disk, |machine| {
        let image = machine.put_image(&[("etc/a", b"1"), ("etc/conf.d/b", LONG)]);
        let run = machine.path.join("run");
        let mut steps = 0;
        loop {
            let name = machine.deploy(image, steps + 1, None);
            let sysroot = machine.path.join("sysroot");
            let cmdline = format!(
                "{} {}",
                composefs_argument(&image, false),
                deployment_argument(&name)
            );
            let ended = Program::new(env!("CARGO_BIN_EXE_setup-root"))
                .arg("--sysroot")
                .arg(&sysroot)
                .arg("--run")
                .arg(&run)
                .args(["--cmdline", &cmdline])
                .args(["--stop-after", &steps.to_string()])
                .output();
            if ended.is_ok() {
                break;
            }
            let etc = machine.physical(&format!("state/deploy/{name}/etc"));
            assert!(
                !etc.exists() || etc.join("conf.d/b").exists(),
                "step {steps}"
            );
            // A reboot takes what is in memory along.
            mount::unmount_tree(&run).unwrap();
            let memory = mount::tmpfs("run", 0o755).unwrap();
            memory.attach(CWD, &run).unwrap();
            machine.boot(name);
            assert_eq!(fs::read(machine.root("etc/conf.d/b")).unwrap(), LONG);
            machine.reboot();
            steps += 1;
        }
        assert!(steps > 5, "only {steps} steps were cut");
    });
}

#[test]
fn the_program_says_what_it_did_in_one_line_or_what_to_do_and_fails() {
    on_machine(On::Disk, |machine| {
        let image = machine.put_image(&[("etc/a", b"1")]);
        machine.deploy(image, 1, None);
        let program = |cmdline: &str| {
            Program::new(env!("CARGO_BIN_EXE_setup-root"))
                .arg("--sysroot")
                .arg(machine.path.join("sysroot"))
                .arg("--run")
                .arg(machine.path.join("run"))
                .args(["--cmdline", cmdline])
                .output()
        };
        assert_eq!(program("quiet").unwrap(), b"");
        let missing = ObjectId::from_bytes([7; 64]);
        let error = program(&composefs_argument(&missing, false)).unwrap_err();
        assert!(error.to_string().contains("boot another entry"), "{error}");
        let line = program(&composefs_argument(&image, false)).unwrap();
        let line = String::from_utf8(line).unwrap();
        assert!(line.starts_with("hull: root ready in "), "{line}");
        assert!(line.contains(" merged"), "{line}");
        assert_eq!(line.lines().count(), 1);
    });
}

#[test]
fn systemd_accepts_the_unit() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dist/usr/lib/systemd/system");
    let temp = tempfile::tempdir().unwrap();
    // The programs and units that it names are those of an image.
    let unit = read(units.join("hull-setup-root.service"))
        .replace("/usr/lib/hull/setup-root", "/bin/true")
        .replace("man:hull(8)", "man:systemd(1)");
    let path = temp.path().join("hull-setup-root.service");
    write(&path, unit.as_bytes());
    write(
        &temp.path().join("sysroot.mount"),
        b"[Mount]\nWhat=/dev/null\nWhere=/sysroot\n",
    );
    Program::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&path)
        .package("systemd")
        .env("SYSTEMD_UNIT_PATH", format!("{}:", temp.path().display()))
        .run()
        .unwrap();
}
