//! What is known of a partial blob: the record beside its file.

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Hasher};
use crate::manifest::Descriptor;

/// Changes whenever an older hull would read the record wrongly.
const FORMAT: u32 = 1;

/// A partial blob, as far as it is known to be on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    format: u32,
    digest: Digest,
    size: u64,
    /// The boot of the machine that wrote it: what a process wrote is there as long as
    /// the machine runs, whether it is on disk or not.
    boot: Option<String>,
    /// So much of the file is on disk.
    pub(super) bytes: u64,
    /// The CRC-32 of that, to notice damage.
    pub(super) crc: u32,
    /// The state of the blob's hash after that, in hexadecimal digits.
    hash: String,
}

impl Record {
    pub(super) fn new(
        descriptor: &Descriptor,
        boot: Option<&str>,
        bytes: u64,
        crc: u32,
        hasher: &Hasher,
    ) -> Self {
        Self {
            format: FORMAT,
            digest: descriptor.digest,
            size: descriptor.size,
            boot: boot.map(str::to_owned),
            bytes,
            crc,
            hash: hex::encode(hasher.save()),
        }
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        // A struct of numbers and texts is always writable.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a record of this blob. Anything else is as good as none: then the blob
    /// is fetched from its begin.
    pub(super) fn parse(json: &[u8], descriptor: &Descriptor) -> Option<(Self, Hasher)> {
        let record: Self = serde_json::from_slice(json).ok()?;
        let fits = record.format == FORMAT
            && record.digest == descriptor.digest
            && record.size == descriptor.size
            && record.bytes <= record.size;
        let hash = hex::decode(&record.hash).ok()?;
        let hasher = Hasher::restore(descriptor.digest.algorithm(), &hash, record.bytes)?;
        fits.then_some((record, hasher))
    }

    /// How much of a file of `length` bytes can be used: all where the machine has not
    /// been off since, else what is known to be on disk; none where even that is missing.
    pub(super) fn usable(&self, length: u64, boot: Option<&str>) -> Option<u64> {
        if length < self.bytes {
            return None;
        }
        let is_same_boot = boot.is_some() && self.boot.as_deref() == boot;
        Some(if is_same_boot {
            length.min(self.size)
        } else {
            self.bytes
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Algorithm;

    fn descriptor() -> Descriptor {
        Descriptor {
            media_type: String::new(),
            digest: Digest::sha256(b"whole"),
            size: 5,
            annotations: std::collections::BTreeMap::new(),
        }
    }

    fn record(bytes: u64, boot: Option<&str>) -> Record {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(&b"whole"[..usize::try_from(bytes).unwrap()]);
        Record::new(&descriptor(), boot, bytes, 7, &hasher)
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_for_its_own_blob_only() {
        let record = record(3, Some("boot"));
        let (read, mut hasher) = Record::parse(&record.to_json(), &descriptor()).unwrap();
        assert_eq!(read, record);
        hasher.update(b"le");
        assert_eq!(hasher.finish(), Digest::sha256(b"whole"));
        let mut other = descriptor();
        other.size = 6;
        assert!(Record::parse(&record.to_json(), &other).is_none());
        other = descriptor();
        other.digest = Digest::sha256(b"other");
        assert!(Record::parse(&record.to_json(), &other).is_none());
    }

    #[test]
    fn a_damaged_record_is_none() {
        let json = record(3, None).to_json();
        for end in 0..json.len() {
            assert!(Record::parse(&json[..end], &descriptor()).is_none());
        }
        let text = String::from_utf8(json).unwrap();
        for (from, to) in [
            ("\"format\":1", "\"format\":2"),
            ("\"bytes\":3", "\"bytes\":4"),
            ("\"bytes\":3", "\"bytes\":-1"),
        ] {
            let damaged = text.replace(from, to);
            assert_ne!(damaged, text);
            assert!(Record::parse(damaged.as_bytes(), &descriptor()).is_none());
        }
    }

    #[test]
    fn what_is_not_known_to_be_on_disk_counts_only_while_the_machine_runs() {
        let written = record(3, Some("one"));
        assert_eq!(written.usable(4, Some("one")), Some(4));
        assert_eq!(written.usable(9, Some("one")), Some(5));
        assert_eq!(written.usable(4, Some("two")), Some(3));
        assert_eq!(written.usable(4, None), Some(3));
        assert_eq!(written.usable(2, Some("one")), None);
        assert_eq!(record(3, None).usable(4, None), Some(3));
    }
}
