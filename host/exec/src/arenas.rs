//! How the process gets its memory. glibc gives each thread a heap of its own, up to eight for each processor, and what a thread frees stays with its heap. A
//! build's threads wait for the disk most of the time and hand each other what they allocate: with two heaps it takes as long, and a fifth less memory.
//! And glibc takes larger and larger pieces from heaps, after the first that was freed; between what stays there they leave holes that a build does not fill
//! again: another fifth. What is large and wanted often is used again by who wants it (`rhost_export`'s blocks).
//!
//! In this room because setting it is a call to C.

/// Lets the threads that are started from here on share two heaps, and keeps large pieces out of these. Does nothing where the C library is not glibc.
pub fn share_arenas() {
    #[cfg(target_env = "gnu")]
    {
        /// Bytes from which on an allocation is the kernel's, and goes back to it when it is freed.
        const LARGE: libc::c_int = 256 << 10;
        /// Free bytes at the end of a heap from which on they go back.
        const FREE: libc::c_int = 1 << 20;
        // SAFETY: mallopt(3) takes two numbers and touches nothing of ours. One that glibc does not take leaves things as they are.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, 2);
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
            libc::mallopt(libc::M_TRIM_THRESHOLD, FREE);
        }
    }
}
