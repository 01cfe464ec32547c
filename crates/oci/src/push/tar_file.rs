//! A tar archive that is written in one go, and gets its name when it is whole.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::PushError;
use super::tar_end::End;
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

impl TarFile {
    /// Begins an archive.
    pub(super) fn create(
        reference: &FileReference,
        options: &SourceOptions,
    ) -> Result<Self, PushError> {
        let path = reference.path();
        let opened = End::open(reference, options.temporary());
        let (file, end) = opened.map_err(|source| PushError::Write {
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
        let ended = self.file.write_all(&END);
        ended
            .and_then(|()| self.end.commit(&mut self.file))
            .map_err(failed)
    }
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
