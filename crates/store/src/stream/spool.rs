//! Bytes that wait for their place in a stream.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::FileExt;

use rustix::fs::{Mode, OFlags};

use super::builder::{length, writing};
use crate::error::{During, StoreError};
use crate::object::ObjectWriter;
use crate::store::Store;

/// Bytes that are kept in memory before they go to a file.
const LIMIT: usize = 1024 * 1024;

/// Bytes on their way: in memory while they are few, then in a file without a
/// name.
#[derive(Debug)]
pub(super) struct Spool {
    store: Store,
    length: u64,
    limit: usize,
    /// What is not in the file.
    memory: Vec<u8>,
    file: Option<File>,
}

impl Spool {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            length: 0,
            limit: LIMIT,
            memory: Vec::new(),
            file: None,
        }
    }

    #[cfg(test)]
    pub(super) fn with_limit(store: Store, limit: usize) -> Self {
        Self {
            limit,
            ..Self::new(store)
        }
    }

    /// How many bytes it has.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Reads bytes that were written in one piece.
    pub(super) fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let in_file = self.length - length(&self.memory);
        match offset.checked_sub(in_file) {
            None => match &self.file {
                Some(file) => file.read_exact_at(bytes, offset),
                None => Err(io::ErrorKind::UnexpectedEof.into()),
            },
            Some(start) => {
                let there = usize::try_from(start)
                    .ok()
                    .and_then(|start| self.memory.get(start..)?.get(..bytes.len()))
                    .ok_or(io::ErrorKind::UnexpectedEof)?;
                bytes.copy_from_slice(there);
                Ok(())
            }
        }
    }

    pub(super) fn copy_to(mut self, out: &mut ObjectWriter<'_>) -> Result<(), StoreError> {
        if let Some(mut file) = self.file.take() {
            file.rewind().during(writing)?;
            let mut buffer = vec![0; 64 * 1024];
            loop {
                let count = file.read(&mut buffer).during(writing)?;
                if count == 0 {
                    break;
                }
                out.append(&buffer[..count])?;
            }
        }
        out.append(&self.memory)
    }

    fn spill(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            let mode = Mode::from_raw_mode(0o600);
            let fd = rustix::fs::openat(self.store.root(), ".", flags, mode)?;
            self.file = Some(File::from(fd));
        }
        let file = self.file.as_mut().expect("it was made above");
        file.write_all(&self.memory)?;
        self.memory.clear();
        Ok(())
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.memory.extend_from_slice(bytes);
        self.length += length(bytes);
        if self.memory.len() > self.limit {
            self.spill()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
