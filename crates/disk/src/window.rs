//! A part of a file or device that looks like a whole one.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

/// `length` bytes of a file from `start` on, with a position of its own.
///
/// Reads end at the end of the window; writes past it fail with
/// [`io::ErrorKind::StorageFull`]. It uses positioned reads and writes, so
/// several windows can share one file.
#[derive(Debug)]
pub struct Window<'a> {
    file: &'a File,
    start: u64,
    length: u64,
    position: u64,
}

impl<'a> Window<'a> {
    /// A window onto `file`; its end must be below 2^63.
    pub fn new(file: &'a File, start: u64, length: u64) -> io::Result<Self> {
        let end = start.checked_add(length).filter(|end| *end < 1 << 63);
        let Some(_) = end else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the window ends past 2^63",
            ));
        };
        Ok(Window {
            file,
            start,
            length,
            position: 0,
        })
    }

    /// How much of a buffer fits between the position and the end.
    fn fitting(&self, wanted: usize) -> usize {
        let left = self.length.saturating_sub(self.position);
        usize::try_from(left).map_or(wanted, |left| wanted.min(left))
    }

    fn advance(&mut self, by: usize) {
        self.position += u64::try_from(by).unwrap_or(0);
    }
}

impl Read for Window<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let fitting = self.fitting(buffer.len());
        let read = self
            .file
            .read_at(&mut buffer[..fitting], self.start + self.position)?;
        self.advance(read);
        Ok(read)
    }
}

impl Write for Window<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let fitting = self.fitting(buffer.len());
        if fitting == 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let written = self
            .file
            .write_at(&buffer[..fitting], self.start + self.position)?;
        self.advance(written);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Window<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = position
            .filter(|p| *p < 1 << 62)
            .ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_of_the_window_is_read_or_written() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[b'x'; 30]).unwrap();
        let mut window = Window::new(&file, 10, 10).unwrap();
        window.seek(SeekFrom::End(-2)).unwrap();
        assert_eq!(window.write(b"abcd").unwrap(), 2);
        assert_eq!(
            window.write(b"cd").unwrap_err().kind(),
            io::ErrorKind::StorageFull
        );
        window.rewind().unwrap();
        let mut seen = Vec::new();
        window.read_to_end(&mut seen).unwrap();
        assert_eq!(seen, b"xxxxxxxxab");
        let mut whole = vec![0; 30];
        file.read_exact_at(&mut whole, 0).unwrap();
        assert_eq!(&whole[18..22], b"abxx");
    }

    #[test]
    fn a_seek_before_the_start_fails() {
        let file = tempfile::tempfile().unwrap();
        let mut window = Window::new(&file, 10, 10).unwrap();
        assert!(window.seek(SeekFrom::Current(-1)).is_err());
        assert!(Window::new(&file, u64::MAX, 1).is_err());
    }
}
