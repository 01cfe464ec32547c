//! What names lead to in all directories of a tree: a map on disk, in little memory.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map;

use hull_sys::spill::SpilledVec;

use crate::name::Name;

/// Entries of directories by the number of the directory and the bytes of the name, in that order.
///
/// They are in pages, of which all but the last ones made are on disk. In memory is where each page begins.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    pages: SpilledVec<Page>,
    /// Nothing in a page comes before its key here.
    index: BTreeMap<Key, u32>,
    /// Pages that nothing is in.
    free: Vec<u32>,
}

/// In front how many bytes are used, these among them, and where the last entry begins; then the entries in their order.
type Page = [u8; 4096];

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    directory: u32,
    name: Name,
}

/// An entry, and the bytes of the page behind it.
#[derive(Debug, Clone, Copy)]
struct Record<'a> {
    directory: u32,
    value: u32,
    name: &'a [u8],
}

/// Bytes of an entry in front of its name: directory, value, length of the name.
const HEAD: usize = 10;
/// Bytes of a page in front of its first entry.
const START: usize = 4;

impl Record<'_> {
    fn length(&self) -> usize {
        HEAD + self.name.len()
    }

    fn compare(&self, directory: u32, name: &[u8]) -> Ordering {
        (self.directory, self.name).cmp(&(directory, name))
    }

    fn encode(&self, to: &mut [u8]) {
        to[..4].copy_from_slice(&self.directory.to_le_bytes());
        to[4..8].copy_from_slice(&self.value.to_le_bytes());
        let length = u16::try_from(self.name.len()).expect("a name is shorter than a page");
        to[8..HEAD].copy_from_slice(&length.to_le_bytes());
        to[HEAD..HEAD + self.name.len()].copy_from_slice(self.name);
    }
}

/// The entries of a page from somewhere on.
#[derive(Debug, Clone, Copy, Default)]
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        let (head, rest) = self.0.split_first_chunk::<HEAD>()?;
        let [d0, d1, d2, d3, v0, v1, v2, v3, l0, l1] = *head;
        let (name, rest) = rest.split_at(u16::from_le_bytes([l0, l1]).into());
        self.0 = rest;
        Some(Record {
            directory: u32::from_le_bytes([d0, d1, d2, d3]),
            value: u32::from_le_bytes([v0, v1, v2, v3]),
            name,
        })
    }
}

fn used(page: &Page) -> usize {
    usize::from(u16::from_le_bytes([page[0], page[1]]))
}

fn last(page: &Page) -> usize {
    usize::from(u16::from_le_bytes([page[2], page[3]]))
}

fn set_used(page: &mut Page, used: usize, last: usize) {
    let bytes = |at: usize| u16::try_from(at).expect("a page is shorter").to_le_bytes();
    page[..2].copy_from_slice(&bytes(used));
    page[2..START].copy_from_slice(&bytes(last));
}

/// The same where it is not known which entry is the last one.
fn cut(page: &mut Page, used: usize) {
    set_used(page, used, START);
    let (mut at, mut last) = (START, START);
    for record in records(page) {
        last = at;
        at += record.length();
    }
    set_used(page, used, last);
}

fn empty() -> Page {
    let mut page = [0; _];
    set_used(&mut page, START, START);
    page
}

fn records(page: &Page) -> Records<'_> {
    Records(&page[START..used(page)])
}

/// Where an entry is in a page with its value; else where it would be.
fn find(page: &Page, directory: u32, name: &[u8]) -> Result<(usize, u32), usize> {
    let used = used(page);
    let last = Records(&page[last(page)..used]).next();
    // What comes in order comes behind all others.
    if last.is_none_or(|last| last.compare(directory, name).is_lt()) {
        return Err(used);
    }
    let mut at = START;
    for record in records(page) {
        match record.compare(directory, name) {
            Ordering::Less => at += record.length(),
            Ordering::Equal => return Ok((at, record.value)),
            Ordering::Greater => break,
        }
    }
    Err(at)
}

/// Where the entry begins that has the middle of a page in it.
fn middle(page: &Page) -> usize {
    let mut at = START;
    for record in records(page) {
        if at + record.length() > page.len() / 2 {
            break;
        }
        at += record.length();
    }
    at
}

impl Default for Names {
    fn default() -> Self {
        let mut pages = SpilledVec::default();
        pages.push(empty());
        let first = Key::first_of(0);
        Self {
            pages,
            index: BTreeMap::from([(first, 0)]),
            free: Vec::new(),
        }
    }
}

impl Key {
    fn new(directory: u32, name: &[u8]) -> Self {
        Self {
            directory,
            name: name.into(),
        }
    }

    /// No name is empty.
    fn first_of(directory: u32) -> Self {
        Self::new(directory, b"")
    }
}

impl Names {
    /// The longest name in bytes: longer ones than any file system has, so that those can be refused elsewhere.
    pub(crate) const LONGEST: usize = 1024;

    pub(crate) fn get(&self, directory: u32, name: &[u8]) -> Option<u32> {
        let (_, page) = self.page(&Key::new(directory, name));
        let found = find(self.pages.get(page as usize), directory, name);
        found.ok().map(|(_, value)| value)
    }

    /// Gives a name a value; returns the one that it had.
    pub(crate) fn insert(&mut self, directory: u32, name: &[u8], value: u32) -> Option<u32> {
        let key = Key::new(directory, name);
        let record = Record {
            directory,
            value,
            name,
        };
        loop {
            let (_, number) = self.page(&key);
            let page = self.pages.get(number as usize);
            let used = used(page);
            let at = match find(page, directory, name) {
                Ok((at, old)) => {
                    self.pages
                        .update(number as usize, |page| record.encode(&mut page[at..]));
                    return Some(old);
                }
                Err(at) => at,
            };
            if used + record.length() <= page.len() {
                self.pages.update(number as usize, |page| {
                    page.copy_within(at..used, at + record.length());
                    record.encode(&mut page[at..]);
                    let last = if at == used {
                        at
                    } else {
                        last(page) + record.length()
                    };
                    set_used(page, used + record.length(), last);
                });
                return None;
            }
            // What comes in order fills its pages.
            if at == used {
                self.make_room_behind(&key, record.length());
            } else {
                self.split(number);
            }
        }
    }

    /// Has a page with so much room begin at a key that is behind all others of its page: the next one, or a new one.
    fn make_room_behind(&mut self, key: &Key, length: usize) {
        let next = self.index.range(key..).next();
        let next = next.map(|(next, number)| (next.clone(), *number));
        match next {
            Some((next, number))
                if used(self.pages.get(number as usize)) + length <= size_of::<Page>() =>
            {
                self.index.remove(&next);
                self.index.insert(key.clone(), number);
            }
            _ => {
                let new = self.add_page(empty());
                self.index.insert(key.clone(), new);
            }
        }
    }

    /// The same for what comes behind everything that is there; takes less time.
    pub(crate) fn append(&mut self, directory: u32, name: &[u8], value: u32) {
        let record = Record {
            directory,
            value,
            name,
        };
        let last = self.index.last_key_value().map_or(0, |(_, number)| *number);
        let used = used(self.pages.get(last as usize));
        if used + record.length() > size_of::<Page>() {
            self.insert(directory, name, value);
            return;
        }
        self.pages.update(last as usize, |page| {
            record.encode(&mut page[used..]);
            set_used(page, used + record.length(), used);
        });
    }

    pub(crate) fn remove(&mut self, directory: u32, name: &[u8]) -> Option<u32> {
        let key = Key::new(directory, name);
        let (_, number) = self.page(&key);
        let (at, value) = find(self.pages.get(number as usize), directory, name).ok()?;
        let length = HEAD + name.len();
        self.pages.update(number as usize, |page| {
            let used = used(page);
            page.copy_within(at + length..used, at);
            cut(page, used - length);
        });
        self.drop_if_empty(&key);
        Some(value)
    }

    /// Removes all names of a directory.
    pub(crate) fn clear(&mut self, directory: u32) {
        let (first, _) = self.page(&Key::first_of(directory));
        let first = first.clone();
        let pages = self
            .index
            .range(first..=Key::new(directory, &[u8::MAX; Self::LONGEST]));
        let keys: Vec<Key> = pages.map(|(key, _)| key.clone()).collect();
        for key in keys {
            let (_, number) = self.page(&key);
            self.pages.update(number as usize, |page| {
                let old = *page;
                let mut at = START;
                for record in records(&old).filter(|record| record.directory != directory) {
                    record.encode(&mut page[at..]);
                    at += record.length();
                }
                cut(page, at);
            });
            self.drop_if_empty(&key);
        }
    }

    /// Whether a directory has no names.
    pub(crate) fn is_empty(&self, directory: u32) -> bool {
        self.iter(directory).next().is_none()
    }

    /// The names of a directory with their values, in order.
    pub(crate) fn iter(&self, directory: u32) -> Iter<'_> {
        self.iter_from(directory, b"")
    }

    /// Those from one on, whether that is there or not.
    pub(crate) fn iter_from(&self, directory: u32, name: &[u8]) -> Iter<'_> {
        let (key, number) = self.page(&Key::new(directory, name));
        let page = self.pages.get(number as usize);
        let (Ok((at, _)) | Err(at)) = find(page, directory, name);
        let mut later = self.index.range(key..);
        later.next();
        Iter {
            names: self,
            directory,
            records: Records(&page[at..used(page)]),
            later,
        }
    }

    /// The page in which a key is, if it is anywhere, and the key that it begins at.
    fn page(&self, key: &Key) -> (&Key, u32) {
        let (key, number) = self
            .index
            .range(..=key)
            .next_back()
            .expect("the first page begins in front of everything");
        (key, *number)
    }

    fn add_page(&mut self, page: Page) -> u32 {
        match self.free.pop() {
            Some(number) => {
                self.pages.set(number as usize, page);
                number
            }
            None => {
                let number = u32::try_from(self.pages.len()).expect("each page has inodes");
                self.pages.push(page);
                number
            }
        }
    }

    /// Moves the second half of a page to a new one.
    fn split(&mut self, number: u32) {
        let old = *self.pages.get(number as usize);
        let at = middle(&old);
        let moved = &old[at..used(&old)];
        let mut page = empty();
        page[START..START + moved.len()].copy_from_slice(moved);
        cut(&mut page, START + moved.len());
        if let Some(first) = records(&page).next() {
            let key = Key::new(first.directory, first.name);
            let new = self.add_page(page);
            self.index.insert(key, new);
            self.pages.update(number as usize, |page| cut(page, at));
        }
    }

    /// Takes the page of a key out of use, unless something is in it, or it is the first.
    fn drop_if_empty(&mut self, key: &Key) {
        let (first, number) = self.page(key);
        let first = first.clone();
        if used(self.pages.get(number as usize)) == START && first != Key::first_of(0) {
            self.index.remove(&first);
            self.free.push(number);
        }
    }
}

/// The names of one directory.
#[derive(Debug, Clone)]
pub(crate) struct Iter<'a> {
    names: &'a Names,
    directory: u32,
    records: Records<'a>,
    later: btree_map::Range<'a, Key, u32>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], u32);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.records.next() {
                let is_here = record.directory == self.directory;
                return is_here.then_some((record.name, record.value));
            }
            let (key, number) = self.later.next()?;
            if key.directory > self.directory {
                return None;
            }
            self.records = records(self.names.pages.get(*number as usize));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u32, Vec<u8>, u32),
        Remove(u32, Vec<u8>),
        Clear(u32),
    }

    /// Few names, and long ones, so that they meet and pages split.
    fn name() -> impl Strategy<Value = Vec<u8>> {
        ("[ab\u{7f}]{1,3}", prop_oneof![Just(0usize), 200..252usize]).prop_map(|(name, more)| {
            let mut name = name.into_bytes();
            name.extend(std::iter::repeat_n(0xff, more));
            name
        })
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            30 => (0..4u32, name(), any::<u32>()).prop_map(|(d, name, value)| Step::Insert(d, name, value)),
            10 => (0..4u32, name()).prop_map(|(directory, name)| Step::Remove(directory, name)),
            1 => (0..4u32).prop_map(Step::Clear),
        ]
    }

    fn agree(names: &Names, model: &BTreeMap<(u32, Vec<u8>), u32>) {
        for directory in 0..4 {
            let of_directory = model.iter().filter(|((d, _), _)| *d == directory);
            let expected: Vec<(&[u8], u32)> = of_directory
                .map(|((_, name), value)| (&name[..], *value))
                .collect();
            let found: Vec<_> = names.iter(directory).collect();
            assert_eq!(found, expected);
            assert_eq!(names.is_empty(directory), expected.is_empty());
            for (at, (name, value)) in expected.iter().enumerate() {
                assert_eq!(names.get(directory, name), Some(*value));
                assert!(
                    names
                        .iter_from(directory, name)
                        .eq(expected[at..].iter().copied())
                );
                let behind = [name, &[0][..]].concat();
                if behind.len() < 256 {
                    assert!(
                        names
                            .iter_from(directory, &behind)
                            .eq(expected[at + 1..].iter().copied())
                    );
                }
            }
        }
    }

    proptest! {
        #[test]
        fn names_are_like_a_map(steps in proptest::collection::vec(step(), 0..200)) {
            let mut names = Names::default();
            let mut model = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Insert(directory, name, value) => prop_assert_eq!(
                        names.insert(directory, &name, value),
                        model.insert((directory, name), value)
                    ),
                    Step::Remove(directory, name) => prop_assert_eq!(
                        names.remove(directory, &name),
                        model.remove(&(directory, name))
                    ),
                    Step::Clear(directory) => {
                        names.clear(directory);
                        model.retain(|(there, _), _| *there != directory);
                    }
                }
            }
            agree(&names, &model);
        }
    }

    /// Each of them comes behind a page that is full, and in front of all that came before.
    #[test]
    fn names_in_falling_order_fill_their_pages() {
        let mut names = Names::default();
        let rising = (0..).map(|number| format!("a{number:07}"));
        let falling = (0..100_000).rev().map(|number| format!("z{number:07}"));
        for name in rising.take(227).chain(falling) {
            assert_eq!(names.insert(0, name.as_bytes(), 1), None);
        }
        let most = 2 * 100_227 * (HEAD + 8) / size_of::<Page>();
        assert!(names.pages.len() < most, "{} pages", names.pages.len());
        assert_eq!(names.index.len(), names.pages.len() - names.free.len());
        assert_eq!(names.iter(0).count(), 100_227);
        assert!(names.iter(0).map(|(name, _)| name).is_sorted());
    }

    /// Beyond what stays in memory, in an order that meets all pages again.
    #[test]
    fn many_names_in_any_order_are_found_in_order() {
        let mut names = Names::default();
        let count = 200_000u32;
        let shuffled = (0..count).map(|at| at * 7_919 % count);
        for number in shuffled {
            let name = format!("{number:06}");
            assert_eq!(names.insert(number / 1000, name.as_bytes(), number), None);
        }
        for directory in 0..count / 1000 {
            let expected = directory * 1000..(directory + 1) * 1000;
            assert!(names.iter(directory).map(|(_, value)| value).eq(expected));
        }
        let mut again = Names::default();
        for directory in 0..count / 1000 {
            let of_directory = names.iter(directory);
            of_directory.for_each(|(name, value)| again.append(directory, name, value));
        }
        assert!(again.pages.len() < names.pages.len());
        let all = |names: &Names| -> Vec<(Vec<u8>, u32)> {
            let directories = 0..count / 1000;
            let entries = directories.flat_map(|directory| names.iter(directory));
            entries
                .map(|(name, value)| (name.to_vec(), value))
                .collect()
        };
        assert_eq!(all(&again), all(&names));
        assert_eq!(names.remove(5, b"005005"), Some(5005));
        assert_eq!(names.get(5, b"005005"), None);
        assert_eq!(names.clone().iter(5).count(), 999);
    }
}
