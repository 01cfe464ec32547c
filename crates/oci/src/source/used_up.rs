//! Layouts that nobody wants once they are copied: what was read of them takes no room any more.

use std::fs::File;
use std::io::{self, Read};

use rustix::fs::{FallocateFlags, OFlags};

use super::layout::{Directory, Files};

/// Room is given back after so many bytes, and at the end.
const STEP: u64 = 4 << 20;

/// Shorter files keep theirs: nothing is won by it, and most documents can be read again.
const SHORT: u64 = 64 << 10;

/// The files of such a layout; they are writable for nobody else meanwhile.
#[derive(Debug)]
pub(super) struct UsedUp(pub(super) Directory);

impl Files for UsedUp {
    fn open(&self, path: &str) -> io::Result<Option<(Box<dyn Read + Send>, u64)>> {
        let Some((file, length)) = self.0.open_file(path, OFlags::RDWR)? else {
            return Ok(None);
        };
        if length <= SHORT {
            return Ok(Some((Box::new(file), length)));
        }
        let reader = Draining {
            file,
            read: 0,
            given_back: 0,
        };
        Ok(Some((Box::new(reader), length)))
    }
}

/// Reads a file once, from its beginning.
struct Draining {
    file: File,
    read: u64,
    given_back: u64,
}

impl Draining {
    fn give_back(&mut self) {
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let behind = self.read - self.given_back;
        if behind > 0 {
            // Only to save room: where it is not supported, the file goes later.
            rustix::fs::fallocate(&self.file, punch, self.given_back, behind).ok();
        }
        self.given_back = self.read;
    }
}

impl Read for Draining {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.read += count as u64;
        if self.read - self.given_back >= STEP {
            self.give_back();
        }
        Ok(count)
    }
}

impl Drop for Draining {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn what_was_read_takes_no_room_and_short_files_stay() {
        let temp = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..3 * STEP).map(|byte| byte.to_le_bytes()[1]).collect();
        let write = |name: &str, content: &[u8]| {
            let mut file = File::create(temp.path().join(name)).unwrap();
            file.write_all(content).unwrap();
        };
        write("long", &content);
        write("short", b"document");
        let files = UsedUp(Directory::open(temp.path()).unwrap());
        let (mut reader, length) = files.open("long").unwrap().unwrap();
        assert_eq!(length, 3 * STEP);
        let mut half = vec![0; content.len() / 2];
        reader.read_exact(&mut half).unwrap();
        let blocks = || temp.path().join("long").metadata().unwrap().blocks() * 512;
        assert!(blocks() <= 2 * STEP, "{}", blocks());
        let mut rest = Vec::new();
        reader.read_to_end(&mut rest).unwrap();
        assert!([half, rest].concat() == content);
        drop(reader);
        assert_eq!(blocks(), 0);
        for _ in 0..2 {
            let (mut reader, _) = files.open("short").unwrap().unwrap();
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!(text, "document");
        }
        assert!(files.open("none").unwrap().is_none());
    }
}
