//! The archive without the contents of files: tar-split, a JSON object a line.

use std::io::{self, Write};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::is_zero;
use super::packed::{Packed, Packer};

/// Takes what is in an archive, in its order.
pub(super) struct Split {
    packer: Packer,
    /// The length before compression.
    length: u64,
    line: Vec<u8>,
    /// Bytes that the next segment begins with.
    pending: Vec<u8>,
    position: u64,
}

/// A line of tar-split.
#[derive(Serialize)]
struct Line<'a> {
    /// 1 is a file, 2 a segment of bytes.
    #[serde(rename = "type")]
    kind: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "is_zero")]
    size: u64,
    payload: Option<String>,
    position: u64,
}

impl Split {
    pub(super) fn new(dir: &Path) -> io::Result<Self> {
        Ok(Self {
            packer: Packer::new(dir)?,
            length: 0,
            line: Vec::new(),
            pending: Vec::new(),
            position: 0,
        })
    }

    /// Bytes that belong to no entry: what fills up a block, and the end.
    pub(super) fn filling(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// A header, with what filled up the block before it: readers count on one segment for both.
    pub(super) fn segment(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.pending.extend_from_slice(bytes);
        let payload = STANDARD.encode(&self.pending);
        self.pending.clear();
        self.line(2, None, 0, Some(payload))
    }

    pub(super) fn file(&mut self, name: &str, size: u64, crc: Option<u64>) -> io::Result<()> {
        let payload = crc.map(|crc| STANDARD.encode(crc.to_be_bytes()));
        self.line(1, Some(name), size, payload)
    }

    fn line(
        &mut self,
        kind: u8,
        name: Option<&str>,
        size: u64,
        payload: Option<String>,
    ) -> io::Result<()> {
        let line = Line {
            kind,
            name,
            size,
            payload,
            position: self.position,
        };
        self.position += 1;
        self.line.clear();
        serde_json::to_writer(&mut self.line, &line)?;
        self.line.push(b'\n');
        self.length += self.line.len() as u64;
        self.packer.waiting.write_all(&self.line)
    }

    /// The compressed lines, and their length before.
    pub(super) fn finish(mut self) -> io::Result<(Packed, u64)> {
        self.segment(&[])?;
        Ok((self.packer.finish()?, self.length))
    }
}
