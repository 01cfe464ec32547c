//! On a directory: what a FAT adds to it is said in `suspects`.

use super::*;
use hull_erofs::fsverity;

fn esp() -> (tempfile::TempDir, Esp) {
    let temp = tempfile::tempdir().unwrap();
    let flags = OFlags::DIRECTORY | OFlags::RDONLY;
    let dir = rustix::fs::open(temp.path(), flags, Mode::empty()).unwrap();
    (temp, Esp::new(dir))
}

fn file(name: &str, content: &[u8]) -> BootFile {
    BootFile {
        name: name.into(),
        digest: fsverity::digest(content),
        size: content.len() as u64,
    }
}

fn entry(version: u32, directory: &str) -> Entry {
    Entry {
        title: "test".into(),
        version,
        linux: format!("/EFI/hull/{directory}/linux"),
        initrds: Vec::new(),
        options: String::new(),
    }
}

#[test]
fn boot_files_are_written_once_and_shared() {
    let (temp, esp) = esp();
    let files = [file("linux", b"kernel"), file("initrd", b"initrd")];
    let mut opened = 0;
    for _ in 0..2 {
        let directory = esp.directory_for(&files).unwrap();
        esp.add_boot_files(&directory, &files, |file| {
            opened += 1;
            let content: &[u8] = if file.name == "linux" {
                b"kernel"
            } else {
                b"initrd"
            };
            Ok(Box::new(content))
        })
        .unwrap();
        let path = temp.path().join("EFI/hull").join(directory).join("linux");
        assert_eq!(std::fs::read(path).unwrap(), b"kernel");
    }
    assert_eq!(opened, 2);
}

#[test]
fn a_kernel_that_reads_back_changed_is_refused_before_it_has_its_name() {
    let (_temp, esp) = esp();
    let files = [file("linux", b"kernel")];
    let name = &directory_name(&files);
    let error = esp
        .add_boot_files(name, &files, |_| Ok(Box::new(&b"kern el"[..])))
        .unwrap_err();
    assert!(matches!(error, EspError::ReadBack { .. }), "{error}");
    assert!(!esp.holds(&directory_name(&files), &files));
    // The next try finds the leftover and is fine.
    esp.add_boot_files(name, &files, |_| Ok(Box::new(&b"kernel"[..])))
        .unwrap();
}

fn add(esp: &Esp, files: &[BootFile]) -> String {
    let directory = esp.directory_for(files).unwrap();
    esp.add_boot_files(&directory, files, |_| Ok(Box::new(&b"kernel"[..])))
        .unwrap();
    directory
}

#[test]
fn what_may_be_one_directory_under_two_names_is_left_alone_and_a_fresh_one_is_written() {
    let (temp, esp) = esp();
    let files = [file("linux", b"kernel")];
    let name = add(&esp, &files);
    // What a cut rename leaves on FAT; here the files are one by a hard link.
    let passing = passing_name(UNFINISHED, &name);
    let all = temp.path().join("EFI/hull");
    std::fs::create_dir(all.join(&passing)).unwrap();
    let (from, to) = (
        all.join(&name).join("linux"),
        all.join(&passing).join("linux"),
    );
    std::fs::hard_link(from, to).unwrap();

    let fresh = add(&esp, &files);
    assert_eq!(fresh, format!("{name}.1"));
    for suspect in [&name, &passing] {
        esp.remove_boot_directory(suspect).unwrap();
        assert!(all.join(suspect).join("linux").exists());
    }
    let removable = esp.removable_boot_directories().unwrap();
    assert!(removable.into_keys().eq([fresh]));
    // A check of the file system cut one of them short: they are two now.
    std::fs::remove_file(all.join(&passing).join("linux")).unwrap();
    esp.remove_boot_directory(&passing).unwrap();
    assert!(!all.join(&passing).exists());
    assert_eq!(add(&esp, &files), name);
    esp.verify(&name, &files).unwrap();
}

#[test]
fn a_directory_that_was_cut_while_it_was_removed_goes_with_the_next_one() {
    let (temp, esp) = esp();
    let files = [file("linux", b"kernel")];
    let name = add(&esp, &files);
    let all = temp.path().join("EFI/hull");
    let passing = passing_name(REMOVED, &name);
    rustix::fs::rename(all.join(&name), all.join(&passing)).unwrap();
    assert_eq!(add(&esp, &files), name);
    rustix::fs::unlink(all.join(&passing).join("linux")).unwrap();
    esp.remove_boot_directory(&name).unwrap();
    assert!(esp.boot_directories().unwrap().is_empty());
}

#[test]
fn boot_files_of_entries_that_are_not_hull_s_are_seen() {
    let (temp, esp) = esp();
    let entries = temp.path().join("loader/entries");
    std::fs::create_dir_all(&entries).unwrap();
    for (name, text) in [
        ("rescue.conf", "linux \\EFI\\Hull\\AA\\linux\n"),
        (
            "hull-7.conf",
            "title no kernel\ninitrd /EFI/hull/bb/initrd\n",
        ),
        ("hull-8.conf", "version 8\nlinux /EFI/hull/cc/linux\n"),
        ("readme.txt", "/EFI/hull/dd/linux"),
    ] {
        let dir = std::fs::File::open(&entries).unwrap();
        durable::write_new(&dir, name, 0o644, text.as_bytes()).unwrap();
    }
    let found = esp.foreign_references().unwrap();
    assert!(found.directories.into_iter().eq(["aa", "bb"]));
}

#[test]
fn what_an_unusable_entry_of_hull_s_starts_is_seen() {
    let (temp, esp) = esp();
    let entries = temp.path().join("loader/entries");
    std::fs::create_dir_all(&entries).unwrap();
    let dir = std::fs::File::open(&entries).unwrap();
    let (latin, long) = (digest(1), digest(2));
    let line = |directory: &str, name| {
        format!(
            "version 1\nlinux /EFI/hull/{directory}/linux\noptions quiet hull.deployment={name}\n"
        )
    };
    let mut bytes = b"title caf\xe9\n".to_vec();
    bytes.extend(line("aa", latin).as_bytes());
    durable::write_new(&dir, "hull-1.conf", 0o644, &bytes).unwrap();
    let padding = "x".repeat(usize::try_from(entry::MAX_SIZE).unwrap());
    let text = format!("{}title {padding}\n", line("bb", long));
    durable::write_new(&dir, "hull-2.conf", 0o644, text.as_bytes()).unwrap();

    assert!(esp.entries().unwrap().0.is_empty());
    let found = esp.foreign_references().unwrap();
    assert!(found.directories.into_iter().eq(["aa", "bb"]));
    assert!(found.deployments.into_iter().eq([latin, long]));
}

fn digest(n: u8) -> DeploymentName {
    DeploymentName {
        digest: fsverity::digest(&[n]),
        generation: u64::from(n),
    }
}

#[test]
fn damaged_boot_files_that_an_entry_may_start_are_never_removed_for_new_ones() {
    let (temp, esp) = esp();
    let files = [file("linux", b"kernel")];
    let name = add(&esp, &files);
    let damaged = temp.path().join("EFI/hull").join(&name);
    std::fs::remove_file(damaged.join("linux")).unwrap();
    let dir = std::fs::File::open(&damaged).unwrap();
    durable::write_new(&dir, "linux", 0o644, b"kErnel").unwrap();

    let fresh = add(&esp, &files);
    assert_ne!(fresh, name);
    esp.verify(&fresh, &files).unwrap();
    assert!(damaged.join("linux").exists());
}

#[test]
fn an_entry_that_may_have_an_alias_keeps_its_cluster() {
    let (temp, esp) = esp();
    let entries = temp.path().join("loader/entries");
    esp.add_entry(EntryName::good(1), &entry(1, "a")).unwrap();
    let dir = std::fs::File::open(&entries).unwrap();
    for leftover in ["hull-1+3-0.conf.new", "hull-2.conf.new"] {
        durable::write_new(&dir, leftover, 0o644, b"").unwrap();
    }
    esp.remove_leftover_entries().unwrap();
    esp.remove_entry(EntryName::good(1)).unwrap();
    assert!(esp.entries().unwrap().0.is_empty());
    let left = list_dir(&dir).unwrap();
    assert_eq!(left, ["hull-1+3-0.conf.new", "hull-1.conf.old"]);
}

#[test]
fn entries_come_newest_first_and_garbage_is_reported() {
    let (temp, esp) = esp();
    for order in [1, 2, 10] {
        esp.add_entry(EntryName::good(order), &entry(order, "d"))
            .unwrap();
    }
    let garbage = temp.path().join("loader/entries/hull-11.conf");
    #[expect(
        clippy::disallowed_methods,
        reason = "a test's input needs no durability"
    )]
    std::fs::write(garbage, [0xff, 0xfe]).unwrap();
    let (entries, unusable) = esp.entries().unwrap();
    let orders: Vec<_> = entries.iter().map(|found| found.name.order).collect();
    assert_eq!(orders, [10, 2, 1]);
    assert_eq!(unusable.len(), 1);
}

#[test]
fn an_entry_is_never_overwritten() {
    let (_temp, esp) = esp();
    esp.add_entry(EntryName::good(1), &entry(1, "a")).unwrap();
    assert!(esp.add_entry(EntryName::good(1), &entry(1, "b")).is_err());
    let (entries, _) = esp.entries().unwrap();
    assert_eq!(entries[0].entry.boot_directory(), Some("a"));
}

#[test]
fn space_counts_whole_allocation_units() {
    let small = [file("linux", b"1")];
    assert!(space_for(&small, 4096) >= 4096 + (64 << 10));
}
