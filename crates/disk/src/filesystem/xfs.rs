//! XFS, by mkfs.xfs.
//!
//! Since version 6.17 it takes a directory. Before that it takes a prototype
//! file (mkfs.xfs(8), `-p`), which cannot say everything: what it cannot is
//! refused by name, but for the sticky bit, which xfs_db sets afterwards.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use hull_sys::run::{Program, RunError};
use rustix::fs::{FileType, Mode};

use super::{FilesystemError, Recipe, version};
use crate::content::{Entry, Step, walk};

const PACKAGE: &str = "xfsprogs";

/// The first version that takes a directory.
const TAKES_DIRECTORY: [u32; 2] = [6, 17];

pub(super) fn make(
    recipe: &Recipe<'_>,
    file: &Path,
    sector_size: u16,
) -> Result<(), FilesystemError> {
    let printed = Program::new("mkfs.xfs")
        .package(PACKAGE)
        .arg("-V")
        .output()?;
    let printed = String::from_utf8_lossy(&printed).trim().to_owned();
    let takes_directory =
        version(&printed).is_some_and(|version| version >= TAKES_DIRECTORY.into());
    if takes_directory {
        return Ok(mkfs(recipe, file, sector_size, recipe.source)
            // What Linux before 6.10 cannot mount is not for hull's floor.
            .args(["-i", "exchange=0", "-n", "parent=0"])
            .run()?);
    }
    let prototype = recipe.scratch.join("xfs.prototype");
    let sticky = Prototype::write(recipe, &prototype, printed)?;
    mkfs(recipe, file, sector_size, &prototype).run()?;
    set_modes(file, &sticky).map_err(FilesystemError::from)
}

fn mkfs(recipe: &Recipe<'_>, file: &Path, sector_size: u16, content: &Path) -> Program {
    Program::new("mkfs.xfs")
        .package(PACKAGE)
        .env("SOURCE_DATE_EPOCH", recipe.epoch_text())
        .env("DETERMINISTIC_SEED", "1")
        .args(["-q", "-f", "-L", recipe.label])
        .args(["-m", &format!("uuid={}", recipe.uuid)])
        .args(["-s", &format!("size={sector_size}")])
        .arg("-p")
        .arg(content)
        .arg(file)
}

/// A path in the file system, and the mode that the prototype could not say.
type Sticky = (PathBuf, u32);

/// Sets the modes that a prototype cannot say.
fn set_modes(file: &Path, modes: &[Sticky]) -> Result<(), RunError> {
    for chunk in modes.chunks(64) {
        let mut program = Program::new("xfs_db").package(PACKAGE).arg("-x");
        for (path, mode) in chunk {
            let mut select = std::ffi::OsString::from("path /");
            select.push(path);
            program = program.arg("-c").arg(select);
            program = program
                .arg("-c")
                .arg(format!("write -d core.mode 0{mode:o}"));
        }
        program.arg(file).output()?;
    }
    Ok(())
}

/// A prototype file in the making.
struct Prototype<'a> {
    recipe: &'a Recipe<'a>,
    /// The tool with its version, for errors.
    tool: String,
    out: BufWriter<File>,
    path: &'a Path,
    sticky: Vec<Sticky>,
}

impl<'a> Prototype<'a> {
    /// Writes the prototype of the source and returns the modes it could not say.
    fn write(
        recipe: &'a Recipe<'a>,
        path: &'a Path,
        tool: String,
    ) -> Result<Vec<Sticky>, FilesystemError> {
        let scratch = |source| FilesystemError::Scratch {
            path: path.into(),
            source,
        };
        let out = BufWriter::new(File::create(path).map_err(scratch)?);
        let mut prototype = Prototype {
            recipe,
            tool,
            out,
            path,
            sticky: Vec::new(),
        };
        prototype.check_path(recipe.source)?;
        // A boot block and sizes, which are ignored, then the root.
        prototype.line(b"/\n0 0\nd--755 0 0")?;
        let source = File::open(recipe.source).map_err(scratch)?;
        walk(&source, &mut |step| match step {
            Step::Visit(entry) => prototype.entry(&entry),
            Step::Leave(_) => prototype.line(b"$"),
        })?;
        prototype.line(b"$")?;
        prototype.out.flush().map_err(scratch)?;
        Ok(prototype.sticky)
    }

    fn entry(&mut self, entry: &Entry<'_>) -> Result<(), FilesystemError> {
        self.check(entry)?;
        let name = entry.path.file_name().unwrap_or_default();
        let stat = entry.stat;
        let mode = stat.st_mode & 0o7777;
        if mode & Mode::SVTX.bits() != 0 {
            self.sticky.push((entry.path.into(), stat.st_mode));
        }
        let setuid = if mode & Mode::SUID.bits() == 0 {
            '-'
        } else {
            'u'
        };
        let setgid = if mode & Mode::SGID.bits() == 0 {
            '-'
        } else {
            'g'
        };
        let (letter, rest) = self.kind(entry)?;
        let (permissions, uid, gid) = (mode & 0o777, stat.st_uid, stat.st_gid);
        let mut line = name.as_bytes().to_vec();
        line.extend(format!(" {letter}{setuid}{setgid}{permissions:03o} {uid} {gid} ").bytes());
        line.extend(rest);
        self.line(&line)
    }

    /// The letter of an entry's kind, and what follows its owner.
    fn kind(&self, entry: &Entry<'_>) -> Result<(char, Vec<u8>), FilesystemError> {
        let device = || {
            let number = entry.stat.st_rdev;
            format!(
                "{} {}",
                rustix::fs::major(number),
                rustix::fs::minor(number)
            )
            .into_bytes()
        };
        match entry.kind {
            FileType::Directory => Ok(('d', Vec::new())),
            FileType::RegularFile => Ok((
                '-',
                self.recipe
                    .source
                    .join(entry.path)
                    .into_os_string()
                    .as_bytes()
                    .to_vec(),
            )),
            FileType::Symlink => {
                let name = entry.path.file_name().unwrap_or_default();
                let target = rustix::fs::readlinkat(entry.parent, name, Vec::new())
                    .map_err(|error| self.unreadable(entry, error))?;
                if !sayable(OsStr::from_bytes(target.as_bytes())) {
                    return Err(self.refused(
                        entry.path,
                        "the target of the link has a blank or a quote in it",
                    ));
                }
                Ok(('l', target.into_bytes()))
            }
            FileType::BlockDevice => Ok(('b', device())),
            FileType::CharacterDevice => Ok(('c', device())),
            FileType::Fifo => Ok(('p', Vec::new())),
            _ => Err(self.refused(entry.path, "it is a socket")),
        }
    }

    /// Refuses what a prototype cannot say.
    fn check(&self, entry: &Entry<'_>) -> Result<(), FilesystemError> {
        let name = entry.path.file_name().unwrap_or_default();
        if !sayable(name) || name == "$" || name.as_bytes().starts_with(b":") {
            return Err(self.refused(entry.path, "its name has a blank, a quote or a sign in it"));
        }
        if entry.kind != FileType::Directory && entry.stat.st_nlink > 1 {
            return Err(self.refused(entry.path, "it has several hard links"));
        }
        let path = self.recipe.source.join(entry.path);
        // Room for no name: any attribute makes this fail with ERANGE or say a length.
        match rustix::fs::llistxattr(&path, &mut [0; 0][..]) {
            Ok(0) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            Ok(_) => Err(self.refused(entry.path, "it has extended attributes")),
            Err(error) => Err(self.unreadable(entry, error)),
        }
    }

    fn check_path(&self, path: &Path) -> Result<(), FilesystemError> {
        if sayable(path.as_os_str()) {
            return Ok(());
        }
        Err(FilesystemError::Refused {
            tool: self.tool.clone(),
            path: path.into(),
            reason: "the path of the working directory has a blank or a quote in it",
            remedy: "choose another working directory",
        })
    }

    fn unreadable(&self, entry: &Entry<'_>, error: rustix::io::Errno) -> FilesystemError {
        let path = Path::new("/").join(entry.path);
        crate::content::ContentError::Read {
            path,
            source: error.into(),
        }
        .into()
    }

    fn refused(&self, path: &Path, reason: &'static str) -> FilesystemError {
        FilesystemError::Refused {
            tool: self.tool.clone(),
            path: Path::new("/").join(path),
            reason,
            remedy: "install xfsprogs 6.17 or later, or choose ext4 or btrfs",
        }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), FilesystemError> {
        self.out
            .write_all(line)
            .and_then(|()| self.out.write_all(b"\n"))
            .map_err(|source| FilesystemError::Scratch {
                path: self.path.into(),
                source,
            })
    }
}

/// Whether mkfs.xfs and xfs_db read a word as it is written.
fn sayable(word: &OsStr) -> bool {
    let unsayable = |byte: &u8| *byte <= b' ' || *byte == 0x7f || b"\"'\\".contains(byte);
    !word.is_empty() && !word.as_bytes().iter().any(unsayable)
}
