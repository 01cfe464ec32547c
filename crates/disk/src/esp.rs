//! The EFI system partition: FAT32, written without the kernel's help.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

use crate::content::{ContentError, Entry, Step, walk};
use crate::fat::{self, FatError, Geometry, Layout, NameError, Node, TABLES, Volume};
use crate::plan::DiskPlan;
use crate::sparse;

/// How much of a file is copied or compared at a time, in bytes.
const CHUNK: usize = 1 << 18;

/// Why the EFI system partition was not written.
#[derive(Debug, thiserror::Error)]
pub enum EspError {
    /// The staged directory could not be read.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// FAT has no such entries.
    #[error("{path} cannot go onto the EFI system partition: it is neither a file nor a directory")]
    Kind {
        /// The path on the partition.
        path: PathBuf,
    },
    /// FAT has no such names.
    #[error("{path} cannot go onto the EFI system partition: {reason}")]
    Name {
        /// The path on the partition.
        path: PathBuf,
        /// What is wrong with the name.
        reason: NameError,
    },
    /// FAT has no files of 4 GiB.
    #[error("{path} cannot go onto the EFI system partition: it has 4 GiB or more")]
    FileSize {
        /// The path on the partition.
        path: PathBuf,
    },
    /// There is no file system of that size with these files.
    #[error("the EFI system partition cannot be made: {0}")]
    Layout(#[from] FatError),
    /// A staged file changed while it was copied.
    #[error("{path} of the staged EFI system partition changed meanwhile")]
    Changed {
        /// The path on the partition.
        path: PathBuf,
    },
    /// It could not be written.
    #[error("cannot write the EFI system partition")]
    Write(#[source] io::Error),
    /// It could not be read back.
    #[error("cannot read the EFI system partition back")]
    ReadBack(#[source] io::Error),
    /// A file reads back differently.
    #[error("{path} on the EFI system partition reads back differently: the disk is faulty")]
    Differs {
        /// The path on the partition.
        path: PathBuf,
    },
    /// Something that is no file reads back differently.
    #[error(
        "the file system of the EFI system partition reads back differently: the disk is faulty"
    )]
    StructureDiffers,
}

/// Makes the EFI system partition of a plan, with the contents of `source`.
///
/// What its place held before does not matter. Not flushed.
pub fn write(plan: &DiskPlan, disk: &File, source: impl AsFd) -> Result<(), EspError> {
    let staged = Staged::read(plan, &source)?;
    let layout = &staged.layout;
    let put = |bytes: &[u8], offset: u64| {
        disk.write_all_at(bytes, plan.esp.offset + offset)
            .map_err(EspError::Write)
    };
    let table = layout.table();
    let written = u64::try_from(table.len()).unwrap_or(0);
    for copy in 0..TABLES {
        let offset = layout.geometry.table_offset(copy);
        put(&table, offset)?;
        let rest = layout.geometry.table_length() - written;
        sparse::zero(disk, plan.esp.offset + offset + written, rest).map_err(EspError::Write)?;
    }
    for piece in &layout.pieces {
        put(&piece.bytes, piece.offset)?;
    }
    staged.each_file(&source, |path, file, size, offset| {
        let copied = copy(file, disk, plan.esp.offset + offset).map_err(EspError::Write)?;
        let tail = copied.next_multiple_of(layout.geometry.cluster_size()) - copied;
        let end = plan.esp.offset + offset + copied;
        sparse::zero(disk, end, tail).map_err(EspError::Write)?;
        if copied == size {
            Ok(())
        } else {
            Err(EspError::Changed { path: named(path) })
        }
    })
}

/// Reads everything back from the disk and compares it with `source`.
pub fn verify(plan: &DiskPlan, disk: &File, source: impl AsFd) -> Result<(), EspError> {
    let staged = Staged::read(plan, &source)?;
    let layout = &staged.layout;
    let equal = |bytes: &[u8], offset: u64| {
        let mut read = vec![0; bytes.len()];
        disk.read_exact_at(&mut read, plan.esp.offset + offset)
            .map_err(EspError::ReadBack)?;
        if read == bytes {
            Ok(())
        } else {
            Err(EspError::StructureDiffers)
        }
    };
    let table = layout.table();
    for copy in 0..TABLES {
        equal(&table, layout.geometry.table_offset(copy))?;
    }
    for piece in &layout.pieces {
        equal(&piece.bytes, piece.offset)?;
    }
    staged.each_file(&source, |path, file, size, offset| {
        let mut disk = disk;
        disk.seek(SeekFrom::Start(plan.esp.offset + offset))
            .map_err(EspError::ReadBack)?;
        match same(file, disk.take(size)) {
            Ok(true) => Ok(()),
            Ok(false) => Err(EspError::Differs { path: named(path) }),
            Err(error) => Err(EspError::ReadBack(error)),
        }
    })
}

/// The staged tree, and where everything goes.
struct Staged {
    layout: Layout,
    sizes: Vec<u64>,
}

impl Staged {
    fn read(plan: &DiskPlan, source: impl AsFd) -> Result<Staged, EspError> {
        let geometry = Geometry::new(plan.esp.length, plan.sector_size)?;
        let (tree, sizes) = read_tree(source)?;
        let hidden = plan.esp.offset / u64::from(plan.sector_size.bytes());
        let volume = Volume {
            label: label(plan.esp.label),
            serial: plan.identity.esp_volume,
            hidden_sectors: u32::try_from(hidden).unwrap_or(0),
        };
        Ok(Staged {
            layout: Layout::new(geometry, &volume, &tree)?,
            sizes,
        })
    }

    /// Opens each staged file, with its size and the place of its contents.
    fn each_file(
        &self,
        source: impl AsFd,
        mut visit: impl FnMut(&Path, File, u64, u64) -> Result<(), EspError>,
    ) -> Result<(), EspError> {
        let mut places = self.sizes.iter().zip(&self.layout.files);
        walk(source, &mut |step| match step {
            Step::Visit(entry) if entry.kind == FileType::RegularFile => match places.next() {
                Some((size, offset)) => visit(entry.path, open_file(&entry)?, *size, *offset),
                None => Err(EspError::Changed {
                    path: named(entry.path),
                }),
            },
            Step::Visit(_) | Step::Leave(_) => Ok(()),
        })
    }
}

/// The staged tree in the order of the walk, and the sizes of its files.
fn read_tree(source: impl AsFd) -> Result<(Vec<Node>, Vec<u64>), EspError> {
    let mut sizes = Vec::new();
    let mut seen = HashSet::new();
    // The directories on the way to where the walk is, each with its name.
    let mut open: Vec<(String, Vec<Node>)> = vec![(String::new(), Vec::new())];
    walk(source, &mut |step| match step {
        Step::Visit(entry) => {
            let name = name_of(&entry, &mut seen)?;
            match entry.kind {
                FileType::Directory => open.push((name, Vec::new())),
                FileType::RegularFile => {
                    let path = named(entry.path);
                    let size = u32::try_from(entry.stat.st_size)
                        .map_err(|_| EspError::FileSize { path })?;
                    sizes.push(size.into());
                    add(&mut open, Node::File { name, size });
                }
                _ => {
                    return Err(EspError::Kind {
                        path: named(entry.path),
                    });
                }
            }
            Ok(())
        }
        Step::Leave(_) => {
            if let Some((name, children)) = open.pop() {
                add(&mut open, Node::Directory { name, children });
            }
            Ok(())
        }
    })?;
    Ok((
        open.pop().map(|(_, children)| children).unwrap_or_default(),
        sizes,
    ))
}

fn add(open: &mut [(String, Vec<Node>)], node: Node) {
    if let Some((_, children)) = open.last_mut() {
        children.push(node);
    }
}

/// The name of an entry, when FAT can hold it beside those `seen` so far.
fn name_of(entry: &Entry<'_>, seen: &mut HashSet<String>) -> Result<String, EspError> {
    let refuse = |reason| EspError::Name {
        path: named(entry.path),
        reason,
    };
    let name = entry.path.file_name().unwrap_or_default();
    let name = name.to_str().ok_or_else(|| refuse(NameError::Encoding))?;
    fat::check_name(name).map_err(refuse)?;
    if !seen.insert(entry.path.to_string_lossy().to_lowercase()) {
        return Err(refuse(NameError::Case));
    }
    Ok(name.to_owned())
}

fn label(text: &str) -> [u8; 11] {
    let mut label = [b' '; 11];
    for (to, from) in label.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    label
}

/// Copies a file to an offset of the disk and returns how long it was.
fn copy(mut from: File, disk: &File, offset: u64) -> io::Result<u64> {
    let mut buffer = vec![0; CHUNK];
    let mut copied = 0;
    loop {
        let read = fill(&mut from, &mut buffer)?;
        if read == 0 {
            return Ok(copied);
        }
        disk.write_all_at(&buffer[..read], offset + copied)?;
        copied += u64::try_from(read).unwrap_or(0);
    }
}

fn same(mut one: impl Read, mut other: impl Read) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; CHUNK], vec![0; CHUNK]);
    loop {
        let (length, other_length) = (fill(&mut one, &mut left)?, fill(&mut other, &mut right)?);
        if left[..length] != right[..other_length] {
            return Ok(false);
        }
        if length == 0 {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

fn open_file(entry: &Entry<'_>) -> Result<File, ContentError> {
    let name = entry.path.file_name().unwrap_or_default();
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file: Result<OwnedFd, _> = rustix::fs::openat(entry.parent, name, flags, Mode::empty());
    file.map(File::from).map_err(|error| ContentError::Read {
        path: named(entry.path),
        source: error.into(),
    })
}

fn named(path: &Path) -> PathBuf {
    Path::new("/").join(path)
}
