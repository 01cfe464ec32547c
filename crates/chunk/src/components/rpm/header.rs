//! Headers of rpm packages, in the form that the database keeps them in.
//!
//! Two numbers, of index entries and of bytes of data; the index, 16 bytes for each entry (tag,
//! type, offset, count); the data. All numbers are big-endian. What is not asked for is not looked at.

/// Bytes of an index entry.
const ENTRY: usize = 16;

/// What the database says of a package, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    Name = 1000,
    Version = 1001,
    Release = 1002,
    BuildTime = 1006,
    Arch = 1022,
    FileStates = 1029,
    FileModes = 1030,
    FileFlags = 1037,
    SourceRpm = 1044,
    ChangelogTime = 1080,
    DirIndexes = 1116,
    BaseNames = 1117,
    DirNames = 1118,
}

/// A header that cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Broken {
    #[error("a header's length is not the one that it says")]
    Length,
    #[error("the values of {0:?} are not within their header")]
    OutOfHeader(Tag),
    #[error("{0:?} has values of type {1}")]
    Type(Tag, u32),
    #[error("a package has no name")]
    NoName,
    #[error("a package has files without a name, a directory or a mode")]
    Files,
}

/// A header; its values are checked when they are asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header<'a> {
    index: &'a [u8],
    data: &'a [u8],
}

/// Where the values of a tag are.
struct Values<'a> {
    tag: Tag,
    type_: u32,
    count: usize,
    data: &'a [u8],
}

impl<'a> Header<'a> {
    pub(super) fn parse(blob: &'a [u8]) -> Result<Self, Broken> {
        let (entries, rest) = number(blob).ok_or(Broken::Length)?;
        let (length, rest) = number(rest).ok_or(Broken::Length)?;
        let split = length_of(entries).and_then(|entries| entries.checked_mul(ENTRY));
        let (index, data) = split
            .and_then(|split| rest.split_at_checked(split))
            .ok_or(Broken::Length)?;
        match length_of(length) == Some(data.len()) {
            true => Ok(Self { index, data }),
            false => Err(Broken::Length),
        }
    }

    /// Of two entries of a tag the later one holds: it was added at the installation.
    fn values(&self, tag: Tag) -> Result<Option<Values<'a>>, Broken> {
        let is = |entry: &&[u8]| number(entry).is_some_and(|(found, _)| found == tag as u32);
        let Some(entry) = self.index.chunks_exact(ENTRY).rev().find(is) else {
            return Ok(None);
        };
        let field = |at: usize| {
            entry
                .get(at..)
                .and_then(number)
                .map_or(0, |(value, _)| value)
        };
        let data = length_of(field(8)).and_then(|offset| self.data.get(offset..));
        match (data, length_of(field(12))) {
            (Some(data), Some(count)) => Ok(Some(Values {
                tag,
                type_: field(4),
                count,
                data,
            })),
            _ => Err(Broken::OutOfHeader(tag)),
        }
    }

    /// Texts; none where the header does not have the tag.
    pub(super) fn texts(&self, tag: Tag) -> Result<Vec<&'a [u8]>, Broken> {
        match self.values(tag)? {
            Some(values) => values.texts(),
            None => Ok(Vec::new()),
        }
    }

    /// The first text of a tag.
    pub(super) fn text(&self, tag: Tag) -> Result<Option<&'a [u8]>, Broken> {
        Ok(self.texts(tag)?.first().copied())
    }

    /// Numbers of one, two or four bytes; none where the header does not have the tag.
    pub(super) fn numbers(&self, tag: Tag) -> Result<Vec<u32>, Broken> {
        match self.values(tag)? {
            Some(values) => values.numbers(),
            None => Ok(Vec::new()),
        }
    }
}

impl<'a> Values<'a> {
    fn texts(&self) -> Result<Vec<&'a [u8]>, Broken> {
        // A string, an array of them, or one in several languages.
        if ![6, 8, 9].contains(&self.type_) {
            return Err(Broken::Type(self.tag, self.type_));
        }
        // What follows the last NUL is no text of these.
        let end = self.data.iter().rposition(|&byte| byte == 0);
        let whole = &self.data[..end.ok_or(Broken::OutOfHeader(self.tag))?];
        let texts: Vec<_> = whole.split(|&byte| byte == 0).take(self.count).collect();
        match texts.len() == self.count {
            true => Ok(texts),
            false => Err(Broken::OutOfHeader(self.tag)),
        }
    }

    fn numbers(&self) -> Result<Vec<u32>, Broken> {
        let size = match self.type_ {
            1 | 2 => 1,
            3 => 2,
            4 => 4,
            other => return Err(Broken::Type(self.tag, other)),
        };
        let bytes = self.count.checked_mul(size);
        let bytes = bytes
            .and_then(|length| self.data.get(..length))
            .ok_or(Broken::OutOfHeader(self.tag))?;
        let value = |bytes: &[u8]| {
            let add = |sum: u32, &byte: &u8| sum << 8 | u32::from(byte);
            bytes.iter().fold(0, add)
        };
        Ok(bytes.chunks_exact(size).map(value).collect())
    }
}

/// The number at the beginning, and what follows it.
fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes(*number), rest))
}

fn length_of(number: u32) -> Option<usize> {
    usize::try_from(number).ok()
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The values of a tag.
    #[derive(Debug, Clone)]
    pub(crate) enum Value {
        Text(&'static str),
        Texts(Vec<&'static str>),
        Shorts(Vec<u16>),
        Words(Vec<u32>),
    }

    pub(crate) fn blob(values: &[(Tag, Value)]) -> Vec<u8> {
        let (mut index, mut data) = (Vec::new(), Vec::new());
        for (tag, value) in values {
            let (type_, count, bytes) = match value {
                Value::Text(text) => (6, 1, [text.as_bytes(), b"\0"].concat()),
                Value::Texts(texts) => {
                    let bytes = texts.iter().flat_map(|text| [text.as_bytes(), b"\0"]);
                    (8, texts.len(), bytes.flatten().copied().collect())
                }
                Value::Shorts(all) => {
                    let bytes = all.iter().flat_map(|one| one.to_be_bytes());
                    (3, all.len(), bytes.collect())
                }
                Value::Words(all) => {
                    let bytes = all.iter().flat_map(|one| one.to_be_bytes());
                    (4, all.len(), bytes.collect())
                }
            };
            let count = u32::try_from(count).unwrap();
            let offset = u32::try_from(data.len()).unwrap();
            for field in [*tag as u32, type_, offset, count] {
                index.extend(field.to_be_bytes());
            }
            data.extend::<Vec<u8>>(bytes);
        }
        let number = |length: usize| u32::try_from(length).unwrap().to_be_bytes();
        let head = [number(values.len()), number(data.len())].concat();
        [head, index, data].concat()
    }

    #[test]
    fn values_are_what_was_written() {
        let blob = blob(&[
            (Tag::Name, Value::Text("old")),
            (Tag::DirNames, Value::Texts(vec!["/usr/bin/", "", "/"])),
            (Tag::FileModes, Value::Shorts(vec![0o100_644, 0o40_755])),
            (Tag::BuildTime, Value::Words(vec![u32::MAX])),
            (Tag::Name, Value::Text("bash")),
        ]);
        let header = Header::parse(&blob).unwrap();
        assert_eq!(header.text(Tag::Name), Ok(Some(&b"bash"[..])));
        let directories: [&[u8]; 3] = [b"/usr/bin/", b"", b"/"];
        assert_eq!(header.texts(Tag::DirNames).unwrap(), directories);
        assert_eq!(
            header.numbers(Tag::FileModes).unwrap(),
            [0o100_644, 0o40_755]
        );
        assert_eq!(header.numbers(Tag::BuildTime).unwrap(), [u32::MAX]);
        assert_eq!(header.numbers(Tag::FileFlags), Ok(Vec::new()));
        let wrong = header.numbers(Tag::Name);
        assert_eq!(wrong, Err(Broken::Type(Tag::Name, 6)));
    }

    #[test]
    fn a_header_that_is_cut_short_or_has_more_behind_it_is_refused() {
        let whole = blob(&[(Tag::Name, Value::Text("bash"))]);
        for length in 0..whole.len() {
            assert_eq!(Header::parse(&whole[..length]).err(), Some(Broken::Length));
        }
        let longer = [&whole[..], b"\0"].concat();
        assert_eq!(Header::parse(&longer).err(), Some(Broken::Length));
    }

    #[test]
    fn values_out_of_the_header_are_refused() {
        for (at, value) in [(16, u32::MAX), (16, 6), (20, 3), (20, u32::MAX)] {
            let mut blob = blob(&[
                (Tag::Name, Value::Text("bash")),
                (Tag::BuildTime, Value::Words(vec![])),
            ]);
            blob[at..at + 4].copy_from_slice(&u32::to_be_bytes(value));
            let header = Header::parse(&blob).unwrap();
            let error = header.texts(Tag::Name).unwrap_err();
            assert_eq!(error, Broken::OutOfHeader(Tag::Name), "{at} {value}");
        }
    }

    proptest! {
        #[test]
        fn any_index_over_any_data_is_read_or_refused(
            entries in proptest::collection::vec((1000u32..1004, 0u32..10, 0u32..40, 0u32..40), 0..4),
            data in proptest::collection::vec(0u8..3, 0..40),
        ) {
            let mut blob = u32::try_from(entries.len()).unwrap().to_be_bytes().to_vec();
            blob.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
            for (tag, type_, offset, count) in entries {
                blob.extend([tag, type_, offset, count].iter().flat_map(|one| one.to_be_bytes()));
            }
            blob.extend(&data);
            let header = Header::parse(&blob).unwrap();
            for tag in [Tag::Name, Tag::Version, Tag::Release] {
                if let Ok(texts) = header.texts(tag) {
                    let length: usize = texts.iter().map(|text| text.len() + 1).sum();
                    prop_assert!(length <= data.len());
                }
                if let Ok(numbers) = header.numbers(tag) {
                    prop_assert!(numbers.len() <= data.len());
                }
            }
        }

        #[test]
        fn any_bytes_are_a_header_or_refused(blob in proptest::collection::vec(0u8..5, 0..80)) {
            if let Ok(header) = Header::parse(&blob) {
                prop_assert_eq!(header.index.len() + header.data.len() + 8, blob.len());
            }
        }
    }
}
