//! Lists that go to disk when they get long, and that memory stays small beside.
//!
//! What is in the file is seen through a mapping of it. The pages of a mapping count as memory of the process, so a list
//! lets go of its own after some; what is looked at again comes from the kernel's cache of the file, which has them as
//! long as nobody needs the memory more.

#![allow(
    unsafe_code,
    reason = "a mapping has no safe wrapper: its file must not shrink while there are references into it"
)]

use std::ffi::c_void;
use std::fmt::{self, Debug, Formatter};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rustix::mm::{Advice, MapFlags, MremapFlags, ProtFlags};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// What the kernel maps around an address that is looked at, unless it is told otherwise.
const WINDOW: usize = 64 << 10;

/// How much of a list is in memory, and where the rest of it goes.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Bytes at the end of the list that are in memory. They go to the file when there are so many, or a little more.
    pub in_memory: usize,
    /// Bytes of the file that count as memory of the process at most, in steps of 64 KiB.
    pub mapped: usize,
    /// The directory that the file is in, without a name.
    pub directory: PathBuf,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_memory: 2 << 20,
            mapped: 2 << 20,
            directory: PathBuf::from("/var/tmp"),
        }
    }
}

/// A list like `Vec`, of which a bounded part is in memory however long it is.
///
/// Where no file can be had, or it cannot be written, the list stays in memory: nothing fails. Where the file cannot be
/// read any more, for its disk is gone, the kernel ends the process as it does where memory is broken.
///
/// Elements go to the file in the order in which they were added, and are changed there.
pub struct SpilledVec<T> {
    /// How many are in the file; the others follow in `tail`.
    set_aside: usize,
    mapping: Option<Mapping>,
    tail: Vec<T>,
    /// Whether there is to be no file, or no more in it.
    refused: bool,
    limits: Limits,
}

impl<T> Default for SpilledVec<T> {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl<T> SpilledVec<T> {
    /// An empty list. There is no file before it is needed.
    pub fn new(limits: Limits) -> Self {
        Self {
            set_aside: 0,
            mapping: None,
            tail: Vec::new(),
            refused: false,
            limits,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.set_aside + self.tail.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: FromBytes + IntoBytes + Immutable + Copy> SpilledVec<T> {
    /// Adds one at the end.
    pub fn push(&mut self, value: T) {
        self.extend_from_slice(&[value]);
    }

    /// Adds some at the end, which can be had as one slice from then on; returns where the first one is.
    pub fn extend_from_slice(&mut self, values: &[T]) -> usize {
        if size_of_val(&*self.tail) + size_of_val(values) > self.limits.in_memory {
            self.set_tail_aside();
        }
        let start = self.len();
        self.tail.extend_from_slice(values);
        start
    }

    /// The one in this place, which must be there.
    #[inline]
    pub fn get(&self, place: usize) -> &T {
        &self.slice(place..place + 1)[0]
    }

    /// Those in these places, which must have been added at once.
    #[inline]
    pub fn slice(&self, places: Range<usize>) -> &[T] {
        match (&self.mapping, places.start < self.set_aside) {
            (Some(mapping), true) => {
                let bytes = places.start * size_of::<T>()..places.end * size_of::<T>();
                assert!(places.end <= self.set_aside, "they were added at once");
                <[T]>::ref_from_bytes(mapping.bytes(bytes)).expect("whole ones begin at their size")
            }
            _ => &self.tail[places.start - self.set_aside..places.end - self.set_aside],
        }
    }

    /// Appends copies of those in these places, which must be there. For places that are far from those that were looked at
    /// before: reading some bytes takes less time than mapping what is around them.
    pub fn copy(&self, places: Range<usize>, to: &mut Vec<T>) {
        let start = to.len();
        if let (Some(mapping), true) = (&self.mapping, places.end <= self.set_aside) {
            to.extend(std::iter::repeat_n(T::new_zeroed(), places.len()));
            let bytes = to[start..].as_mut_bytes();
            let at = (places.start * size_of::<T>()) as u64;
            if mapping.file.read_exact_at(bytes, at).is_ok() {
                return;
            }
            to.truncate(start);
        }
        to.extend(places.map(|place| *self.get(place)));
    }

    /// All of them in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &T> {
        (0..self.len()).map(|place| self.get(place))
    }

    /// Puts another one in this place, which must be there.
    pub fn set(&mut self, place: usize, value: T) {
        if let (Some(mapping), true) = (&self.mapping, place < self.set_aside) {
            match mapping.write(place * size_of::<T>(), value.as_bytes()) {
                Ok(()) => return,
                Err(_) => self.recall(),
            }
        }
        self.tail[place - self.set_aside] = value;
    }

    /// Changes the one in this place, which must be there.
    pub fn update(&mut self, place: usize, change: impl FnOnce(&mut T)) {
        match place.checked_sub(self.set_aside) {
            Some(in_memory) => change(&mut self.tail[in_memory]),
            None => {
                let mut value = *self.get(place);
                change(&mut value);
                self.set(place, value);
            }
        }
    }

    /// Forgets all but the first ones.
    pub fn truncate(&mut self, length: usize) {
        self.tail.truncate(length.saturating_sub(self.set_aside));
        self.set_aside = self.set_aside.min(length);
    }

    /// Moves what is in memory to the file. Where that fails, it stays, and whatever comes.
    fn set_tail_aside(&mut self) {
        if self.refused || self.tail.is_empty() {
            return;
        }
        let at = self.set_aside * size_of::<T>();
        match self.write_tail(at) {
            Ok(()) => {
                self.set_aside += self.tail.len();
                self.tail.clear();
            }
            Err(_) => {
                self.refused = true;
                self.give_back(at);
            }
        }
    }

    /// Frees the room on the disk behind what is in the file for good: others may need it.
    fn give_back(&mut self, length: usize) {
        if length == 0 {
            self.mapping = None;
        } else if let Some(mapping) = &self.mapping {
            // Where that fails, others have less room, and nothing else is lost.
            mapping.file.set_len(length as u64).ok();
        }
    }

    fn write_tail(&mut self, at: usize) -> io::Result<()> {
        let bytes = self.tail.as_bytes();
        let end = at + bytes.len();
        let mapping = match &mut self.mapping {
            Some(mapping) => mapping,
            none => none.insert(Mapping::new(&self.limits, end)?),
        };
        mapping.write(at, bytes)?;
        mapping.reach(end)
    }

    /// Takes everything into memory again, for good.
    fn recall(&mut self) {
        let mut all = Vec::with_capacity(self.len());
        all.extend(self.iter().copied());
        self.tail = all;
        self.set_aside = 0;
        self.mapping = None;
        self.refused = true;
    }
}

impl<T: FromBytes + IntoBytes + Immutable + Copy> FromIterator<T> for SpilledVec<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut list = Self::default();
        values.into_iter().for_each(|value| list.push(value));
        list
    }
}

impl<T: FromBytes + IntoBytes + Immutable + Copy> Clone for SpilledVec<T> {
    fn clone(&self) -> Self {
        let mut clone = Self::new(self.limits.clone());
        let piece = (self.limits.in_memory / size_of::<T>()).max(1);
        for start in (0..self.set_aside).step_by(piece) {
            let end = self.set_aside.min(start + piece);
            clone.tail.extend_from_slice(self.slice(start..end));
            clone.set_tail_aside();
        }
        // What was added at once may be in two pieces, of which only one is in the file.
        if clone.refused {
            clone.recall();
        }
        clone.tail.extend_from_slice(&self.tail);
        clone
    }
}

impl<T> Debug for SpilledVec<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpilledVec")
            .field("in_memory", &self.tail.len())
            .field("set_aside", &self.set_aside)
            .finish()
    }
}

/// A file without a name, mapped for reading; what is in the list is never cut off.
#[derive(Debug)]
struct Mapping {
    file: File,
    start: NonNull<c_void>,
    /// Bytes of addresses: there may be more of them than of the file.
    length: usize,
    /// The windows that were looked at since the pages were let go of, in a bit each.
    looked_at: Vec<AtomicU64>,
    /// How many these are.
    count: AtomicUsize,
    /// How many may be.
    windows: usize,
}

// SAFETY: through a shared reference the mapping is only read, and advised on, which any thread may do at any time.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// A new file, of which `length` bytes can be mapped.
    fn new(limits: &Limits, length: usize) -> io::Result<Self> {
        let file = tempfile::tempfile_in(&limits.directory)?;
        let length = length.next_power_of_two();
        // SAFETY: the kernel picks addresses that nothing has.
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ,
                MapFlags::SHARED,
                &file,
                0,
            )
        }?;
        let start = NonNull::new(start).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: the addresses are the mapping's. Else a look at one byte may map, and count, 2 MiB.
        let advised =
            unsafe { rustix::mm::madvise(start.as_ptr(), length, Advice::LinuxNoHugepage) };
        // A kernel without huge pages does not know of them.
        advised.ok();
        Ok(Self {
            file,
            start,
            length,
            looked_at: none_of(length),
            count: AtomicUsize::new(0),
            windows: (limits.mapped / WINDOW).max(1),
        })
    }

    /// In small pieces: the kernel's cache has a long one as one, and maps and counts all of it at one look.
    fn write(&self, at: usize, bytes: &[u8]) -> io::Result<()> {
        let (first, rest) = bytes.split_at(bytes.len().min(WINDOW - at % WINDOW));
        self.file.write_all_at(first, at as u64)?;
        let mut at = at + first.len();
        for piece in rest.chunks(WINDOW) {
            self.file.write_all_at(piece, at as u64)?;
            at += piece.len();
        }
        Ok(())
    }

    /// Has addresses for so many bytes.
    fn reach(&mut self, length: usize) -> io::Result<()> {
        if length <= self.length {
            return Ok(());
        }
        let length = length.next_power_of_two();
        // SAFETY: the addresses are the mapping's, and the exclusive reference shows that nobody refers to them.
        let start = unsafe {
            rustix::mm::mremap(
                self.start.as_ptr(),
                self.length,
                length,
                MremapFlags::MAYMOVE,
            )
        }?;
        self.start = NonNull::new(start).ok_or(io::ErrorKind::OutOfMemory)?;
        self.length = length;
        let more = none_of(length).split_off(self.looked_at.len());
        self.looked_at.extend(more);
        Ok(())
    }

    /// These bytes of the file, which must have been written.
    #[inline]
    fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.look_at(range.start / WINDOW);
        for window in range.start / WINDOW + 1..range.end.div_ceil(WINDOW) {
            self.look_at(window);
        }
        // SAFETY: the range was written to the file, which has no name and is never cut there, and is mapped. It is written
        // again only through exclusive references to the list.
        unsafe {
            let start = self.start.cast::<u8>().add(range.start);
            std::slice::from_raw_parts(start.as_ptr(), range.len())
        }
    }

    /// Lets go of the pages that were mapped, after some. References stay good: their pages come back.
    ///
    /// What is looked at again and again, as where a search begins, counts once. Threads that look at the same time may
    /// be a window off.
    #[inline]
    fn look_at(&self, window: usize) {
        let (word, bit) = (&self.looked_at[window / 64], 1 << (window % 64));
        if word.load(Ordering::Relaxed) & bit == 0 {
            self.look_anew(word, bit);
        }
    }

    #[cold]
    fn look_anew(&self, word: &AtomicU64, bit: u64) {
        if self.count.fetch_add(1, Ordering::Relaxed) < self.windows {
            word.fetch_or(bit, Ordering::Relaxed);
            return;
        }
        for word in &self.looked_at {
            word.store(0, Ordering::Relaxed);
        }
        self.count.store(1, Ordering::Relaxed);
        word.fetch_or(bit, Ordering::Relaxed);
        // SAFETY: the addresses are the mapping's. It is of a file and shared, so nothing is lost.
        let advised =
            unsafe { rustix::mm::madvise(self.start.as_ptr(), self.length, Advice::LinuxDontNeed) };
        // A kernel that does not is as good: it takes the pages when it needs them.
        advised.ok();
    }
}

/// That no window was looked at, of so many bytes.
fn none_of(length: usize) -> Vec<AtomicU64> {
    let words = length.div_ceil(WINDOW).div_ceil(64);
    (0..words).map(|_| AtomicU64::new(0)).collect()
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the addresses are the mapping's, and nobody can refer to them any more.
        let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr(), self.length) };
        unmapped.ok();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    fn small(directory: &Path) -> Limits {
        Limits {
            in_memory: 64,
            mapped: WINDOW,
            directory: directory.to_owned(),
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(u32),
        Extend(Vec<u32>),
        Set(usize, u32),
        Truncate(usize),
        Clone,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => any::<u32>().prop_map(Step::Push),
            4 => proptest::collection::vec(any::<u32>(), 0..40).prop_map(Step::Extend),
            2 => (any::<usize>(), any::<u32>()).prop_map(|(place, value)| Step::Set(place, value)),
            1 => any::<usize>().prop_map(Step::Truncate),
            1 => Just(Step::Clone),
        ]
    }

    fn take(list: &mut SpilledVec<u32>, model: &mut Vec<u32>, step: Step) {
        match step {
            Step::Push(value) => {
                list.push(value);
                model.push(value);
            }
            Step::Extend(values) => {
                let start = list.extend_from_slice(&values);
                assert_eq!(start, model.len());
                assert_eq!(list.slice(start..start + values.len()), values);
                model.extend(values);
            }
            Step::Set(place, value) if !model.is_empty() => {
                let place = place % model.len();
                list.set(place, value / 2);
                list.update(place, |there| *there += value - value / 2);
                model[place] = value;
            }
            Step::Truncate(length) if !model.is_empty() => {
                let length = length % model.len();
                list.truncate(length);
                model.truncate(length);
            }
            Step::Clone => *list = list.clone(),
            Step::Set(..) | Step::Truncate(_) => {}
        }
    }

    #[test]
    fn what_was_added_at_once_is_so_in_a_clone() {
        let temp = tempfile::tempdir().unwrap();
        let mut list = SpilledVec::new(small(temp.path()));
        let piece = [1u8, 2, 3, 4, 5, 6, 7];
        let places: Vec<usize> = (0..100).map(|_| list.extend_from_slice(&piece)).collect();
        let mut refused = list.clone();
        refused.limits.directory = "/nonexistent".into();
        for clone in [list.clone(), refused.clone()] {
            for place in &places {
                assert_eq!(clone.slice(*place..place + piece.len()), piece);
            }
        }
    }

    fn agree(list: &SpilledVec<u32>, model: &[u32]) {
        let mut copy = Vec::new();
        for start in (0..model.len()).step_by(7) {
            list.copy(start..model.len().min(start + 7), &mut copy);
        }
        assert_eq!(copy, model);
        assert_eq!(list.len(), model.len());
        assert_eq!(list.is_empty(), model.is_empty());
        assert!(list.iter().eq(model));
    }

    proptest! {
        #[test]
        fn a_list_on_disk_is_like_one_in_memory(steps in proptest::collection::vec(step(), 0..60)) {
            let temp = tempfile::tempdir().unwrap();
            let mut list = SpilledVec::new(small(temp.path()));
            let mut model = Vec::new();
            for step in steps {
                take(&mut list, &mut model, step);
                agree(&list, &model);
            }
        }

        /// A file that cannot be written stands for a full disk.
        #[test]
        fn a_list_whose_file_cannot_be_written_goes_on_in_memory(
            before in 1..100usize,
            steps in proptest::collection::vec(step(), 0..60),
        ) {
            let temp = tempfile::tempdir().unwrap();
            let mut list = SpilledVec::new(small(temp.path()));
            let mut model = Vec::new();
            (0..before).for_each(|value| take(&mut list, &mut model, Step::Push(u32::try_from(value).unwrap())));
            if let Some(mapping) = &mut list.mapping {
                mapping.file = File::open("/dev/null").unwrap();
            }
            for step in steps.into_iter().filter(|step| !matches!(step, Step::Clone)) {
                take(&mut list, &mut model, step);
                agree(&list, &model);
            }
        }
    }

    #[test]
    fn a_list_without_a_place_for_its_file_stays_in_memory() {
        let mut list = SpilledVec::new(small(Path::new("/nonexistent")));
        (0..1000u32).for_each(|value| list.push(value));
        assert!(list.iter().copied().eq(0..1000));
        assert!(list.mapping.is_none());
    }

    #[test]
    fn a_slice_that_is_longer_than_what_memory_may_hold_is_in_one_piece() {
        let temp = tempfile::tempdir().unwrap();
        let mut list = SpilledVec::new(small(temp.path()));
        let long: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        let places: Vec<usize> = (0..3).map(|_| list.extend_from_slice(&long)).collect();
        list.push(0);
        for place in places {
            assert_eq!(list.slice(place..place + long.len()), long);
        }
        assert_eq!(list.tail.len(), 1);
    }

    fn mapped_from_files() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("RssFile:"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.unwrap().parse::<usize>().unwrap() << 10
    }

    #[test]
    fn what_was_looked_at_does_not_stay_in_memory() {
        let mut list = SpilledVec::new(Limits {
            directory: std::env::temp_dir(),
            ..Limits::default()
        });
        let count = 2usize << 20;
        (0..count as u64).for_each(|value| list.push(value));
        let before = mapped_from_files();
        // There and back again, and far apart.
        let places = (0..count).chain((0..count).rev());
        let far = (0..count).map(|place| place.wrapping_mul(0x9e37_79b9) % count);
        for place in places.chain(far) {
            assert_eq!(*list.get(place), place as u64);
        }
        // Tests beside this one may map something, too.
        let more = mapped_from_files().saturating_sub(before);
        assert!(more < 6 << 20, "{more} bytes more, of {}", count * 8);
    }
}
