//! The memory of the process.

#![allow(unsafe_code, reason = "the C library's allocator is told what to do")]

/// What goes back to the kernel when it is freed, in bytes.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 128 * 1024;

/// Has allocations of 128 KiB and more go back to the kernel as soon as they are freed.
///
/// glibc's allocator begins so, but learns from what is freed to keep up to 32 MiB of it for each thread.
/// Large buffers that should not go back are for the program to keep. Other allocators stay as they are.
pub fn return_large() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes two numbers by value and holds the allocator's lock while it changes its own; it may be
    // called at any time, and one that it does not know it leaves.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}

#[cfg(test)]
#[cfg(target_env = "gnu")]
mod tests {
    use super::*;

    /// The process's memory in use, in bytes.
    fn resident() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
        number.unwrap().parse::<usize>().unwrap() * 1024
    }

    #[test]
    fn a_large_buffer_goes_back_also_after_one_of_its_size_was_freed() {
        const BUFFER: usize = 24 << 20;
        return_large();
        drop(std::hint::black_box(vec![1_u8; BUFFER]));
        let small = std::hint::black_box(vec![1_u8; BUFFER]);
        let last = std::hint::black_box(vec![1_u8; 100_000]);
        let before = resident();
        drop(small);
        assert!(resident() + BUFFER / 2 < before);
        assert_eq!(last.len(), 100_000);
    }
}
