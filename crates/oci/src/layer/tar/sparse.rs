//! Sparse files: where the bytes in the archive belong in the file.

use super::header::parse_number;
use super::pax::{decimal, file_size};

/// The most segments that one file may have.
const SEGMENTS_MAX: usize = 100_000;

/// What is wrong with a sparse map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SparseProblem {
    /// A number that is none, or a pair that is not whole.
    #[error("its sparse map is malformed")]
    Malformed,
    /// More segments than hull reads.
    #[error("its sparse map has more than {SEGMENTS_MAX} segments")]
    TooLong,
    /// Segments that overlap, go backwards or beyond the end of the file.
    #[error("the segments of its sparse map overlap or lie outside of the file")]
    Order,
    /// The segments' lengths are not the length of the data in the archive.
    #[error("its sparse map does not match the length of its data")]
    Length,
    /// A version other than 0.0, 0.1 and 1.0.
    #[error("its sparse map is of an unknown version")]
    Version,
    /// A map on something that is no regular file.
    #[error("it has a sparse map but is no regular file")]
    NoFile,
}

/// The segments of a sparse file that hold data; the rest reads as zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SparseMap {
    /// The length of the file in bytes.
    pub(crate) size: u64,
    /// Offset and length of each piece of data, in the order of the archive: ascending, not empty, not overlapping.
    pub(crate) segments: Vec<(u64, u64)>,
}

impl SparseMap {
    /// A map whose segments together hold `data` bytes.
    fn new(size: u64, numbers: &[u64], data: u64) -> Result<Self, SparseProblem> {
        let (pairs, []) = numbers.as_chunks::<2>() else {
            return Err(SparseProblem::Malformed);
        };
        let mut segments = Vec::with_capacity(pairs.len());
        let (mut end, mut sum) = (0u64, 0u64);
        for &[offset, length] in pairs {
            let next = offset.checked_add(length).ok_or(SparseProblem::Order)?;
            if offset < end || next > size {
                return Err(SparseProblem::Order);
            }
            (end, sum) = (next, sum + length);
            if length > 0 {
                segments.push((offset, length));
            }
        }
        if sum != data {
            return Err(SparseProblem::Length);
        }
        Ok(Self { size, segments })
    }

    /// How many bytes of the file are not in the archive.
    pub(crate) fn holes(&self) -> u64 {
        self.size - self.segments.iter().map(|(_, length)| length).sum::<u64>()
    }

    /// The whole file, from the data as the archive packs it; for small files.
    pub(crate) fn expand(&self, packed: &[u8]) -> Option<Vec<u8>> {
        let mut file = vec![0; usize::try_from(self.size).ok()?];
        let mut rest = packed;
        for &(offset, length) in &self.segments {
            let (offset, length) = (usize::try_from(offset).ok()?, usize::try_from(length).ok()?);
            let (this, after) = rest.split_at_checked(length)?;
            file.get_mut(offset..offset + length)?.copy_from_slice(this);
            rest = after;
        }
        Some(file)
    }
}

/// What the records `GNU.sparse.*` of an extended header say.
#[derive(Debug, Default, PartialEq)]
pub(super) struct PaxSparse {
    major: Option<u64>,
    minor: Option<u64>,
    name: Option<Vec<u8>>,
    size: Option<u64>,
    numbers: Vec<u64>,
    some: bool,
}

/// Where an extended header says that the map is.
pub(super) enum MapPlace {
    /// Versions 0.0 and 0.1: in the header.
    Given(Vec<u64>),
    /// Version 1.0: in front of the data.
    BeforeData,
}

impl PaxSparse {
    /// Takes the record `GNU.sparse.<key>`; nothing if it makes no sense.
    pub(super) fn set(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        self.some = true;
        match key {
            b"major" => self.major = Some(decimal(value)?),
            b"minor" => self.minor = Some(decimal(value)?),
            b"name" if !value.is_empty() => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(file_size(value)?),
            // The number of pairs that follow; they are counted as they come.
            b"numblocks" => drop(decimal(value)?),
            b"offset" if self.numbers.len().is_multiple_of(2) => self.numbers.push(decimal(value)?),
            b"numbytes" if !self.numbers.len().is_multiple_of(2) => {
                self.numbers.push(decimal(value)?)
            }
            b"map" => {
                let numbers = value.split(|&b| b == b',').filter(|_| !value.is_empty());
                self.numbers = numbers.map(decimal).collect::<Option<_>>()?;
            }
            _ => return None,
        }
        Some(())
    }

    /// The file's own name, where the entry's is one made up for programs that know no sparse files.
    pub(super) fn take_name(&mut self) -> Option<Vec<u8>> {
        self.name.take()
    }

    /// The length of the file and where its map is; nothing if the file is not sparse.
    pub(super) fn into_map(self) -> Result<Option<(u64, MapPlace)>, SparseProblem> {
        if !self.some {
            return Ok(None);
        }
        let size = self.size.ok_or(SparseProblem::Malformed)?;
        let place = match (self.major, self.minor) {
            (Some(1), Some(0)) => MapPlace::BeforeData,
            (Some(0), Some(0 | 1)) | (None, None) => MapPlace::Given(self.numbers),
            _ => return Err(SparseProblem::Version),
        };
        Ok(Some((size, place)))
    }
}

/// Collects a map from wherever a format keeps it, and counts while it does.
#[derive(Default)]
pub(super) struct MapBuilder {
    numbers: Vec<u64>,
    /// Version 1.0: the digits of a number that goes on in the next block.
    digits: Vec<u8>,
    /// Version 1.0: how many numbers there are to come in all.
    expected: Option<usize>,
}

impl MapBuilder {
    /// Adds numbers that are known already.
    pub(super) fn given(numbers: Vec<u64>) -> Result<Self, SparseProblem> {
        let mut builder = Self::default();
        for number in numbers {
            builder.push(number)?;
        }
        Ok(builder)
    }

    fn push(&mut self, number: u64) -> Result<(), SparseProblem> {
        if self.numbers.len() >= SEGMENTS_MAX * 2 {
            return Err(SparseProblem::TooLong);
        }
        self.numbers.push(number);
        Ok(())
    }

    /// Adds pairs of an old GNU header or of a block that continues it.
    pub(super) fn gnu_pairs(&mut self, pairs: &[u8]) -> Result<(), SparseProblem> {
        for pair in pairs.chunks_exact(24).take_while(|pair| pair[0] != 0) {
            for number in [&pair[..12], &pair[12..]] {
                let number = parse_number(number).and_then(|number| u64::try_from(number).ok());
                self.push(number.ok_or(SparseProblem::Malformed)?)?;
            }
        }
        Ok(())
    }

    /// Reads a block of a version 1.0 map; true once the map is whole.
    pub(super) fn text_block(&mut self, block: &[u8]) -> Result<bool, SparseProblem> {
        for &byte in block {
            if self
                .expected
                .is_some_and(|expected| self.numbers.len() >= expected)
            {
                break;
            }
            if byte != b'\n' {
                if self.digits.len() >= 20 {
                    return Err(SparseProblem::Malformed);
                }
                self.digits.push(byte);
                continue;
            }
            let number = decimal(&self.digits).ok_or(SparseProblem::Malformed)?;
            self.digits.clear();
            if self.expected.is_some() {
                self.push(number)?;
                continue;
            }
            let pairs = usize::try_from(number)
                .ok()
                .filter(|&pairs| pairs <= SEGMENTS_MAX);
            self.expected = Some(pairs.ok_or(SparseProblem::TooLong)? * 2);
        }
        Ok(self
            .expected
            .is_some_and(|expected| self.numbers.len() >= expected))
    }

    /// The map of a file of `size` bytes with `data` bytes in the archive.
    pub(super) fn finish(self, size: u64, data: u64) -> Result<SparseMap, SparseProblem> {
        SparseMap::new(size, &self.numbers, data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_must_ascend_inside_the_file_and_match_the_data() {
        assert!(SparseMap::new(100, &[0, 10, 50, 20, 100, 0], 30).is_ok());
        assert_eq!(
            SparseMap::new(100, &[0, 10, 5, 20], 30),
            Err(SparseProblem::Order)
        );
        assert_eq!(
            SparseMap::new(100, &[50, 10, 0, 20], 30),
            Err(SparseProblem::Order)
        );
        assert_eq!(
            SparseMap::new(100, &[90, 20], 20),
            Err(SparseProblem::Order)
        );
        assert_eq!(
            SparseMap::new(100, &[u64::MAX, 2], 2),
            Err(SparseProblem::Order)
        );
        assert_eq!(
            SparseMap::new(100, &[0, 10], 11),
            Err(SparseProblem::Length)
        );
        assert_eq!(SparseMap::new(100, &[0], 0), Err(SparseProblem::Malformed));
    }

    #[test]
    fn a_map_in_text_may_cross_blocks() {
        let mut builder = MapBuilder::default();
        assert_eq!(builder.text_block(b"2\n0\n5\n1"), Ok(false));
        assert_eq!(builder.text_block(b"0\n3\n\0\0\0\0"), Ok(true));
        let map = builder.finish(20, 8).unwrap();
        assert_eq!(map.segments, [(0, 5), (10, 3)]);
        assert_eq!(
            map.expand(b"abcdefgh").unwrap(),
            b"abcde\0\0\0\0\0fgh\0\0\0\0\0\0\0"
        );
        assert_eq!(map.holes(), 12);
    }

    #[test]
    fn a_map_without_segments_is_a_hole() {
        let mut builder = MapBuilder::default();
        assert_eq!(builder.text_block(b"0\n\0\0"), Ok(true));
        assert_eq!(builder.finish(9, 0).unwrap().expand(b"").unwrap(), [0; 9]);
    }

    #[test]
    fn a_map_without_bounds_is_refused() {
        assert_eq!(
            MapBuilder::default().text_block(b"100001\n"),
            Err(SparseProblem::TooLong)
        );
        assert_eq!(
            MapBuilder::default().text_block(b"99999999999999999999999"),
            Err(SparseProblem::Malformed)
        );
        assert_eq!(
            MapBuilder::default().text_block(b"-1\n"),
            Err(SparseProblem::Malformed)
        );
        assert!(matches!(
            MapBuilder::given(vec![0; 200_001]),
            Err(SparseProblem::TooLong)
        ));
    }
}
