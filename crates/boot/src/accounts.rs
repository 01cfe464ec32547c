//! Account files merged by line: `passwd`, `group`, `shadow`, `gshadow`,
//! `subuid`, `subgid`.
//!
//! Three versions go in: the one that both sides started from, mine (the
//! machine's) and theirs (the new image's). A line belongs to the name before
//! its first colon. Users that the new image brings arrive, and what was
//! changed on the machine stays.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

/// Which account file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AccountFile {
    /// `passwd(5)`.
    Passwd,
    /// `group(5)`.
    Group,
    /// `shadow(5)`.
    Shadow,
    /// `gshadow(5)`.
    Gshadow,
    /// `subuid(5)`.
    Subuid,
    /// `subgid(5)`.
    Subgid,
}

impl AccountFile {
    /// All of them, those first whose clashes matter to the others.
    pub const ALL: [Self; 6] = [
        Self::Passwd,
        Self::Group,
        Self::Shadow,
        Self::Gshadow,
        Self::Subuid,
        Self::Subgid,
    ];

    /// The name in `/etc`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Passwd => "passwd",
            Self::Group => "group",
            Self::Shadow => "shadow",
            Self::Gshadow => "gshadow",
            Self::Subuid => "subuid",
            Self::Subgid => "subgid",
        }
    }

    /// The file of that name in `/etc`.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.name().as_bytes() == name)
    }

    /// The field with a number that no other name may have.
    fn id_field(self) -> Option<usize> {
        match self {
            Self::Passwd | Self::Group => Some(2),
            _ => None,
        }
    }

    /// The last field is a list of members (`gshadow`: after that of
    /// administrators, which stays with the rest of the line).
    fn has_members(self) -> bool {
        matches!(self, Self::Group | Self::Gshadow)
    }

    /// The file whose refused names have no place in this one either.
    fn follows(self) -> Option<Self> {
        match self {
            Self::Shadow | Self::Subuid | Self::Subgid => Some(Self::Passwd),
            Self::Gshadow => Some(Self::Group),
            Self::Passwd | Self::Group => None,
        }
    }
}

/// A line of the new image that was not taken as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Clash {
    /// The file, `passwd`.
    pub file: &'static str,
    /// The user or group.
    pub name: String,
    /// Why.
    pub reason: ClashReason,
}

/// Why a line of the new image was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClashReason {
    /// The machine has given the number to this other name.
    NumberTaken {
        /// The user or group number.
        number: String,
        /// Who has it.
        by: String,
    },
    /// The line would take the password of root away.
    LocksRoot,
}

impl fmt::Display for Clash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, name, reason } = self;
        match reason {
            ClashReason::NumberTaken { number, by } => write!(
                f,
                "/etc/{file}: {name} of the new image is left out, since {by} has its number {number} here"
            ),
            ClashReason::LocksRoot => write!(
                f,
                "/etc/{file}: {name} stays as it is, since the new image's line has no password"
            ),
        }
    }
}

/// Merges account files, and remembers which names were refused: a user that
/// does not come into `passwd` has no line in `shadow` either.
///
/// Give it the files in the order of [`AccountFile::ALL`].
#[derive(Debug, Default)]
pub struct AccountMerger {
    refused: BTreeMap<AccountFile, BTreeSet<Vec<u8>>>,
    clashes: Vec<Clash>,
}

impl AccountMerger {
    /// What was not taken so far.
    pub fn into_clashes(self) -> Vec<Clash> {
        self.clashes
    }

    /// Merges one file.
    ///
    /// Without changes on one side the other side's bytes come out as they
    /// are, but for root, whose line is never lost nor locked.
    pub fn merge(&mut self, file: AccountFile, base: &[u8], mine: &[u8], theirs: &[u8]) -> Vec<u8> {
        let merged = if theirs == base || theirs == mine {
            mine.to_vec()
        } else if mine == base {
            theirs.to_vec()
        } else {
            self.merge_lines(file, base, mine, theirs)
        };
        self.keep_root(file, mine, merged)
    }

    fn merge_lines(
        &mut self,
        file: AccountFile,
        base: &[u8],
        mine: &[u8],
        theirs: &[u8],
    ) -> Vec<u8> {
        let (base, mine, theirs) = (Lines::parse(base), Lines::parse(mine), Lines::parse(theirs));
        let mut taken = Lines::default();
        for name in &mine.order {
            let chosen = choose(file, base.get(name), mine.get(name), theirs.get(name));
            taken.put(name, chosen.unwrap_or_default());
        }
        for name in theirs.order.iter().filter(|name| !mine.has(name)) {
            // A name that I removed stays removed, whatever they made of it.
            if !base.has(name) && !self.is_refused(file, name) {
                taken.put(name, theirs.get(name).unwrap_or_default().to_vec());
            }
        }
        if let Some(field) = file.id_field() {
            self.refuse_taken_numbers(file, field, &mine, &theirs, &mut taken);
        }
        taken.to_bytes()
    }

    fn is_refused(&self, file: AccountFile, name: &[u8]) -> bool {
        file.follows()
            .and_then(|leader| self.refused.get(&leader))
            .is_some_and(|names| names.contains(name))
    }

    /// Where the merge gives a name a number that another name of mine has,
    /// it gets what I have for it: nothing, or its former line.
    ///
    /// That may bring a number back which a third name was given meanwhile,
    /// hence the loop; each turn refuses at least one name, so it ends.
    fn refuse_taken_numbers<'a>(
        &mut self,
        file: AccountFile,
        field: usize,
        mine: &Lines<'a>,
        theirs: &Lines<'a>,
        taken: &mut Lines<'a>,
    ) {
        while let Some(clash) = find_clash(field, mine, theirs, taken) {
            let name = clash.name.as_slice();
            taken.put(name, mine.get(name).unwrap_or_default().to_vec());
            if !mine.has(name) {
                self.refused.entry(file).or_default().insert(name.to_vec());
            }
            self.clashes.push(Clash {
                file: file.name(),
                name: lossy(name),
                reason: ClashReason::NumberTaken {
                    number: lossy(&clash.number),
                    by: lossy(&clash.owner),
                },
            });
        }
    }

    /// A machine whose root can log in stays so.
    fn keep_root(&mut self, file: AccountFile, mine: &[u8], merged: Vec<u8>) -> Vec<u8> {
        if !matches!(file, AccountFile::Passwd | AccountFile::Shadow) {
            return merged;
        }
        let mine = Lines::parse(mine);
        let Some(my_root) = mine.get(b"root").and_then(<[_]>::first) else {
            return merged;
        };
        let result = Lines::parse(&merged);
        let keep = match result.get(b"root").and_then(<[_]>::first) {
            None => true,
            Some(root) => match file {
                AccountFile::Passwd => nth_field(root, 2) != nth_field(my_root, 2),
                _ => !is_locked(my_root) && is_locked(root),
            },
        };
        if !keep {
            return merged;
        }
        self.clashes.push(Clash {
            file: file.name(),
            name: "root".to_owned(),
            reason: ClashReason::LocksRoot,
        });
        let mut kept = Lines::parse(&merged);
        kept.put_first_if_new(b"root", vec![my_root.clone()]);
        kept.to_bytes()
    }
}

/// A name that would get a number which is another one's.
struct NumberClash {
    name: Vec<u8>,
    number: Vec<u8>,
    owner: Vec<u8>,
}

/// A number belongs to the name that has it here; one that the new image
/// gives to several names itself is shared on purpose.
fn find_clash(
    field: usize,
    mine: &Lines<'_>,
    theirs: &Lines<'_>,
    taken: &Lines<'_>,
) -> Option<NumberClash> {
    let has = |lines: &Lines<'_>, name: &[u8], number: &[u8]| {
        let mut lines = lines.get(name).unwrap_or_default().iter();
        lines.any(|line| nth_field(line, field) == Some(number))
    };
    let numbers = || {
        taken.order.iter().flat_map(|name| {
            let lines = taken.get(name).unwrap_or_default().iter();
            lines.filter_map(move |line| Some((name.as_ref(), nth_field(line, field)?)))
        })
    };
    let owners: BTreeMap<&[u8], &[u8]> = numbers()
        .filter(|(name, number)| has(mine, name, number) && !has(theirs, name, number))
        .map(|(name, number)| (number, name))
        .collect();
    numbers()
        .filter(|(name, number)| !has(mine, name, number))
        .find_map(|(name, number)| {
            let owner = *owners.get(number)?;
            Some(NumberClash {
                name: name.to_vec(),
                number: number.to_vec(),
                owner: owner.to_vec(),
            })
        })
}

/// A password field that no password matches: `*`, `!`, or such a mark before it.
fn is_locked(shadow_line: &[u8]) -> bool {
    nth_field(shadow_line, 1).is_none_or(|password| matches!(password.first(), Some(b'*' | b'!')))
}

type Line<'a> = Cow<'a, [u8]>;
type LineList<'a> = Vec<Line<'a>>;

/// What becomes of a name that I have: its lines, or `None`.
fn choose<'a>(
    file: AccountFile,
    base: Option<&[Line<'a>]>,
    mine: Option<&[Line<'a>]>,
    theirs: Option<&[Line<'a>]>,
) -> Option<LineList<'a>> {
    if mine == base {
        return theirs.map(<[_]>::to_vec);
    }
    if let (true, Some([mine]), Some([theirs])) = (file.has_members(), mine, theirs) {
        let base = match base {
            Some([base]) => base,
            _ => &b""[..],
        };
        return Some(vec![merge_group(base, mine, theirs).into()]);
    }
    mine.map(<[_]>::to_vec)
}

/// One group that both sides have: members as a set, the rest as one piece.
fn merge_group(base: &[u8], mine: &[u8], theirs: &[u8]) -> Vec<u8> {
    let (base_head, base_members) = split_members(base);
    let (my_head, my_members) = split_members(mine);
    let (their_head, their_members) = split_members(theirs);
    let head = if my_head == base_head {
        their_head
    } else {
        my_head
    };
    let mut members: Vec<&[u8]> = my_members
        .iter()
        .copied()
        // Members that they took away, and that are not mine alone.
        .filter(|m| !base_members.contains(m) || their_members.contains(m))
        .collect();
    for member in &their_members {
        if !base_members.contains(member) && !members.contains(member) {
            members.push(member);
        }
    }
    let mut line = head.to_vec();
    line.push(b':');
    line.extend(members.join(&b','));
    line
}

/// A line before its last colon, and the names after it.
fn split_members(line: &[u8]) -> (&[u8], Vec<&[u8]>) {
    let Some(colon) = line.iter().rposition(|&b| b == b':') else {
        return (line, Vec::new());
    };
    let members = line[colon + 1..]
        .split(|&b| b == b',')
        .filter(|m| !m.is_empty())
        .collect();
    (&line[..colon], members)
}

fn nth_field(line: &[u8], n: usize) -> Option<&[u8]> {
    line.split(|&b| b == b':').nth(n)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The lines of a file by name, in the order in which names first appear.
///
/// A line without a colon (a comment, an empty line) is its own name.
#[derive(Default)]
struct Lines<'a> {
    order: Vec<Line<'a>>,
    by_name: BTreeMap<Vec<u8>, LineList<'a>>,
}

impl<'a> Lines<'a> {
    fn parse(text: &'a [u8]) -> Self {
        let mut lines = Self::default();
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        if text.is_empty() {
            return lines;
        }
        for line in text.split(|&b| b == b'\n') {
            let end = line.iter().position(|&b| b == b':').unwrap_or(line.len());
            let name = &line[..end];
            let list = lines.by_name.entry(name.to_vec()).or_insert_with(|| {
                lines.order.push(name.into());
                Vec::new()
            });
            list.push(line.into());
        }
        lines
    }

    fn has(&self, name: &[u8]) -> bool {
        self.get(name).is_some()
    }

    fn get(&self, name: &[u8]) -> Option<&[Line<'a>]> {
        self.by_name.get(name).map(Vec::as_slice)
    }

    /// Sets the lines of a name; none removes it.
    fn put(&mut self, name: &[u8], lines: LineList<'a>) {
        let known = self.by_name.contains_key(name);
        if lines.is_empty() {
            self.by_name.remove(name);
            if known {
                self.order.retain(|other| other.as_ref() != name);
            }
            return;
        }
        if !known {
            self.order.push(name.to_vec().into());
        }
        self.by_name.insert(name.to_vec(), lines);
    }

    fn put_first_if_new(&mut self, name: &[u8], lines: LineList<'a>) {
        if !self.has(name) {
            self.order.insert(0, name.to_vec().into());
        }
        self.by_name.insert(name.to_vec(), lines);
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for line in self
            .order
            .iter()
            .filter_map(|name| self.get(name))
            .flatten()
        {
            bytes.extend_from_slice(line);
            bytes.push(b'\n');
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn merge(file: AccountFile, base: &str, mine: &str, theirs: &str) -> (String, Vec<Clash>) {
        let mut merger = AccountMerger::default();
        let merged = merger.merge(file, base.as_bytes(), mine.as_bytes(), theirs.as_bytes());
        (String::from_utf8(merged).unwrap(), merger.into_clashes())
    }

    const BASE: &str = "root:x:0:0::/root:/bin/sh\ndaemon:x:1:1::/:/sbin/nologin\n";

    #[test]
    fn a_system_user_of_the_new_image_joins_a_user_of_the_machine() {
        let mine = format!("{BASE}anna:x:1000:1000::/home/anna:/bin/sh\n");
        let theirs = format!("{BASE}sshd:x:104:65534::/run/sshd:/sbin/nologin\n");
        let (merged, clashes) = merge(AccountFile::Passwd, BASE, &mine, &theirs);
        assert_eq!(
            merged,
            format!("{mine}sshd:x:104:65534::/run/sshd:/sbin/nologin\n")
        );
        assert_eq!(clashes, []);
    }

    #[test]
    fn a_line_that_i_changed_stays_and_one_that_only_they_changed_is_taken() {
        let mine = BASE.replace("/bin/sh", "/bin/zsh");
        let theirs = BASE
            .replace("/root:/bin/sh", "/root:/bin/bash")
            .replace("daemon:x:1:1::/:", "daemon:x:1:1::/usr/sbin:");
        let (merged, _) = merge(AccountFile::Passwd, BASE, &mine, &theirs);
        assert_eq!(
            merged,
            "root:x:0:0::/root:/bin/zsh\ndaemon:x:1:1::/usr/sbin:/sbin/nologin\n"
        );
    }

    #[test]
    fn a_user_that_i_removed_stays_removed_though_they_changed_it() {
        let mine = "root:x:0:0::/root:/bin/sh\n";
        let theirs = BASE.replace("daemon:x:1:1::/:", "daemon:x:1:1::/usr/sbin:");
        let (merged, _) = merge(AccountFile::Passwd, BASE, mine, &theirs);
        assert_eq!(merged, mine);
    }

    #[test]
    fn a_user_that_they_removed_goes_unless_i_changed_it() {
        let theirs = "root:x:0:0::/root:/bin/sh\n";
        let mine = format!("{BASE}anna:x:1000:1000::/home/anna:/bin/sh\n");
        let (merged, _) = merge(AccountFile::Passwd, BASE, &mine, theirs);
        assert!(!merged.contains("daemon"), "{merged}");
        let mine = BASE.replace("/sbin/nologin", "/bin/false");
        let (merged, _) = merge(AccountFile::Passwd, BASE, &mine, theirs);
        assert_eq!(merged, mine);
    }

    #[test]
    fn a_new_user_whose_number_is_taken_is_left_out_of_every_file() {
        let mut merger = AccountMerger::default();
        let mine = format!("{BASE}anna:x:104:1000::/home/anna:/bin/sh\n");
        let theirs = format!("{BASE}sshd:x:104:65534::/run/sshd:/sbin/nologin\n");
        let passwd = merger.merge(
            AccountFile::Passwd,
            BASE.as_bytes(),
            mine.as_bytes(),
            theirs.as_bytes(),
        );
        assert_eq!(String::from_utf8(passwd).unwrap(), mine);
        let shadow = merger.merge(
            AccountFile::Shadow,
            b"root:*:1::::::\n",
            b"root:*:1::::::\nanna:h:1::::::\n",
            b"root:*:1::::::\nsshd:!:1::::::\n",
        );
        assert_eq!(shadow, b"root:*:1::::::\nanna:h:1::::::\n");
        let clashes = merger.into_clashes();
        assert_eq!(clashes.len(), 1);
        let text = clashes[0].to_string();
        assert!(
            text.contains("sshd") && text.contains("anna") && text.contains("104"),
            "{text}"
        );
    }

    #[test]
    fn a_number_that_they_moved_onto_one_of_mine_stays_where_it_was() {
        let mine = format!("{BASE}anna:x:7:1000::/home/anna:/bin/sh\n");
        let theirs = BASE.replace("daemon:x:1:", "daemon:x:7:");
        let (merged, clashes) = merge(AccountFile::Passwd, BASE, &mine, &theirs);
        assert_eq!(merged, mine);
        assert_eq!(clashes.len(), 1);
    }

    #[test]
    fn two_names_of_one_number_in_the_new_image_are_no_clash() {
        let mine = format!("{BASE}anna:x:1000:1000::/home/anna:/bin/sh\n");
        let theirs = format!("{BASE}toor:x:0:0::/root:/bin/sh\na:x:9:9:::\nb:x:9:9:::\n");
        let (merged, clashes) = merge(AccountFile::Passwd, BASE, &mine, &theirs);
        assert!(
            merged.contains("a:x:9") && merged.contains("b:x:9"),
            "{merged}"
        );
        assert!(merged.contains("toor:x:0:0"), "{merged}");
        assert_eq!(clashes, []);
    }

    #[test]
    fn members_of_a_group_are_merged_as_a_set() {
        let base = "sudo:x:27:\naudio:x:29:old,pulse\n";
        let mine = "sudo:x:27:anna\naudio:x:29:old,pulse,anna\n";
        let theirs = "sudo:x:27:admin\naudio:x:29:pulse,pipewire\nnew:x:30:\n";
        let (merged, _) = merge(AccountFile::Group, base, mine, theirs);
        assert_eq!(
            merged,
            "sudo:x:27:anna,admin\naudio:x:29:pulse,anna,pipewire\nnew:x:30:\n"
        );
    }

    #[test]
    fn a_group_s_number_is_theirs_unless_i_changed_it() {
        let (merged, _) = merge(
            AccountFile::Group,
            "a:x:1:\nb:x:2:\n",
            "a:x:1:anna\nb:x:5:\n",
            "a:x:3:\nb:x:4:\n",
        );
        assert_eq!(merged, "a:x:3:anna\nb:x:5:\n");
    }

    #[test]
    fn a_root_that_can_log_in_is_not_locked_by_an_upgrade() {
        let (merged, clashes) = merge(
            AccountFile::Shadow,
            "root:$y$hash:1::::::\n",
            "root:$y$hash:1::::::\n",
            "root:!*:1::::::\nnew:!:1::::::\n",
        );
        assert_eq!(merged, "root:$y$hash:1::::::\nnew:!:1::::::\n");
        assert_eq!(clashes[0].reason, ClashReason::LocksRoot);
    }

    #[test]
    fn a_locked_root_may_get_another_lock() {
        let (merged, clashes) = merge(
            AccountFile::Shadow,
            "root:*:1::::::\n",
            "root:*:1::::::\n",
            "root:!:2::::::\n",
        );
        assert_eq!(merged, "root:!:2::::::\n");
        assert_eq!(clashes, []);
    }

    #[test]
    fn root_is_never_lost() {
        let (merged, _) = merge(
            AccountFile::Passwd,
            BASE,
            BASE,
            "daemon:x:1:1::/:/bin/false\n",
        );
        assert_eq!(
            merged,
            "root:x:0:0::/root:/bin/sh\ndaemon:x:1:1::/:/bin/false\n"
        );
        let (merged, _) = merge(
            AccountFile::Passwd,
            BASE,
            BASE,
            "root:x:7:7::/root:/bin/sh\n",
        );
        assert!(merged.starts_with("root:x:0:0:"), "{merged}");
    }

    #[test]
    fn several_ranges_of_one_user_go_together() {
        let (merged, _) = merge(
            AccountFile::Subuid,
            "anna:100000:65536\n",
            "anna:100000:65536\nanna:300000:65536\n",
            "anna:100000:65536\nben:200000:65536\n",
        );
        assert_eq!(
            merged,
            "anna:100000:65536\nanna:300000:65536\nben:200000:65536\n"
        );
    }

    #[test]
    fn comments_and_a_missing_last_newline_do_no_harm() {
        let (merged, _) = merge(AccountFile::Group, "", "# mine\na:x:1:", "b:x:2:");
        assert_eq!(merged, "# mine\na:x:1:\nb:x:2:\n");
    }

    fn lines() -> impl Strategy<Value = String> {
        proptest::collection::vec(("[abcd]", 1u8..5, "[uvw]{0,2}"), 0..5).prop_map(|lines| {
            lines
                .into_iter()
                .map(|(name, number, rest)| format!("{name}:x:{number}:{rest}\n"))
                .collect()
        })
    }

    fn any_file() -> impl Strategy<Value = AccountFile> {
        proptest::sample::select(AccountFile::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn without_changes_of_theirs_mine_comes_out(
            file in any_file(), base in lines(), mine in lines(),
        ) {
            prop_assert_eq!(merge(file, &base, &mine, &base).0, mine);
        }

        #[test]
        fn without_changes_of_mine_theirs_comes_out(
            file in any_file(), base in lines(), theirs in lines(),
        ) {
            prop_assert_eq!(merge(file, &base, &base, &theirs).0, theirs);
        }

        #[test]
        fn merging_the_result_again_changes_nothing(
            file in any_file(), base in lines(), mine in lines(), theirs in lines(),
        ) {
            let (once, _) = merge(file, &base, &mine, &theirs);
            prop_assume!(once != base);
            prop_assert_eq!(merge(file, &base, &once, &theirs).0, once);
        }

        #[test]
        fn no_name_of_mine_gets_lost_that_they_did_not_remove(
            file in any_file(), base in lines(), mine in lines(), theirs in lines(),
        ) {
            let (merged, _) = merge(file, &base, &mine, &theirs);
            let (base, mine) = (Lines::parse(base.as_bytes()), Lines::parse(mine.as_bytes()));
            let (theirs, merged) = (Lines::parse(theirs.as_bytes()), Lines::parse(merged.as_bytes()));
            for name in &mine.order {
                if !base.has(name) || theirs.has(name) {
                    prop_assert!(merged.has(name), "{}", lossy(name));
                }
            }
        }
    }
}
