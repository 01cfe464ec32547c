//! ext4, by mke2fs, in place.

use std::fmt::Write as _;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use hull_sys::run::{Program, RunError};

use super::{FilesystemError, Place, Recipe, version};

const PACKAGE: &str = "e2fsprogs";

/// How much file system there is for each inode, in bytes.
pub(super) const BYTES_PER_INODE: u64 = 16384;

/// What mke2fs is configured with in place of the host's `/etc/mke2fs.conf`:
/// which features a disk has must not depend on the machine that makes it.
/// All of these are known to Linux 5.4 and e2fsprogs 1.45.
const CONFIGURATION: &str = "\
[defaults]
base_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr
blocksize = 4096
inode_size = 256
inode_ratio = 16384
[fs_types]
ext4 = {
features = has_journal,extent,huge_file,flex_bg,metadata_csum,metadata_csum_seed,64bit,dir_nlink,extra_isize,verity
}
";

pub(super) fn make(recipe: &Recipe<'_>, place: &Place<'_>) -> Result<(), FilesystemError> {
    let configuration = recipe.scratch.join("mke2fs.conf");
    write_scratch(&configuration, CONFIGURATION)?;
    tool("mke2fs", recipe)
        .env("MKE2FS_CONFIG", &configuration)
        .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-m", "1"])
        .args([
            "-U",
            &recipe.uuid.to_string(),
            "-L",
            recipe.label,
            "-E",
            &extended(recipe, place),
        ])
        .arg("-d")
        .arg(recipe.source)
        .arg(place.path)
        .arg(format!("{}k", place.length / 1024))
        .run()?;
    if !sets_all_times()? {
        set_change_times(recipe, place)?;
    }
    Ok(())
}

/// A tool of e2fsprogs that takes the epoch for the current time.
fn tool(name: &str, recipe: &Recipe<'_>) -> Program {
    Program::new(name)
        .package(PACKAGE)
        .env("SOURCE_DATE_EPOCH", recipe.epoch_text())
        // What e2fsprogs had before 1.47.1.
        .env("E2FSPROGS_FAKE_TIME", recipe.epoch_text())
}

/// The extended options; only the last `-E` counts, so all are in one.
fn extended(recipe: &Recipe<'_>, place: &Place<'_>) -> String {
    let prezeroed = if place.zeroed {
        ",assume_storage_prezeroed=1"
    } else {
        ""
    };
    format!(
        "offset={},hash_seed={},root_owner=0:0,nodiscard,lazy_itable_init=0,lazy_journal_init=0{prezeroed}",
        place.offset, recipe.seed
    )
}

/// Whether this mke2fs knows `SOURCE_DATE_EPOCH` (since 1.47.1): the ones
/// before copy the change time of each file, which nobody can set.
fn sets_all_times() -> Result<bool, RunError> {
    let printed = Program::new("mke2fs")
        .package(PACKAGE)
        .arg("-V")
        .messages()?;
    Ok(version(&printed).is_some_and(|version| version >= vec![1, 47, 1]))
}

/// Sets the change time of all inodes to the epoch.
///
/// Inodes of a fresh file system are given out in order, so they are those up
/// to the number of used ones.
fn set_change_times(recipe: &Recipe<'_>, place: &Place<'_>) -> Result<(), FilesystemError> {
    let used = used_inodes(place).map_err(|source| FilesystemError::Superblock {
        path: place.path.into(),
        source,
    })?;
    let mut commands = String::new();
    for inode in FIRST_INODE..=used {
        // Writing to a string cannot fail.
        writeln!(commands, "sif <{inode}> ctime @{}", recipe.epoch).ok();
    }
    let script = recipe.scratch.join("debugfs.commands");
    write_scratch(&script, &commands)?;
    let mut device = place.path.as_os_str().to_owned();
    device.push(format!("?offset={}", place.offset));
    tool("debugfs", recipe)
        .arg("-w")
        .arg("-f")
        .arg(&script)
        .arg(&device)
        .run()?;
    Ok(())
}

/// The first inode that is not the file system's own: `lost+found`.
const FIRST_INODE: u32 = 11;

/// How many inodes are used: `s_inodes_count` less `s_free_inodes_count`.
fn used_inodes(place: &Place<'_>) -> io::Result<u32> {
    let mut superblock = [0; 20];
    place
        .file
        .read_exact_at(&mut superblock, place.offset + 1024)?;
    let number = |at: usize| {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&superblock[at..at + 4]);
        u32::from_le_bytes(bytes)
    };
    Ok(number(0).saturating_sub(number(16)))
}

fn write_scratch(path: &Path, text: &str) -> Result<(), FilesystemError> {
    let write = || {
        let mut file = std::fs::File::create(path)?;
        std::io::Write::write_all(&mut file, text.as_bytes())
    };
    write().map_err(|source| FilesystemError::Scratch {
        path: PathBuf::from(path),
        source,
    })
}
