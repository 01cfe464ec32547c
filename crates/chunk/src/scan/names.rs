//! The names in a directory, sorted, however many they are.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ffi::CStr;
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;

use hull_sys::spill::SpilledVec;

/// The bytes of names that are sorted in memory.
const RUN: usize = 4 << 20;
/// The bytes before a name that say how long it is.
const HEAD: usize = size_of::<u16>();

/// What is in a directory, in sorted runs. They are on disk, but for some megabytes.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Names, each with its length before and a NUL behind it.
    text: SpilledVec<u8>,
    runs: Vec<Range<usize>>,
}

impl Names {
    /// Reads a directory.
    pub(super) fn read(dir: BorrowedFd<'_>) -> io::Result<Self> {
        let mut names = Self::default();
        let mut run = Run::default();
        hull_sys::dir::for_each_entry(dir, |name, _| {
            run.push(name);
            if run.text.len() >= RUN {
                names.add(&mut run);
            }
            Ok::<(), io::Error>(())
        })?;
        names.add(&mut run);
        Ok(names)
    }

    /// Moves names into a run of their own.
    fn add(&mut self, run: &mut Run) {
        let start = self.text.len();
        let text = &run.text;
        run.names
            .sort_unstable_by_key(|name| &text[name.clone()][HEAD..]);
        for name in run.names.drain(..) {
            self.text.extend_from_slice(&run.text[name]);
        }
        run.text.clear();
        self.runs.push(start..self.text.len());
    }

    /// The names in the order of their bytes, each once: in a directory that changes, one may be read twice.
    pub(super) fn iter(&self) -> impl Iterator<Item = &CStr> {
        let mut rest = self.runs.clone();
        let firsts =
            (0..rest.len()).filter_map(|run| Some(Reverse((self.next(&mut rest[run])?, run))));
        let mut heads: BinaryHeap<Reverse<(&CStr, usize)>> = firsts.collect();
        let mut last = None;
        std::iter::from_fn(move || {
            loop {
                let Reverse((name, run)) = heads.pop()?;
                heads.extend(self.next(&mut rest[run]).map(|next| Reverse((next, run))));
                if last.replace(name) != Some(name) {
                    return Some(name);
                }
            }
        })
    }

    /// The first name of what is left of a run.
    fn next(&self, rest: &mut Range<usize>) -> Option<&CStr> {
        if rest.start == rest.end {
            return None;
        }
        let name = rest.start + HEAD;
        let length = self.text.slice(rest.start..name).first_chunk()?;
        rest.start = name + usize::from(u16::from_le_bytes(*length));
        CStr::from_bytes_with_nul(self.text.slice(name..rest.start)).ok()
    }
}

/// Names that are not sorted yet.
#[derive(Debug, Default)]
struct Run {
    text: Vec<u8>,
    names: Vec<Range<usize>>,
}

impl Run {
    fn push(&mut self, name: &CStr) {
        let name = name.to_bytes_with_nul();
        let length =
            u16::try_from(name.len()).expect("the kernel has 16 bits for the length of a name");
        let start = self.text.len();
        self.text.extend(length.to_le_bytes());
        self.text.extend_from_slice(name);
        self.names.push(start..self.text.len());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::ffi::CString;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn names_are_sorted_in_however_many_runs(
            names in proptest::collection::vec("[-.0a]{1,4}", 0..60),
            at_once in 1usize..70,
        ) {
            let mut sorted = Names::default();
            for part in names.chunks(at_once) {
                let mut run = Run::default();
                for name in part {
                    run.push(&CString::new(name.as_str()).unwrap());
                }
                sorted.add(&mut run);
            }
            let found: Vec<&str> = sorted.iter().map(|name| name.to_str().unwrap()).collect();
            let expected: BTreeSet<&str> = names.iter().map(String::as_str).collect();
            prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
