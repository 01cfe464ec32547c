//! The memory that uncompressed layers pass through: bounded, and used again.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use hull_sys::direct::AlignedBuffer;

/// The length of a buffer in bytes.
pub(crate) const BUFFER: usize = 256 << 10;

/// Buffers for the layers of one pull.
#[derive(Debug)]
pub(crate) struct Memory {
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Debug)]
struct State {
    /// Buffers that may still be made.
    unmade: usize,
    free: Vec<AlignedBuffer>,
}

impl Memory {
    /// At most `bytes` of them at a time.
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                unmade: bytes.div_ceil(BUFFER),
                free: Vec::new(),
            }),
            returned: Condvar::new(),
        })
    }

    /// Reads the next buffer full, fewer bytes only at the end; none there. Waits while
    /// all buffers are in use.
    pub(crate) fn read(self: &Arc<Self>, reader: &mut dyn Read) -> io::Result<Option<Piece>> {
        let mut buffer = self.take();
        let mut length = 0;
        while length < BUFFER {
            match reader.read(&mut buffer.bytes[length..]) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok((length > 0).then(|| Piece {
            buffer: Arc::new(buffer),
            range: 0..length,
        }))
    }

    fn take(self: &Arc<Self>) -> Buffer {
        let mut state = self.lock();
        let bytes = loop {
            if let Some(bytes) = state.free.pop() {
                break bytes;
            }
            if state.unmade > 0 {
                state.unmade -= 1;
                break AlignedBuffer::zeroed(BUFFER);
            }
            state = self
                .returned
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        };
        Buffer {
            bytes,
            home: Some(Arc::clone(self)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Buffer {
    bytes: AlignedBuffer,
    home: Option<Arc<Memory>>,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            home.lock().free.push(std::mem::take(&mut self.bytes));
            home.returned.notify_one();
        }
    }
}

/// Some bytes of a layer; the buffer that they are in is free again when the last of
/// its pieces is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    buffer: Arc<Buffer>,
    range: Range<usize>,
}

impl Piece {
    /// Bytes in memory of their own.
    pub(super) fn own(bytes: &[u8]) -> Self {
        Self {
            range: 0..bytes.len(),
            buffer: Arc::new(Buffer {
                bytes: AlignedBuffer::copied(bytes),
                home: None,
            }),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.range.len()
    }

    /// Takes up to `length` bytes from the front.
    pub(super) fn split_to(&mut self, length: usize) -> Self {
        let middle = self.range.start + length.min(self.len());
        let front = Self {
            buffer: Arc::clone(&self.buffer),
            range: self.range.start..middle,
        };
        self.range.start = middle;
        front
    }

    /// Drops up to `length` bytes from the front.
    pub(super) fn advance(&mut self, length: usize) {
        self.range.start += length.min(self.len());
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.buffer.bytes[self.range.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_with_its_last_piece() {
        let memory = Memory::new(2 * BUFFER);
        let content: Vec<u8> = (0..=255).cycle().take(2 * BUFFER + 10).collect();
        let mut reader = &content[..];
        let mut first = memory.read(&mut reader).unwrap().unwrap();
        let second = memory.read(&mut reader).unwrap().unwrap();
        assert!([first.as_ref(), second.as_ref()].concat() == content[..2 * BUFFER]);
        let front = first.split_to(100);
        assert_eq!((front.len(), first.len()), (100, BUFFER - 100));
        assert_eq!(first.as_ref()[..5], content[100..105]);
        std::thread::scope(|scope| {
            // Waits until both pieces are gone.
            let third = scope.spawn(|| memory.read(&mut reader).unwrap().unwrap());
            drop(first);
            drop(front);
            assert_eq!(third.join().unwrap().as_ref(), &content[2 * BUFFER..]);
        });
        assert!(memory.read(&mut &b""[..]).unwrap().is_none());
        drop(second);
        assert_eq!(memory.lock().free.len(), 2);
    }
}
