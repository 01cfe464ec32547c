//! tar-split: everything of a layer's tar but the content of its files, from which
//! the tar is put together again bit for bit.
//!
//! One JSON object a line: a segment of bytes, or a file by its name and length
//! (`github.com/vbatts/tar-split`, `tar/storage`).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::os::fd::OwnedFd;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::OFlags;
use serde::Deserialize;

/// The longest line, in bytes: a segment is headers of one entry.
const MAX_LINE: u64 = 16 << 20;
const FILE: u8 = 1;
const SEGMENT: u8 = 2;

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: u8,
    name: Option<String>,
    /// The name where it is no UTF-8.
    name_raw: Option<String>,
    size: Option<u64>,
    payload: Option<String>,
}

/// A piece of a layer's tar.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// These bytes.
    Bytes(Vec<u8>),
    /// So many bytes of this file.
    File(Vec<u8>, u64),
}

/// The pieces of a layer's tar, in order.
pub(super) struct Pieces<R> {
    lines: BufReader<R>,
    line: Vec<u8>,
}

impl<R: Read> Pieces<R> {
    /// Reads what is unpacked already.
    pub(super) fn new(unpacked: R) -> Self {
        Self {
            lines: BufReader::new(unpacked),
            line: Vec::new(),
        }
    }

    /// The next piece that is not empty.
    pub(super) fn next(&mut self) -> io::Result<Option<Piece>> {
        loop {
            self.line.clear();
            let mut line = (&mut self.lines).take(MAX_LINE);
            if line.read_until(b'\n', &mut self.line)? == 0 {
                return Ok(None);
            }
            if self.line.last() != Some(&b'\n') && self.line.len() as u64 == MAX_LINE {
                return Err(invalid("a line is too long"));
            }
            if let Some(piece) = parse(&self.line)? {
                return Ok(Some(piece));
            }
        }
    }

    /// The length of the tar.
    pub(super) fn length(mut self) -> io::Result<u64> {
        let mut length: u64 = 0;
        while let Some(piece) = self.next()? {
            length = length
                .checked_add(match piece {
                    Piece::Bytes(bytes) => bytes.len() as u64,
                    Piece::File(_, size) => size,
                })
                .ok_or_else(|| invalid("it is impossibly long"))?;
        }
        Ok(length)
    }
}

fn parse(line: &[u8]) -> io::Result<Option<Piece>> {
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    let line: Line =
        serde_json::from_slice(line).map_err(|error| invalid(&format!("a line: {error}")))?;
    let decode = |text: &str| {
        let bytes = STANDARD.decode(text);
        bytes.map_err(|_| invalid("a line has text that is not base64"))
    };
    match line.kind {
        SEGMENT => {
            let bytes = decode(line.payload.as_deref().unwrap_or_default())?;
            Ok((!bytes.is_empty()).then_some(Piece::Bytes(bytes)))
        }
        FILE => {
            let name = match (&line.name_raw, line.name) {
                (Some(raw), _) if !raw.is_empty() => decode(raw)?,
                (_, name) => name.unwrap_or_default().into_bytes(),
            };
            let size = line.size.unwrap_or(0);
            Ok((size > 0).then_some(Piece::File(name, size)))
        }
        other => Err(invalid(&format!("a line of the unknown type {other}"))),
    }
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("podman's record of the layer (tar-split) is damaged: {reason}"),
    )
}

/// A layer's tar, put together while it is read. The digest of what comes is the
/// caller's to check.
pub(super) struct Assembled<R> {
    pieces: Pieces<R>,
    /// The files of the layer.
    dir: OwnedFd,
    current: Current,
}

enum Current {
    Bytes(Cursor<Vec<u8>>),
    File {
        file: File,
        name: Vec<u8>,
        left: u64,
    },
}

impl<R: Read> Assembled<R> {
    pub(super) fn new(pieces: Pieces<R>, dir: OwnedFd) -> Self {
        Self {
            pieces,
            dir,
            current: Current::Bytes(Cursor::default()),
        }
    }

    fn open(&self, name: Vec<u8>, size: u64) -> io::Result<Current> {
        let trimmed: &[u8] = {
            let start = name.iter().position(|&b| b != b'/').unwrap_or(name.len());
            &name[start..]
        };
        // The parents may be links, as when podman unpacked the layer; the file is none.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = hull_sys::dir::open_in_root(&self.dir, trimmed, flags)
            .map_err(|error| about(&name, error))?;
        let file = File::from(file);
        if !file.metadata()?.is_file() {
            return Err(about(&name, io::Error::other("it is no regular file")));
        }
        Ok(Current::File {
            file,
            name,
            left: size,
        })
    }
}

/// Names the file of the layer.
fn about(name: &[u8], error: io::Error) -> io::Error {
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => super::FOREIGN,
        io::ErrorKind::NotFound => "; the store is damaged, `podman system check` says more",
        _ => "",
    };
    let name = crate::layer::EntryName::new(name);
    io::Error::new(error.kind(), format!("{name}: {error}{advice}"))
}

impl<R: Read> Read for Assembled<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match &mut self.current {
                Current::Bytes(bytes) => {
                    let count = bytes.read(buffer)?;
                    if count > 0 {
                        return Ok(count);
                    }
                }
                Current::File { left: 0, .. } => {}
                Current::File { file, name, left } => {
                    let room = usize::try_from(*left).map_or(buffer.len(), |n| n.min(buffer.len()));
                    let count = file.read(&mut buffer[..room])?;
                    if count == 0 {
                        let cut = io::Error::other("it is shorter than when podman stored it");
                        return Err(about(name, cut));
                    }
                    *left -= count as u64;
                    return Ok(count);
                }
            }
            self.current = match self.pieces.next()? {
                None => return Ok(0),
                Some(Piece::Bytes(bytes)) => Current::Bytes(Cursor::new(bytes)),
                Some(Piece::File(name, size)) => self.open(name, size)?,
            };
        }
    }
}

/// Puts a tar together after a record of any bytes, with the files of `dir`. Gives the
/// length that was foretold and the one that came of it.
#[cfg(fuzzing)]
pub fn fuzz(record: &[u8], dir: OwnedFd) -> io::Result<(u64, u64)> {
    let foretold = Pieces::new(record).length()?;
    let mut tar = Assembled::new(Pieces::new(record), dir);
    let actual = io::copy(&mut tar, &mut io::sink())?;
    Ok((foretold, actual))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn lines(pieces: &[Piece]) -> Vec<u8> {
        let line = |piece: &Piece| match piece {
            Piece::Bytes(bytes) => {
                serde_json::json!({"type": 2, "payload": STANDARD.encode(bytes), "position": 0})
            }
            Piece::File(name, size) => match std::str::from_utf8(name) {
                Ok(name) => serde_json::json!({"type": 1, "name": name, "size": size}),
                Err(_) => {
                    serde_json::json!({"type": 1, "name_raw": STANDARD.encode(name), "size": size})
                }
            },
        };
        let lines = pieces.iter().map(|piece| format!("{}\n", line(piece)));
        lines.collect::<String>().into_bytes()
    }

    fn layer() -> (tempfile::TempDir, OwnedFd) {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("usr")).unwrap();
        std::os::unix::fs::symlink("usr", temp.path().join("lib")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", temp.path().join("link")).unwrap();
        let mut file = File::create(temp.path().join("usr/file")).unwrap();
        file.write_all(b"content").unwrap();
        let dir = OwnedFd::from(File::open(temp.path()).unwrap());
        (temp, dir)
    }

    fn assembled(pieces: &[Piece]) -> io::Result<Vec<u8>> {
        let (_temp, dir) = layer();
        let mut out = Vec::new();
        let text = lines(pieces);
        Assembled::new(Pieces::new(&*text), dir).read_to_end(&mut out)?;
        Ok(out)
    }

    fn file(name: &[u8], size: u64) -> Piece {
        Piece::File(name.to_vec(), size)
    }

    #[test]
    fn segments_and_files_become_the_tar() {
        let pieces = [
            Piece::Bytes(b"header".to_vec()),
            file(b"./usr/file", 7),
            Piece::Bytes(vec![0; 5]),
            file(b"/lib/file", 7),
        ];
        let expected = b"headercontent\0\0\0\0\0content";
        assert_eq!(assembled(&pieces).unwrap(), expected);
        let text = lines(&pieces);
        let length = Pieces::new(&*text).length().unwrap();
        assert_eq!(length, expected.len() as u64);
    }

    #[test]
    fn a_file_that_is_gone_shorter_or_elsewhere_is_named() {
        for (name, size) in [
            (&b"usr/gone"[..], 7),
            (b"usr/file", 8),
            (b"link", 7),
            (b"usr", 7),
            (b"../../etc/hostname\xff", 7),
        ] {
            let error = assembled(&[file(name, size)]).unwrap_err().to_string();
            assert!(error.contains(':'), "{error}");
        }
    }

    #[test]
    fn damage_is_told() {
        for text in [
            "nonsense\n",
            "{\"type\":3}\n",
            "{\"type\":2,\"payload\":\"&\"}\n",
            "{\"type\":1,\"name\":\"x\",\"size\":-1}\n",
        ] {
            let error = Pieces::new(text.as_bytes()).next().unwrap_err();
            assert!(error.to_string().contains("damaged"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_record_is_read_or_refused(text: Vec<u8>) {
            let mut pieces = Pieces::new(&*text);
            while let Ok(Some(_)) = pieces.next() {}
        }
    }
}
