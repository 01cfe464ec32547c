//! How bytes that would end a field, or that no terminal shows, are written.

/// A field has an escape that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InvalidEscape;

/// Appends a field: `-` if it is empty, and escaped if it is itself a `-`.
pub(super) fn write_field(bytes: &[u8], out: &mut Vec<u8>) {
    match bytes {
        b"" => out.extend_from_slice(super::NONE),
        b"-" => out.extend_from_slice(b"\\x2d"),
        _ => bytes.iter().for_each(|byte| write_byte(*byte, out)),
    }
}

/// Appends the name or value of an extended attribute, where `=` is special and
/// an empty text stands for itself.
pub(super) fn write_xattr(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        match byte {
            b'=' => write_hex(*byte, out),
            _ => write_byte(*byte, out),
        }
    }
}

fn write_byte(byte: u8, out: &mut Vec<u8>) {
    match byte {
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        b'!'..=b'~' => out.push(byte),
        _ => write_hex(byte, out),
    }
}

fn write_hex(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
    out.extend([b'\\', b'x', DIGITS[high], DIGITS[low]]);
}

/// The bytes that an escaped text stands for.
pub(super) fn unescape(text: &[u8]) -> Result<Vec<u8>, InvalidEscape> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        if *byte != b'\\' {
            bytes.push(*byte);
            continue;
        }
        bytes.push(match rest.next().ok_or(InvalidEscape)? {
            b'\\' => b'\\',
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'x' => hex_digit(rest.next())? << 4 | hex_digit(rest.next())?,
            _ => return Err(InvalidEscape),
        });
    }
    Ok(bytes)
}

fn hex_digit(byte: Option<&u8>) -> Result<u8, InvalidEscape> {
    match byte.ok_or(InvalidEscape)? {
        byte @ b'0'..=b'9' => Ok(byte - b'0'),
        byte @ b'a'..=b'f' => Ok(byte - b'a' + 10),
        byte @ b'A'..=b'F' => Ok(byte - b'A' + 10),
        _ => Err(InvalidEscape),
    }
}
