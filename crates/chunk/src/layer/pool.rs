//! What threads use again from one piece of a layer to the next.
//!
//! Memory that is freed and asked for again costs the kernel's time for its zeros, and of what is freed
//! an allocator keeps much. No more is kept than was in use at once.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use zstd::bulk::Compressor;

use super::frames::APART_MAX;

/// Buffers and compressors that nobody uses at the moment.
#[derive(Default)]
pub(super) struct Pool {
    buffers: Mutex<Vec<Vec<u8>>>,
    /// All of the one level that the image has.
    compressors: Mutex<Vec<Compressor<'static>>>,
}

impl Pool {
    /// An empty buffer.
    pub(super) fn buffer(&self) -> Vec<u8> {
        lock(&self.buffers).pop().unwrap_or_default()
    }

    /// Takes back a buffer.
    pub(super) fn keep_buffer(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        if buffer.capacity() > 0 {
            lock(&self.buffers).push(buffer);
        }
    }

    /// A compressor, whose frames are those of a new one.
    pub(super) fn compressor(&self, level: i32) -> io::Result<Compressor<'static>> {
        let kept = lock(&self.compressors).pop();
        kept.map_or_else(|| Compressor::new(level), Ok)
    }

    /// Takes back a compressor of this level, unless what it made would show in what it makes.
    pub(super) fn keep_compressor(&self, compressor: Compressor<'static>, level: i32) {
        if level <= APART_MAX {
            lock(&self.compressors).push(compressor);
        }
    }
}

/// A list is whole at any time, also after a panic elsewhere.
fn lock<T>(list: &Mutex<Vec<T>>) -> MutexGuard<'_, Vec<T>> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_with_its_memory() {
        let pool = Pool::default();
        pool.keep_buffer(vec![1; 1000]);
        pool.keep_buffer(Vec::new());
        let buffer = pool.buffer();
        assert!(buffer.is_empty() && buffer.capacity() >= 1000);
        assert_eq!(pool.buffer().capacity(), 0);
    }

    #[test]
    fn a_compressor_is_used_again_only_where_its_frames_are_those_of_a_new_one() {
        let mut state = 7_u32;
        let mut text = |length: usize| -> Vec<u8> {
            let next = |_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                b"aabcdefg-hij    "[(state >> 28) as usize]
            };
            (0..length).map(next).collect()
        };
        let texts: Vec<_> = [3000, 200_000, 70_000, 9000, 500_000].map(&mut text).into();
        for level in 1..=APART_MAX + 1 {
            let pool = Pool::default();
            for text in texts.iter().chain(&texts) {
                let mut compressor = pool.compressor(level).unwrap();
                let frame = compressor.compress(text).unwrap();
                pool.keep_compressor(compressor, level);
                let fresh = Compressor::new(level).unwrap().compress(text).unwrap();
                assert!(frame == fresh, "level {level}, {} bytes", text.len());
            }
            let kept = lock(&pool.compressors).len();
            assert_eq!(kept, usize::from(level <= APART_MAX));
        }
    }
}
