//! From text to tree.

use std::collections::HashMap;
use std::str::FromStr;

use crate::fsverity::ObjectId;
use crate::limits;
use crate::tree::{
    Content, Device, DirectoryId, Leaf, LeafId, MAX_DEPTH, Metadata, Timestamp, Tree, Xattrs,
};

use super::escape::unescape;

/// Why a text is no dump file of a tree.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line} of the dump file: {problem}")]
pub struct ParseError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a line of a dump file.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The file has no entry at all.
    #[error("there is no entry; the first must be for /")]
    Empty,
    /// The first entry is not the root.
    #[error("the first entry must be for /")]
    RootNotFirst,
    /// The line has too few fields.
    #[error("the field {0} is missing")]
    Missing(&'static str),
    /// A field holds something that it can't.
    #[error("the field {field} can't be {value:?}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// Its text, cut at 100 characters.
        value: String,
    },
    /// The path is there already.
    #[error("the path is there already")]
    Duplicate,
    /// The directory of the path is not there yet.
    #[error("the directory that it is in has no entry before it")]
    NoParent,
    /// A hard link to a path that is not there yet.
    #[error("a hard link to {0:?}, which has no entry before it")]
    NoTarget(String),
    /// A regular file whose content is neither in the dump nor in an object.
    #[error("the file has a size, but neither content nor the digest of an object")]
    NoContent,
    /// A field has something that its type of inode does not.
    #[error("an inode of this type has no {0}")]
    Unexpected(&'static str),
    /// Directories nest deeper than [`MAX_DEPTH`].
    #[error("more than {MAX_DEPTH} directories within each other")]
    TooDeep,
}

/// The tree that a dump file describes.
///
/// Names must come after their directory, hard links after what they link to.
/// A whole text is checked; nothing in it is trusted.
pub fn parse(dump: &[u8]) -> Result<Tree, ParseError> {
    let mut reader = Reader::default();
    let mut last = 0;
    for (line, text) in (1..).zip(dump.split(|byte| *byte == b'\n')) {
        last = line;
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if !text.trim_ascii().is_empty() {
            reader
                .add(text)
                .map_err(|problem| ParseError { line, problem })?;
        }
    }
    if !reader.has_root {
        return Err(ParseError {
            line: last,
            problem: Problem::Empty,
        });
    }
    Ok(reader.tree)
}

#[derive(Default)]
struct Reader {
    tree: Tree,
    has_root: bool,
    leaves: HashMap<Vec<u8>, LeafId>,
}

impl Reader {
    fn add(&mut self, text: &[u8]) -> Result<(), Problem> {
        let mut fields = Fields(Some(text));
        let path = parse_path("path", fields.field("path")?)?;
        if path == b"/" {
            return self.set_root(fields);
        }
        if !self.has_root {
            return Err(Problem::RootNotFirst);
        }
        let inode = parse_inode(&mut fields)?;
        let (parent, name) = self.place(&path)?;
        let leaf = match inode {
            Inode::Directory(metadata) => {
                self.tree.put_directory(parent, name, metadata);
                return Ok(());
            }
            Inode::Link(target) => {
                let known = self.leaves.get(&target);
                *known.ok_or_else(|| Problem::NoTarget(show(&target)))?
            }
            Inode::Leaf(leaf) => self.tree.add_leaf(leaf),
        };
        self.tree.put_leaf(parent, name, leaf);
        self.leaves.insert(path, leaf);
        Ok(())
    }

    fn set_root(&mut self, mut fields: Fields<'_>) -> Result<(), Problem> {
        if self.has_root {
            return Err(Problem::Duplicate);
        }
        let Inode::Directory(metadata) = parse_inode(&mut fields)? else {
            return Err(Problem::RootNotFirst);
        };
        self.tree
            .set_directory_metadata(DirectoryId::ROOT, metadata);
        self.has_root = true;
        Ok(())
    }

    /// The directory that a path leads into, and the name there, which must be free.
    fn place<'p>(&self, path: &'p [u8]) -> Result<(DirectoryId, &'p [u8]), Problem> {
        let slash = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        let (parent, name) = (&path[..slash], &path[slash + 1..]);
        let parent = self.tree.directory(parent).ok_or(Problem::NoParent)?;
        match parent.get(name) {
            None => Ok((parent.id(), name)),
            Some(_) => Err(Problem::Duplicate),
        }
    }
}

/// The fields of a line that were not read yet.
struct Fields<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Fields<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let text = self.0?;
        let end = text.iter().position(|byte| *byte == b' ');
        self.0 = end.map(|end| &text[end + 1..]);
        Some(&text[..end.unwrap_or(text.len())])
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self, field: &'static str) -> Result<&'a [u8], Problem> {
        self.next().ok_or(Problem::Missing(field))
    }

    fn number<T: FromStr>(&mut self, field: &'static str) -> Result<T, Problem> {
        let text = self.field(field)?;
        parse_number(text).ok_or_else(|| invalid(field, text))
    }

    /// A field where `-` stands for nothing.
    fn optional(&mut self, field: &'static str) -> Result<Option<&'a [u8]>, Problem> {
        self.field(field)
            .map(|text| (text != super::NONE).then_some(text))
    }
}

enum Inode {
    Directory(Metadata),
    Leaf(Leaf),
    Link(Vec<u8>),
}

/// All fields after the path.
fn parse_inode(fields: &mut Fields<'_>) -> Result<Inode, Problem> {
    let size: u64 = fields.number("size")?;
    let mode_text = fields.field("mode")?;
    if let Some(mode) = mode_text.strip_prefix(b"@") {
        return parse_link(mode, fields);
    }
    let mode = parse_mode(mode_text)?;
    let _links: u32 = fields.number("nlink")?;
    let uid = fields.number("uid")?;
    let gid = fields.number("gid")?;
    let device: u64 = fields.number("rdev")?;
    let mtime = parse_time(fields.field("mtime")?)?;
    let content = ContentFields {
        size,
        device,
        payload: fields.optional("payload")?,
        content: fields.optional("content")?,
        digest: fields.optional("digest")?,
    };
    let xattrs = fields
        .map(parse_xattr)
        .try_fold(Xattrs::new(), |mut xattrs, xattr| {
            let (name, value) = xattr?;
            match xattrs.insert(name, value) {
                None => Ok(xattrs),
                Some(_) => Err(Problem::Unexpected("extended attribute twice")),
            }
        })?;
    let permissions = u16::try_from(mode & 0o7777).unwrap_or_default();
    let metadata = Metadata {
        mode: permissions,
        uid,
        gid,
        mtime,
        xattrs,
    };
    if mode & super::TYPE_MASK == super::DIRECTORY {
        content.expect_only(&[])?;
        return Ok(Inode::Directory(metadata));
    }
    let content = content.parse(mode & super::TYPE_MASK, mode_text)?;
    Ok(Inode::Leaf(Leaf { metadata, content }))
}

/// Of a hard link all fields but the payload are without meaning.
fn parse_link(mode: &[u8], fields: &mut Fields<'_>) -> Result<Inode, Problem> {
    if parse_mode(mode)? & super::TYPE_MASK == super::DIRECTORY {
        return Err(invalid("mode", mode));
    }
    for field in ["nlink", "uid", "gid", "rdev", "mtime"] {
        fields.field(field)?;
    }
    let target = fields
        .optional("payload")?
        .ok_or(Problem::Missing("payload"))?;
    Ok(Inode::Link(parse_path("payload", target)?))
}

/// The fields that say what an inode holds.
struct ContentFields<'a> {
    size: u64,
    device: u64,
    payload: Option<&'a [u8]>,
    content: Option<&'a [u8]>,
    digest: Option<&'a [u8]>,
}

impl ContentFields<'_> {
    fn parse(&self, file_type: u32, mode: &[u8]) -> Result<Content, Problem> {
        match file_type {
            super::REGULAR => self.parse_regular(),
            super::SYMLINK => {
                self.expect_only(&["payload"])?;
                let target = self.payload.ok_or(Problem::Missing("payload"))?;
                let target = parse_text("payload", target, 1..=limits::SYMLINK)?;
                Ok(Content::Symlink(target.into()))
            }
            super::CHARACTER_DEVICE => {
                self.expect_only(&["rdev"])?;
                Ok(Content::CharacterDevice(Device::from_raw(self.device)))
            }
            super::BLOCK_DEVICE => {
                self.expect_only(&["rdev"])?;
                Ok(Content::BlockDevice(Device::from_raw(self.device)))
            }
            super::FIFO => self.expect_only(&[]).map(|()| Content::Fifo),
            super::SOCKET => self.expect_only(&[]).map(|()| Content::Socket),
            _ => Err(invalid("mode", mode)),
        }
    }

    fn parse_regular(&self) -> Result<Content, Problem> {
        let Some(payload) = self.payload else {
            self.expect_only(&["content"])?;
            let bytes = self.content.map_or(Ok(Vec::new()), |content| {
                unescape_limited("content", content, limits::INLINE)
            })?;
            return match bytes.len() as u64 == self.size {
                true => Ok(Content::Inline(bytes.into())),
                false => Err(Problem::NoContent),
            };
        };
        self.expect_only(&["payload", "digest"])?;
        let digest = self.digest.ok_or(Problem::NoContent)?;
        let id = std::str::from_utf8(digest)
            .ok()
            .and_then(|text| ObjectId::from_str(text).ok());
        let id = id.ok_or_else(|| invalid("digest", digest))?;
        if payload != id.to_object_path().as_bytes() {
            return Err(invalid("payload", payload));
        }
        Ok(Content::Object {
            id,
            size: self.size,
        })
    }

    /// Fails if a field is there that a type does not have.
    fn expect_only(&self, allowed: &[&str]) -> Result<(), Problem> {
        let present = [
            ("rdev", self.device != 0),
            ("payload", self.payload.is_some()),
            ("content", self.content.is_some()),
            ("digest", self.digest.is_some()),
        ];
        let unexpected = present
            .iter()
            .find(|(field, there)| *there && !allowed.contains(field));
        unexpected.map_or(Ok(()), |(field, _)| Err(Problem::Unexpected(field)))
    }
}

/// The name and the value of an extended attribute.
type Xattr = (Box<[u8]>, Box<[u8]>);

fn parse_xattr(text: &[u8]) -> Result<Xattr, Problem> {
    let middle = text.iter().position(|byte| *byte == b'=');
    let middle = middle.ok_or_else(|| invalid("xattr", text))?;
    let name = parse_text("xattr", &text[..middle], 1..=limits::XATTR_NAME)?;
    let value = unescape_limited("xattr", &text[middle + 1..], limits::XATTR_VALUE)?;
    Ok((name.into(), value.into()))
}

/// A path from the root, in its one canonical spelling.
fn parse_path(field: &'static str, text: &[u8]) -> Result<Vec<u8>, Problem> {
    let path = parse_text(field, text, 1..=limits::PATH)?;
    let below = path
        .strip_prefix(b"/")
        .ok_or_else(|| invalid(field, text))?;
    let is_name =
        |name: &[u8]| (1..=limits::NAME).contains(&name.len()) && name != b"." && name != b"..";
    if !below.is_empty() && !below.split(|byte| *byte == b'/').all(is_name) {
        return Err(invalid(field, text));
    }
    if below.iter().filter(|byte| **byte == b'/').count() > MAX_DEPTH {
        return Err(Problem::TooDeep);
    }
    Ok(path)
}

/// A text of so many bytes without NUL.
fn parse_text(
    field: &'static str,
    text: &[u8],
    length: std::ops::RangeInclusive<usize>,
) -> Result<Vec<u8>, Problem> {
    let bytes = unescape_limited(field, text, *length.end())?;
    if bytes.contains(&0) || !length.contains(&bytes.len()) {
        return Err(invalid(field, text));
    }
    Ok(bytes)
}

fn unescape_limited(field: &'static str, text: &[u8], limit: usize) -> Result<Vec<u8>, Problem> {
    match unescape(text) {
        Ok(bytes) if bytes.len() <= limit => Ok(bytes),
        _ => Err(invalid(field, text)),
    }
}

fn parse_mode(text: &[u8]) -> Result<u32, Problem> {
    let digits = std::str::from_utf8(text)
        .ok()
        .filter(|text| !text.starts_with('+'));
    let mode = digits.and_then(|digits| u32::from_str_radix(digits, 8).ok());
    mode.filter(|mode| mode >> 16 == 0)
        .ok_or_else(|| invalid("mode", text))
}

/// Seconds, a dot, and nanoseconds as a number of their own.
///
/// composefs reads seconds as unsigned, so times before 1970 come in both spellings.
fn parse_time(text: &[u8]) -> Result<Timestamp, Problem> {
    let problem = || invalid("mtime", text);
    let dot = text
        .iter()
        .position(|byte| *byte == b'.')
        .ok_or_else(problem)?;
    let seconds = parse_number::<i64>(&text[..dot])
        .or_else(|| parse_number(&text[..dot]).map(u64::cast_signed))
        .ok_or_else(problem)?;
    let nanoseconds = parse_number(&text[dot + 1..])
        .filter(|nanoseconds| *nanoseconds <= limits::NANOSECONDS)
        .ok_or_else(problem)?;
    Ok(Timestamp {
        seconds,
        nanoseconds,
    })
}

fn parse_number<T: FromStr>(text: &[u8]) -> Option<T> {
    if text.starts_with(b"+") {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn invalid(field: &'static str, value: &[u8]) -> Problem {
    Problem::Invalid {
        field,
        value: show(value),
    }
}

/// The start of a text, for people.
fn show(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(100)]).into_owned()
}
