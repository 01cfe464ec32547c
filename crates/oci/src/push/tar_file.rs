//! A tar archive that is written in one go, and gets its name when it is whole.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use hull_sys::durable;
use rustix::fs::{Mode, OFlags};

use super::PushError;
use crate::layer::tar::write::{END, Head, padding};
use crate::reference::FileReference;
use crate::source::SourceOptions;

/// How often progress is told, and the unit of copying, in bytes.
const STEP: usize = 256 << 10;

/// An archive under way, in a file without a name.
pub(super) struct TarFile {
    file: File,
    path: PathBuf,
    end: End,
}

/// Where an archive goes when it is whole.
enum End {
    Named { dir: OwnedFd, name: String },
    StandardOutput,
}

impl TarFile {
    /// Begins an archive. One for standard output is made in the directory for
    /// temporary files, so that a failure gives nothing and no half of it.
    pub(super) fn create(
        reference: &FileReference,
        options: &SourceOptions,
    ) -> Result<Self, PushError> {
        let path = reference.path();
        let made = match reference.is_stdout() {
            true => unnamed(options.temporary()).map(|file| (file, End::StandardOutput)),
            false => beside(path),
        };
        let (file, end) = made.map_err(|source| PushError::Write {
            path: path.to_owned(),
            what: "the archive".to_owned(),
            source,
        })?;
        Ok(Self {
            file,
            path: path.to_owned(),
            end,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn failed(&self, what: &str) -> impl FnOnce(io::Error) -> PushError + use<> {
        let (path, what) = (self.path.clone(), what.to_owned());
        move |source| PushError::Write { path, what, source }
    }

    /// Adds a directory.
    pub(super) fn directory(&mut self, name: &str) -> Result<(), PushError> {
        let head = Head {
            path: name.as_bytes(),
            kind: b'5',
            mode: 0o755,
            ..Head::default()
        };
        let failed = self.failed(name);
        self.file.write_all(&head.to_blocks()).map_err(failed)
    }

    /// Adds a file.
    pub(super) fn small(&mut self, name: &str, content: &[u8]) -> Result<(), PushError> {
        let failed = self.failed(name);
        self.write_small(name, content).map_err(failed)
    }

    fn write_small(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let size = content.len() as u64;
        self.file.write_all(&header(name, size))?;
        self.file.write_all(content)?;
        self.file.write_all(padding(size))
    }

    /// Adds a file whose length comes out only when it is written. The outer error is
    /// the content's, the inner one the archive's.
    pub(super) fn stream(
        &mut self,
        name: &str,
        content: &mut dyn Read,
        sent: &dyn Fn(u64),
    ) -> io::Result<Result<(), PushError>> {
        let failed = self.failed(name);
        let begun = self.file.stream_position().and_then(|start| {
            self.file.write_all(&header(name, 0))?;
            Ok(start)
        });
        let start = match begun {
            Ok(start) => start,
            Err(error) => return Ok(Err(failed(error))),
        };
        let poured = pour(content, &mut self.file, sent)?;
        let finished = poured.and_then(|()| {
            let end = self.file.stream_position()?;
            let length = end - start - header(name, 0).len() as u64;
            self.file.write_all_at(&header(name, length), start)?;
            self.file.write_all(padding(length))
        });
        Ok(finished.map_err(failed))
    }

    /// Ends the archive and gives it its name, in place of what had it: the commit point.
    pub(super) fn commit(&mut self) -> Result<(), PushError> {
        let failed = self.failed("the archive");
        self.commit_io().map_err(failed)
    }

    fn commit_io(&mut self) -> io::Result<()> {
        self.file.write_all(&END)?;
        let End::Named { dir, name } = &self.end else {
            self.file.rewind()?;
            let mut out = File::from(rustix::stdio::stdout().try_clone_to_owned()?);
            return io::copy(&mut self.file, &mut out).map(drop);
        };
        durable::sync_file(&self.file)?;
        let passing = format!(".{name}.new");
        durable::remove(dir, &passing)?;
        durable::link_unnamed(&self.file, dir, &passing)?;
        durable::rename(dir, &passing, dir, name)?;
        durable::sync_dir(dir)
    }
}

fn unnamed(temporary: &Path) -> io::Result<File> {
    if io::stdout().is_terminal() {
        return Err(io::Error::other(
            "standard output is a terminal; send it to a file or another program",
        ));
    }
    tempfile::tempfile_in(temporary)
}

/// A file without a name in the directory in which it gets one.
fn beside(path: &Path) -> io::Result<(File, End)> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| io::Error::other("its name is no text"))?;
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(parent.unwrap_or(Path::new(".")), flags, Mode::empty())?;
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&dir, ".", flags, Mode::from_raw_mode(0o644))?;
    let name = name.to_owned();
    Ok((File::from(file), End::Named { dir, name }))
}

fn header(name: &str, size: u64) -> Vec<u8> {
    let head = Head {
        path: name.as_bytes(),
        kind: b'0',
        mode: 0o644,
        size,
        binary_size: true,
        ..Head::default()
    };
    head.to_blocks()
}

/// Copies to the end. The outer error is the reader's, the inner one the writer's.
pub(super) fn pour(
    content: &mut dyn Read,
    out: &mut dyn Write,
    sent: &dyn Fn(u64),
) -> io::Result<io::Result<()>> {
    let mut buffer = vec![0; STEP];
    let mut written: u64 = 0;
    loop {
        let count = match content.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if count == 0 {
            return Ok(Ok(()));
        }
        if let Err(error) = out.write_all(&buffer[..count]) {
            return Ok(Err(error));
        }
        written += count as u64;
        sent(written);
    }
}
