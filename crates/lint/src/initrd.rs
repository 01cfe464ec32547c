//! What an initrd has in it: cpio archives one after the other, the last one mostly compressed
//! (the kernel's Documentation/driver-api/early-userspace/buffer-format.rst).

use std::io::{self, BufRead, BufReader, Read};

/// More than this is not unpacked, in bytes.
const MAX_UNPACKED: u64 = 4 << 30;

/// The longest name, in bytes, with its NUL.
const MAX_NAME: u32 = 4096;

/// How an archive begins.
const MAGICS: [&[u8]; 2] = [b"070701", b"070702"];

/// The numbers behind it, of eight digits each.
const NUMBERS: usize = 13;

/// How a compressed archive begins that the kernel can unpack. Those of gzip and zstd are unpacked here, too.
const COMPRESSIONS: [(&str, &[u8]); 7] = [
    ("gzip", &[0x1f, 0x8b]),
    ("zstd", &[0x28, 0xb5, 0x2f, 0xfd]),
    ("xz", &[0xfd, b'7', b'z', b'X', b'Z', 0]),
    ("lz4", &[0x02, 0x21, 0x4c, 0x18]),
    ("bzip2", b"BZh"),
    ("lzma", &[0x5d, 0, 0]),
    ("lzo", &[0x89, b'L', b'Z', b'O']),
];

/// What an initrd has of what hull asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// `/usr/lib/hull/setup-root`.
    pub(crate) setup_root: bool,
    /// The module of EROFS.
    pub(crate) erofs: bool,
    /// The module of overlays.
    pub(crate) overlay: bool,
    /// A compression that is not unpacked here: what is in it is not known.
    pub(crate) unknown: Option<&'static str>,
}

/// Reads an initrd; an error says why the kernel could not unpack it.
pub(crate) fn read(file: impl Read) -> io::Result<Contents> {
    let mut contents = Contents::default();
    let mut file = BufReader::with_capacity(1 << 16, file);
    let Some((compression, start)) = archives(&mut file, &mut contents)? else {
        return Ok(contents);
    };
    let file = io::Cursor::new(start).chain(file);
    match compression {
        "gzip" => inner(flate2::bufread::MultiGzDecoder::new(file), &mut contents)?,
        "zstd" => inner(zstd::Decoder::with_buffer(file)?, &mut contents)?,
        other => contents.unknown = Some(other),
    }
    Ok(contents)
}

/// Reads what was compressed.
fn inner(unpacked: impl Read, contents: &mut Contents) -> io::Result<()> {
    let mut unpacked = BufReader::with_capacity(1 << 16, unpacked.take(MAX_UNPACKED));
    match archives(&mut unpacked, contents)? {
        None => Ok(()),
        Some(_) => Err(bad("what is compressed in it is no cpio archive")),
    }
}

fn bad(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// A compression, and the bytes by which it was known.
type Compressed = (&'static str, Vec<u8>);

/// Reads archives up to the end, or up to a compressed one.
fn archives(reader: &mut impl BufRead, contents: &mut Contents) -> io::Result<Option<Compressed>> {
    let mut any = false;
    loop {
        skip_zeros(reader)?;
        let mut start = Vec::new();
        reader.take(6).read_to_end(&mut start)?;
        if start.is_empty() && any {
            return Ok(None);
        }
        if !MAGICS.contains(&&*start) {
            let known = |(_, magic): &&(&'static str, &[u8])| start.starts_with(magic);
            let found = COMPRESSIONS.iter().find(known).map(|(name, _)| *name);
            let name = found.ok_or_else(|| bad("it is no cpio archive, plain or compressed"))?;
            return Ok(Some((name, start)));
        }
        any = true;
        archive(reader, contents)?;
    }
}

/// Between archives there may be zeros, as many as the tool liked.
fn skip_zeros(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        let zeros = buffer.iter().take_while(|&&byte| byte == 0).count();
        let all = zeros == buffer.len();
        let end = buffer.is_empty();
        reader.consume(zeros);
        if end || !all {
            return Ok(());
        }
    }
}

/// Reads one archive, behind the magic number of its first entry.
fn archive(reader: &mut impl BufRead, contents: &mut Contents) -> io::Result<()> {
    loop {
        let (name, size) = header(reader)?;
        let is_last = name == b"TRAILER!!!";
        contents.note(&name);
        skip(reader, u64::from(size).next_multiple_of(4))?;
        if is_last {
            return Ok(());
        }
        let mut magic = [0; 6];
        reader.read_exact(&mut magic).map_err(cut_short)?;
        if !MAGICS.contains(&&magic[..]) {
            return Err(bad("an entry of the cpio archive in it is damaged"));
        }
    }
}

/// The name of an entry and the length of its content, in bytes; the reader is at the content then.
fn header(reader: &mut impl BufRead) -> io::Result<(Vec<u8>, u32)> {
    let mut digits = [0; NUMBERS * 8];
    reader.read_exact(&mut digits).map_err(cut_short)?;
    let number = |place: usize| {
        let digits = std::str::from_utf8(&digits[place * 8..][..8]).ok()?;
        u32::from_str_radix(digits, 16).ok()
    };
    let damaged = || bad("a header of the cpio archive in it is damaged");
    let size = number(6).ok_or_else(damaged)?;
    let length = number(11)
        .filter(|length| (1..=MAX_NAME).contains(length))
        .ok_or_else(damaged)?;
    let mut name = Vec::new();
    let read = reader.take(length.into()).read_to_end(&mut name)?;
    if read as u64 != u64::from(length) {
        return Err(bad("it is cut short"));
    }
    if name.pop() != Some(0) {
        return Err(damaged());
    }
    // Header and name together end at a multiple of four; the header has two bytes over one.
    let padding = (length + 2).next_multiple_of(4) - (length + 2);
    skip(reader, padding.into())?;
    Ok((name, size))
}

fn skip(reader: &mut impl BufRead, count: u64) -> io::Result<()> {
    let skipped = io::copy(&mut reader.take(count), &mut io::sink())?;
    match skipped == count {
        true => Ok(()),
        false => Err(bad("it is cut short")),
    }
}

fn cut_short(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => bad("it is cut short"),
        _ => error,
    }
}

impl Contents {
    fn note(&mut self, name: &[u8]) {
        let name = name.strip_prefix(b"./").unwrap_or(name);
        let name = name.strip_prefix(b"/").unwrap_or(name);
        let file = name.rsplit(|&byte| byte == b'/').next().unwrap_or(name);
        self.setup_root |= name == b"usr/lib/hull/setup-root" || name == b"lib/hull/setup-root";
        self.erofs |= file.starts_with(b"erofs.ko");
        self.overlay |= file.starts_with(b"overlay.ko");
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic_or_run_on(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            place in 0_usize..300,
            value in any::<u8>(),
        ) {
            // Neither random bytes nor a whole archive with one byte changed.
            drop(read(&*bytes));
            let mut whole = cpio(&["init", "usr/lib/hull/setup-root"]);
            let place = place % whole.len();
            whole[place] = value;
            if let Ok(contents) = read(&*whole) {
                prop_assert!(contents.unknown.is_none() || place == 0);
            }
        }
    }

    /// An archive with empty files of these names.
    pub(crate) fn cpio(names: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for name in names.iter().chain(&["TRAILER!!!"]) {
            bytes.extend_from_slice(b"070701");
            for number in [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, name.len() + 1, 0] {
                bytes.extend_from_slice(format!("{number:08x}").as_bytes());
            }
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(0);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_is_in_an_initrd_is_found_plain_and_compressed_and_behind_microcode() {
        let main = cpio(&[
            "usr/lib/hull/setup-root",
            "usr/lib/modules/6.12/kernel/fs/erofs/erofs.ko.xz",
        ]);
        let mut padded = cpio(&["kernel/x86/microcode/AuthenticAMD.bin"]);
        padded.resize(padded.len().next_multiple_of(512), 0);
        let packed = [
            main.clone(),
            gzip(&main),
            zstd::encode_all(&*main, 1).unwrap(),
        ];
        for main in &packed {
            for bytes in [main.clone(), [&*padded, main].concat()] {
                let contents = read(&*bytes).unwrap();
                assert!(contents.setup_root && contents.erofs && !contents.overlay);
                assert_eq!(contents.unknown, None);
            }
        }
    }

    #[test]
    fn the_second_initrd_that_hull_adds_is_one_that_has_setup_root() {
        let contents = read(&*hull_boot::initrd::pack(b"program")).unwrap();
        assert!(contents.setup_root);
    }

    #[test]
    fn a_compression_that_is_not_unpacked_here_is_named() {
        let contents = read(&b"\xfd7zXZ\0and so on"[..]).unwrap();
        assert_eq!(contents.unknown, Some("xz"));
    }

    #[test]
    fn what_the_kernel_could_not_unpack_is_an_error_that_says_why() {
        let whole = cpio(&["a", "b"]);
        for (bytes, reason) in [
            (&b""[..], "no cpio archive"),
            (b"hello, world", "no cpio archive"),
            (&whole[..whole.len() - 8], "cut short"),
            (&whole[..150], "cut short"),
            (&gzip(b"hello, world"), "no cpio archive"),
            (&gzip(&gzip(&whole)), "no cpio archive"),
        ] {
            let error = read(bytes).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}: {bytes:?}");
        }
    }
}
