//! Whose files are: from the numbers on disk to those in the container.
//!
//! That of rootless podman is subuid(5)'s: the user is root in the container, then come the user's subordinate numbers.

use std::io;
use std::path::Path;

use serde::Deserialize;

const MAX_FILE: u64 = 4 << 20;

/// A range of numbers that podman mapped, as layers.json has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct OwnerRange {
    /// The first number in the container.
    #[serde(rename = "container_id")]
    pub inside: u32,
    /// The first number on disk.
    #[serde(rename = "host_id")]
    pub outside: u32,
    /// How many.
    #[serde(rename = "size")]
    pub count: u32,
}

/// From numbers on disk to numbers in the container. Without ranges they are the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owners {
    /// Of users.
    pub users: Vec<OwnerRange>,
    /// Of groups.
    pub groups: Vec<OwnerRange>,
}

impl Owners {
    /// What `root`'s subuid and subgid files let this user map, as rootless podman does: itself is
    /// root in the container, then come its subordinate numbers, if it has any, the lowest first.
    ///
    /// Fails when one of the files is there and cannot be read.
    pub fn of_rootless(root: &Path, user: u32, group: u32) -> io::Result<Self> {
        let passwd = read(&root.join("etc/passwd"))?;
        let name = name_of(&passwd, user).unwrap_or_default();
        let ranges = |file: &str, own: u32| {
            let text = read(&root.join(file))?;
            Ok::<_, io::Error>(stacked(own, &subordinate(&text, &name, user)))
        };
        Ok(Self {
            users: ranges("etc/subuid", user)?,
            groups: ranges("etc/subgid", group)?,
        })
    }

    /// Those of a user namespace, in which the kernel maps: the numbers that are mapped are what they are.
    pub(super) fn of_this_namespace() -> io::Result<Self> {
        let mapped = |file: &str| {
            let ranges = parse_map(&read(Path::new(file))?);
            match ranges.is_empty() {
                true => Err(io::Error::other(format!("{file}: it is empty"))),
                false => Ok(ranges),
            }
        };
        Ok(Self {
            users: mapped("/proc/self/uid_map")?,
            groups: mapped("/proc/self/gid_map")?,
        })
    }

    /// Whether there is more to map than the user itself, for users and for groups.
    pub fn has_subordinate(&self) -> bool {
        self.users.len() > 1 && self.groups.len() > 1
    }

    pub(super) fn user(&self, number: u32) -> io::Result<u32> {
        inside(&self.users, number, "user")
    }

    pub(super) fn group(&self, number: u32) -> io::Result<u32> {
        inside(&self.groups, number, "group")
    }
}

fn inside(ranges: &[OwnerRange], number: u32, what: &str) -> io::Result<u32> {
    if ranges.is_empty() {
        return Ok(number);
    }
    let mut found = ranges.iter().filter_map(|range| {
        let place = number.checked_sub(range.outside)?;
        (place < range.count).then(|| range.inside.checked_add(place))?
    });
    found.next().ok_or_else(|| {
        io::Error::other(format!(
            "it belongs to {what} {number}, which the store's owner maps to nobody"
        ))
    })
}

/// The mapping with `own` as 0 and the ranges behind it, one after the other.
fn stacked(own: u32, subordinate: &[(u32, u32)]) -> Vec<OwnerRange> {
    let mut ranges = vec![OwnerRange {
        inside: 0,
        outside: own,
        count: 1,
    }];
    let mut next: u32 = 1;
    for &(outside, count) in subordinate {
        ranges.push(OwnerRange {
            inside: next,
            outside,
            count,
        });
        next = next.saturating_add(count);
    }
    ranges
}

/// The numbers inside of a map as user_namespaces(7) has it, each as itself.
fn parse_map(text: &str) -> Vec<OwnerRange> {
    let range = |line: &str| {
        let mut fields = line.split_whitespace();
        let inside = fields.next()?.parse().ok()?;
        let count = fields.nth(1)?.parse().ok()?;
        Some(OwnerRange {
            inside,
            outside: inside,
            count,
        })
    };
    text.lines().filter_map(range).collect()
}

/// The lines `name:first:count` of a user, by name or by number; in the order in which podman
/// maps them, which is not that of the file.
fn subordinate(text: &str, name: &str, user: u32) -> Vec<(u32, u32)> {
    let user = user.to_string();
    let mut ranges: Vec<(u32, u32)> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let whose = fields.next()?;
            let is_theirs = whose == user || (!name.is_empty() && whose == name);
            let range = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
            is_theirs.then_some(range)
        })
        .filter(|(_, count)| *count > 0)
        .collect();
    ranges.sort_unstable();
    ranges
}

fn name_of(passwd: &str, user: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(user)).then(|| name.to_owned())
    })
}

fn read(path: &Path) -> io::Result<String> {
    let about =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(about(error)),
    };
    let bytes = hull_sys::dir::read_at_most(file, MAX_FILE).map_err(about)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `uid:gid:mode` (in octal), perhaps with a kind behind it.
pub(super) fn parse_override(value: &[u8]) -> Option<(u32, u32, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let mut fields = text.split(':');
    let uid = fields.next()?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let mode = u32::from_str_radix(fields.next()?, 8).ok()?;
    Some((uid, gid, mode))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_rootless_store_is_read_with_its_owners_numbers() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("etc")).unwrap();
        let write = |name: &str, text: &str| {
            let mut file = std::fs::File::create(temp.path().join("etc").join(name)).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        };
        write(
            "passwd",
            "root:x:0:0::/root:/bin/sh\nada:x:1000:1001::/home/ada:/bin/sh\n",
        );
        write(
            "subuid",
            "bob:100000:65536\n1000:300000:5\nada:400000:0\nada:165536:10\n",
        );
        write("subgid", "ada:165536:65536\n");
        let owners = Owners::of_rootless(temp.path(), 1000, 1001).unwrap();
        assert_eq!(owners.user(1000).unwrap(), 0);
        assert_eq!(owners.user(165_536).unwrap(), 1);
        assert_eq!(owners.user(300_000).unwrap(), 11);
        assert_eq!(owners.group(1001).unwrap(), 0);
        assert!(owners.user(0).unwrap_err().to_string().contains("user 0"));
        assert!(owners.has_subordinate());
        // Without subordinate numbers podman maps the user alone.
        let alone = Owners::of_rootless(temp.path(), 7, 7).unwrap();
        assert!(!alone.has_subordinate());
        assert_eq!(alone.user(7).unwrap(), 0);
        let error = alone.user(8).unwrap_err().to_string();
        assert!(error.contains("user 8"), "{error}");
        assert_eq!(
            Owners::of_rootless(&temp.path().join("none"), 7, 7).unwrap(),
            alone
        );
        assert_eq!(Owners::default().user(42).unwrap(), 42);
    }

    #[test]
    fn in_a_namespace_only_what_it_maps_is_somebody() {
        let owners = Owners {
            users: parse_map("         0       4242          1\n         1     300000      1000\n"),
            groups: parse_map("0 0 4294967295\n"),
        };
        assert_eq!(owners.user(0).unwrap(), 0);
        assert_eq!(owners.user(1000).unwrap(), 1000);
        assert!(owners.user(65_534).is_err());
        assert_eq!(owners.group(65_534).unwrap(), 65_534);
        Owners::of_this_namespace().unwrap();
    }

    #[test]
    fn an_override_has_three_numbers() {
        assert_eq!(parse_override(b"10:20:0755"), Some((10, 20, 0o755)));
        assert_eq!(parse_override(b"10:20:0644:file"), Some((10, 20, 0o644)));
        assert_eq!(parse_override(b"10:20"), None);
        assert_eq!(parse_override(b"a:b:c"), None);
    }
}
