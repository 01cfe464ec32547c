//! Moving the data of a sparse file, and making ranges read as zeros.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;

/// How much is copied at a time, in bytes.
const CHUNK: usize = 1 << 20;

/// What happens at the target where the source has a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holes {
    /// Nothing: the target is known to read as zeros there.
    Skip,
    /// The target is made to read as zeros.
    Zero,
}

/// Moves the first `length` bytes of `source` to `offset` of `target`.
///
/// The space of the source is given back while it goes, so that both together
/// never take much more than one. Not flushed.
pub(crate) fn drain(
    source: &File,
    length: u64,
    target: &File,
    offset: u64,
    holes: Holes,
) -> io::Result<()> {
    let mut position = 0;
    while position < length {
        let data = next_data(source, position, length)?;
        if holes == Holes::Zero && data > position {
            zero(target, offset + position, data - position)?;
        }
        if data >= length {
            break;
        }
        let hole = next_hole(source, data, length)?;
        copy(source, data, target, offset + data, hole - data)?;
        // Only to save space: where it is not supported, the file goes later.
        rustix::fs::fallocate(source, PUNCH, data, hole - data).ok();
        position = hole;
    }
    Ok(())
}

const PUNCH: FallocateFlags = FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);

/// Where the next data begins at or after `from`; `end` where there is none.
fn next_data(file: &File, from: u64, end: u64) -> io::Result<u64> {
    match rustix::fs::seek(file, SeekFrom::Data(from)) {
        Ok(data) => Ok(data.min(end)),
        Err(Errno::NXIO) => Ok(end),
        Err(error) => Err(error.into()),
    }
}

fn next_hole(file: &File, from: u64, end: u64) -> io::Result<u64> {
    Ok(rustix::fs::seek(file, SeekFrom::Hole(from))?.min(end))
}

fn copy(source: &File, from: u64, target: &File, to: u64, length: u64) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut done = 0;
    while done < length {
        let wanted = usize::try_from(length - done).map_or(CHUNK, |left| left.min(CHUNK));
        source.read_exact_at(&mut buffer[..wanted], from + done)?;
        target.write_all_at(&buffer[..wanted], to + done)?;
        done += u64::try_from(wanted).unwrap_or(0);
    }
    Ok(())
}

/// Makes a range read as zeros, by the cheapest way that the target has.
pub(crate) fn zero(file: &File, offset: u64, length: u64) -> io::Result<()> {
    if length == 0 || discard(file, offset, length)? {
        return Ok(());
    }
    match rustix::fs::fallocate(file, ZERO, offset, length) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => write_zeros(file, offset, length),
        Err(error) => Err(error.into()),
    }
}

const ZERO: FallocateFlags = FallocateFlags::ZERO_RANGE.union(FallocateFlags::KEEP_SIZE);

/// Gives a range back to the file system or the device, after which it reads as
/// zeros; false where that is not supported, and nothing was done.
pub(crate) fn discard(file: &File, offset: u64, length: u64) -> io::Result<bool> {
    match rustix::fs::fallocate(file, PUNCH, offset, length) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn write_zeros(file: &File, offset: u64, length: u64) -> io::Result<()> {
    let zeros = vec![0; CHUNK];
    let mut done = 0;
    while done < length {
        let wanted = usize::try_from(length - done).map_or(CHUNK, |left| left.min(CHUNK));
        file.write_all_at(&zeros[..wanted], offset + done)?;
        done += u64::try_from(wanted).unwrap_or(0);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sparse_source() -> File {
        let source = tempfile::tempfile().unwrap();
        source.set_len(4 << 20).unwrap();
        source.write_all_at(&[1; 5000], 1 << 20).unwrap();
        source.write_all_at(&[2; 10], (4 << 20) - 10).unwrap();
        source
    }

    #[test]
    fn holes_overwrite_what_the_target_held() {
        let source = sparse_source();
        let mut expected = vec![0; 4 << 20];
        source.read_exact_at(&mut expected, 0).unwrap();
        let target = tempfile::tempfile().unwrap();
        target.write_all_at(&vec![9; 6 << 20], 0).unwrap();
        drain(&source, 4 << 20, &target, 1 << 20, Holes::Zero).unwrap();
        let mut moved = vec![0; 6 << 20];
        target.read_exact_at(&mut moved, 0).unwrap();
        assert!(moved[1 << 20..5 << 20] == expected);
        assert!(
            moved[..1 << 20]
                .iter()
                .chain(&moved[5 << 20..])
                .all(|byte| *byte == 9)
        );
    }

    #[test]
    fn draining_gives_the_space_of_the_source_back() {
        use std::os::unix::fs::MetadataExt;
        let source = sparse_source();
        let target = tempfile::tempfile().unwrap();
        target.set_len(4 << 20).unwrap();
        drain(&source, 4 << 20, &target, 0, Holes::Skip).unwrap();
        assert_eq!(source.metadata().unwrap().blocks(), 0);
        assert!(target.metadata().unwrap().blocks() * 512 < 1 << 20);
    }
}
