//! Directories: entries of 32 bytes, with long names in entries before them.

use super::Node;
use super::name::{ShortNames, checksum};

/// The size of an entry in bytes.
const ENTRY: u64 = 32;

/// How many characters of a long name an entry holds.
const CHARACTERS: usize = 13;

/// 1 January 1980, the first day that FAT knows: year, month and day in bits.
const DATE: u16 = 1 << 5 | 1;

const DIRECTORY: u8 = 0x10;
const ARCHIVE: u8 = 0x20;
const VOLUME_LABEL: u8 = 0x08;
const LONG_NAME: u8 = 0x0f;
/// Marks the last part of a long name, which comes first.
const LAST_PART: u8 = 0x40;

/// How long a directory is, in bytes; never zero.
pub(super) fn length(children: &[Node], is_root: bool) -> u64 {
    let own = if is_root { 1 } else { 2 };
    let entries = children.iter().map(|child| {
        let characters = child.name().encode_utf16().count();
        1 + u64::try_from(characters.div_ceil(CHARACTERS)).unwrap_or(0)
    });
    ENTRY * entries.fold(own, u64::saturating_add)
}

/// Writes the entries of one directory.
#[derive(Debug)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    names: ShortNames,
}

impl Writer {
    /// A directory with these entries, which are added in any order.
    pub(super) fn new(children: &[Node]) -> Self {
        let names = ShortNames::new(children.iter().map(Node::name));
        Writer {
            bytes: Vec::new(),
            names,
        }
    }

    /// The first entry of the root directory.
    pub(super) fn label(&mut self, label: &[u8; 11]) {
        self.entry(label, VOLUME_LABEL, 0, 0);
    }

    /// The first entries of every other directory.
    pub(super) fn dots(&mut self, own: u32, parent: u32) {
        self.entry(b".          ", DIRECTORY, own, 0);
        self.entry(b"..         ", DIRECTORY, parent, 0);
    }

    pub(super) fn file(&mut self, name: &str, cluster: u32, size: u32) {
        self.named(name, ARCHIVE, cluster, size);
    }

    pub(super) fn directory(&mut self, name: &str, cluster: u32) {
        self.named(name, DIRECTORY, cluster, 0);
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn named(&mut self, name: &str, attributes: u8, cluster: u32, size: u32) {
        let short = self.names.of(name);
        self.long_name(name, checksum(&short));
        self.entry(&short, attributes, cluster, size);
    }

    /// The parts of a long name, the last one first.
    fn long_name(&mut self, name: &str, checksum: u8) {
        let characters: Vec<u16> = name.encode_utf16().collect();
        let parts: Vec<&[u16]> = characters.chunks(CHARACTERS).collect();
        for (index, part) in parts.iter().enumerate().rev() {
            // At most 255 characters: 20 parts.
            let number = u8::try_from(index + 1).unwrap_or(LAST_PART - 1);
            let mark = if index + 1 == parts.len() {
                LAST_PART
            } else {
                0
            };
            // After the name comes a zero, and then ones.
            let padded = part
                .iter()
                .copied()
                .chain([0])
                .chain(std::iter::repeat(0xffff));
            let text: Vec<u8> = padded.take(CHARACTERS).flat_map(u16::to_le_bytes).collect();
            self.bytes.push(number | mark);
            self.bytes.extend(&text[..10]);
            self.bytes.extend([LONG_NAME, 0, checksum]);
            self.bytes.extend(&text[10..22]);
            self.bytes.extend([0, 0]);
            self.bytes.extend(&text[22..]);
        }
    }

    fn entry(&mut self, short: &[u8; 11], attributes: u8, cluster: u32, size: u32) {
        let [low, second, third, high] = cluster.to_le_bytes();
        let [day, year] = DATE.to_le_bytes();
        self.bytes.extend(short);
        // Made, read and changed on the first day, at midnight.
        self.bytes
            .extend([attributes, 0, 0, 0, 0, day, year, day, year]);
        self.bytes
            .extend([third, high, 0, 0, day, year, low, second]);
        self.bytes.extend(size.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_that_of_what_is_written() {
        let name = |length: usize| Node::File {
            name: "n".repeat(length),
            size: 0,
        };
        let children: Vec<Node> = [1, 12, 13, 14, 26, 255].map(name).into();
        let mut writer = Writer::new(&children);
        writer.dots(5, 0);
        for child in &children {
            writer.file(child.name(), 0, 0);
        }
        let written = u64::try_from(writer.finish().len()).unwrap();
        assert_eq!(written, length(&children, false));
    }
}
