//! Access control lists: the text that tar archives hold, the bytes that Linux keeps.

/// The attribute that holds the list of a file.
pub(super) const ACCESS: &[u8] = b"system.posix_acl_access";
/// The attribute that holds the list which new files in a directory inherit.
pub(super) const DEFAULT: &[u8] = b"system.posix_acl_default";

/// More entries than any list has: the kernel's own limit on disk is below that.
const ENTRIES_MAX: usize = 4096;
/// `POSIX_ACL_XATTR_VERSION`.
const VERSION: u32 = 2;
/// `ACL_UNDEFINED_ID`: the entry is about no particular user or group.
const UNDEFINED: u32 = u32::MAX;

/// What is wrong with a list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AclProblem {
    /// An entry that is not `tag:who:permissions`.
    #[error("has an entry that cannot be read: {0:?}")]
    Entry(String),
    /// A user or group by name: the archive does not say which number that is.
    #[error("names {0:?} without a number, which only the machine knows that packed the layer")]
    Name(String),
    /// Not exactly one entry for owner, group, others, or no mask beside named ones, or a name twice.
    #[error("lacks an entry or has one twice")]
    Incomplete,
}

/// Who an entry is about, in the order in which the kernel wants the entries.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tag {
    UserObject = 0x01,
    User = 0x02,
    GroupObject = 0x04,
    Group = 0x08,
    Mask = 0x10,
    Other = 0x20,
}

/// Sorted by tag, then by number, as the kernel requires.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    tag: Tag,
    id: u32,
    permissions: u16,
}

/// The value of [`ACCESS`]; nothing when the list says no more than the mode does, which the kernel does not keep.
pub(super) fn access_xattr(text: &[u8]) -> Result<Option<Vec<u8>>, AclProblem> {
    let entries = parse(text)?;
    Ok((entries.len() > 3).then(|| encode(&entries)))
}

/// The value of [`DEFAULT`].
pub(super) fn default_xattr(text: &[u8]) -> Result<Option<Vec<u8>>, AclProblem> {
    let entries = parse(text)?;
    Ok((!entries.is_empty()).then(|| encode(&entries)))
}

fn parse(text: &[u8]) -> Result<Vec<Entry>, AclProblem> {
    let mut entries = Vec::new();
    for line in text.split(|&b| matches!(b, b',' | b'\n')) {
        // What follows a '#' is the effective permissions, for people.
        let line = line
            .split(|&b| b == b'#')
            .next()
            .unwrap_or_default()
            .trim_ascii();
        if line.is_empty() {
            continue;
        }
        if entries.len() == ENTRIES_MAX {
            return Err(AclProblem::Incomplete);
        }
        entries.push(parse_entry(line)?);
    }
    entries.sort_unstable();
    check(&entries)?;
    Ok(entries)
}

/// One entry: `tag:who:permissions`, with the number of `who` after it as star writes it.
fn parse_entry(line: &[u8]) -> Result<Entry, AclProblem> {
    let unreadable = || AclProblem::Entry(shown(line));
    let fields: Vec<&[u8]> = line.split(|&b| b == b':').collect();
    let (kind, who, permissions, number) = match *fields {
        [kind, who, permissions] => (kind, who, permissions, None),
        [kind, who, permissions, number] => (kind, who, permissions, Some(number)),
        // `mask` and `other` may come without the empty field.
        [kind, permissions] => (kind, &[][..], permissions, None),
        _ => return Err(unreadable()),
    };
    let named = !who.is_empty() || number.is_some();
    let tag = match (kind, named) {
        (b"user" | b"u", false) => Tag::UserObject,
        (b"user" | b"u", true) => Tag::User,
        (b"group" | b"g", false) => Tag::GroupObject,
        (b"group" | b"g", true) => Tag::Group,
        (b"mask" | b"m", false) => Tag::Mask,
        (b"other" | b"o", false) => Tag::Other,
        _ => return Err(unreadable()),
    };
    let id = match named {
        false => UNDEFINED,
        true => super::pax::decimal(number.unwrap_or(who))
            .and_then(|id| u32::try_from(id).ok())
            .filter(|&id| id != UNDEFINED)
            .ok_or_else(|| AclProblem::Name(shown(who)))?,
    };
    let mut bits = 0;
    for permission in permissions {
        bits |= match permission {
            b'r' => 4,
            b'w' => 2,
            b'x' => 1,
            b'-' => 0,
            _ => return Err(unreadable()),
        };
    }
    Ok(Entry {
        tag,
        id,
        permissions: bits,
    })
}

/// The rules of acl(5) for a valid list; an empty one is valid here.
fn check(entries: &[Entry]) -> Result<(), AclProblem> {
    if entries.is_empty() {
        return Ok(());
    }
    let count = |tag| entries.iter().filter(|entry| entry.tag == tag).count();
    let one_each = [Tag::UserObject, Tag::GroupObject, Tag::Other]
        .into_iter()
        .all(|tag| count(tag) == 1);
    let named = count(Tag::User) + count(Tag::Group) > 0;
    let mask = if named {
        count(Tag::Mask) == 1
    } else {
        count(Tag::Mask) <= 1
    };
    let unique = entries
        .windows(2)
        .all(|pair| (pair[0].tag, pair[0].id) != (pair[1].tag, pair[1].id));
    if one_each && mask && unique {
        Ok(())
    } else {
        Err(AclProblem::Incomplete)
    }
}

/// The form of `linux/posix_acl_xattr.h`.
fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = VERSION.to_le_bytes().to_vec();
    for entry in entries {
        bytes.extend((entry.tag as u16).to_le_bytes());
        bytes.extend(entry.permissions.to_le_bytes());
        bytes.extend(entry.id.to_le_bytes());
    }
    bytes
}

fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(64)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_gets_the_kernel_s_form_and_order() {
        let text =
            b"user::rw-,group::r-x,other::r--,mask::rwx,user:1000:r--,user:7:--x\ngroup:50:-w-";
        let mut expected = vec![2, 0, 0, 0];
        for (tag, permissions, id) in [
            (0x01u16, 6u16, u32::MAX),
            (0x02, 1, 7),
            (0x02, 4, 1000),
            (0x04, 5, u32::MAX),
            (0x08, 2, 50),
            (0x10, 7, u32::MAX),
            (0x20, 4, u32::MAX),
        ] {
            expected.extend(tag.to_le_bytes());
            expected.extend(permissions.to_le_bytes());
            expected.extend(id.to_le_bytes());
        }
        assert_eq!(access_xattr(text), Ok(Some(expected)));
    }

    #[test]
    fn a_list_that_the_mode_says_as_well_is_not_kept() {
        assert_eq!(access_xattr(b"user::rwx,group::r-x,other::r-x"), Ok(None));
        assert!(
            default_xattr(b"user::rwx,group::r-x,other::r-x")
                .unwrap()
                .is_some()
        );
        assert_eq!(default_xattr(b""), Ok(None));
    }

    #[test]
    fn star_s_numbers_count_and_bare_names_are_refused() {
        let text = b"user::rwx\nuser:joe:r-x:1000\ngroup::r-x\nmask::r-x\nother::r-x\n";
        assert!(access_xattr(text).unwrap().is_some());
        let text = b"user::rwx,user:joe:r-x,group::r-x,mask::r-x,other::r-x";
        assert_eq!(access_xattr(text), Err(AclProblem::Name("joe".into())));
    }

    #[test]
    fn lists_that_the_kernel_would_refuse_are_refused() {
        for wrong in [
            &b"user::rwx,group::r-x"[..],
            b"user::rwx,user:5:r--,group::r-x,other::r-x",
            b"user::rwx,user::rwx,group::r-x,other::r-x",
            b"user::rwx,user:5:r--,user:5:r--,group::r-x,mask::rwx,other::r-x",
        ] {
            assert_eq!(access_xattr(wrong), Err(AclProblem::Incomplete));
        }
        for wrong in [
            &b"nobody"[..],
            b"user::q",
            b"a:b:c:d:e",
            b"mask:5:rwx",
            b"owner::rwx",
        ] {
            assert!(
                matches!(access_xattr(wrong), Err(AclProblem::Entry(_))),
                "{}",
                wrong.escape_ascii()
            );
        }
    }
}
