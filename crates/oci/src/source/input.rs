//! The file of an archive, such that any part of it can be read at any time.
//!
//! Standard input, pipes and compressed archives are copied to a file without a
//! name first, which goes with the process whatever happens to it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FileType, Mode, OFlags};

use super::{SourceError, SourceOptions};
use crate::decompress::decompress_any;
use crate::manifest::Compression;
use crate::reference::FileReference;

/// How much of the file system with the copies stays free for others, in bytes: on a
/// small one a twentieth.
const MARGIN: u64 = 256 << 20;
/// How often the free space is looked at, in bytes written.
const STEP: u64 = 64 << 20;

/// Standard input can be read once, and a program opens an image more than once.
static STDIN: Mutex<Option<Arc<File>>> = Mutex::new(None);

/// Opens the file of an archive for reading at any place.
pub(super) fn open(
    reference: &FileReference,
    options: &SourceOptions,
) -> Result<Arc<File>, SourceError> {
    let temporary = options.temporary();
    let opened = if reference.is_stdin() {
        let mut stdin = STDIN.lock().unwrap_or_else(PoisonError::into_inner);
        match &*stdin {
            Some(file) => Ok(Arc::clone(file)),
            None => standard_input(temporary).inspect(|file| *stdin = Some(Arc::clone(file))),
        }
    } else {
        named(reference.path(), temporary)
    };
    opened.map_err(|source| SourceError::Read {
        path: reference.path().to_owned(),
        what: "cannot read the archive".to_owned(),
        source,
    })
}

fn standard_input(temporary: &Path) -> io::Result<Arc<File>> {
    let file = File::from(rustix::stdio::stdin().try_clone_to_owned()?);
    readable_anywhere(file, temporary)
}

fn named(path: &Path, temporary: &Path) -> io::Result<Arc<File>> {
    // Without NONBLOCK, opening some devices would wait.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if kind(&file)? != FileType::Fifo {
        return readable_anywhere(file, temporary);
    }
    // A pipe, such as the shell's <(…), is waited for.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    readable_anywhere(file, temporary)
}

fn kind(file: &File) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode))
}

/// The file itself where that does, else a copy of what it holds.
fn readable_anywhere(mut file: File, temporary: &Path) -> io::Result<Arc<File>> {
    match kind(&file)? {
        FileType::RegularFile => {
            let mut start = [0; 6];
            let count = file.read_at(&mut start, 0)?;
            if crate::decompress::sniff(&start[..count]) == Compression::None {
                refuse_others(&start)?;
                return Ok(Arc::new(file));
            }
            io::Seek::rewind(&mut file)?;
        }
        FileType::Fifo | FileType::Socket => {}
        _ => return Err(io::Error::other("it is no regular file and no pipe")),
    }
    let (_, mut content) = decompress_any(file)?;
    let copy = tempfile::tempfile_in(temporary)?;
    fill(&copy, &mut *content, free_bytes)?;
    let mut start = [0; 6];
    let count = copy.read_at(&mut start, 0)?;
    refuse_others(&start[..count])?;
    Ok(Arc::new(copy))
}

/// Names the two formats that somebody may have packed the archive with.
fn refuse_others(start: &[u8]) -> io::Result<()> {
    let program = match start {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "unxz",
        [b'B', b'Z', b'h', ..] => "bunzip2",
        _ => return Ok(()),
    };
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        format!(
            "it is compressed in a way that hull does not read; unpack it with {program} first"
        ),
    ))
}

/// Bytes that are free and in all, on the file system with this file.
fn free_bytes(file: &File) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::fstatvfs(file.as_fd())?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok((bytes(stat.f_bavail), bytes(stat.f_blocks)))
}

/// Copies all of `content`, as far as the file system has room.
fn fill(
    mut copy: &File,
    content: &mut dyn Read,
    free: impl Fn(&File) -> io::Result<(u64, u64)>,
) -> io::Result<()> {
    let mut written: u64 = 0;
    loop {
        let (available, all) = free(copy)?;
        let margin = MARGIN.min(all / 20);
        let room = available.saturating_sub(margin);
        if room == 0 {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!(
                    "no room for a copy of it: {written} bytes were written, and {available} of {all} are free where temporary files are, of which {margin} must stay"
                ),
            ));
        }
        let count = io::copy(&mut content.take(room.min(STEP)), &mut copy)?;
        written = written.saturating_add(count);
        if count == 0 {
            return copy.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_and_a_compressed_file_are_copied_whole() {
        let temp = tempfile::tempdir().unwrap();
        let packed = zstd::encode_all(&[7; 100_000][..], 1).unwrap();
        let mut file = tempfile::tempfile_in(temp.path()).unwrap();
        file.write_all(&packed).unwrap();
        let copy = readable_anywhere(file, temp.path()).unwrap();
        assert_eq!(copy.metadata().unwrap().len(), 100_000);
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let sender = std::thread::spawn(move || File::from(writer).write_all(&packed).unwrap());
        let copy = readable_anywhere(File::from(reader), temp.path()).unwrap();
        sender.join().unwrap();
        let mut bytes = [0; 8];
        copy.read_exact_at(&mut bytes, 99_992).unwrap();
        assert_eq!(bytes, [7; 8]);
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_copy_never_takes_the_last_room() {
        let copy = tempfile::tempfile().unwrap();
        let free = |file: &File| Ok((1000 - file.metadata()?.len(), 2000));
        let error = fill(&copy, &mut io::repeat(1), free).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(error.to_string().contains("100 of 2000"), "{error}");
        assert_eq!(copy.metadata().unwrap().len(), 900);
    }

    #[test]
    fn other_compressions_are_named() {
        let error = refuse_others(b"\xfd7zXZ\0").unwrap_err();
        assert!(error.to_string().contains("unxz"), "{error}");
        assert!(refuse_others(b"oci-la").is_ok());
    }
}
