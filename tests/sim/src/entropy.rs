//! The operating system's randomness, replaced: hash tables, ids and the runtime draw what the seed gives.
//!
//! The program's own code draws from the seed. But order also comes from where nobody thinks of chance: `HashMap` hashes
//! with random keys, the runtime picks among the ready branches of a `select!`, ids are random numbers. All of them ask
//! `getrandom`, which the linker finds here first. Before [`begin`] it is the system's.

use std::ffi::{c_uint, c_void};
use std::sync::atomic::{AtomicU64, Ordering};

/// The generator's state; zero: the system answers.
static STATE: AtomicU64 = AtomicU64::new(0);

/// From now on all randomness of this process comes from `seed`. Hash tables of threads that exist already keep what
/// they have drawn: call it first, and run on a new thread.
pub fn begin(seed: u64) {
    STATE.store(seed | 1 << 63, Ordering::SeqCst);
}

/// Splitmix64.
fn next(state: u64) -> (u64, u64) {
    let state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (state ^ state >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    (state.max(1), mixed ^ mixed >> 31)
}

/// What the C library calls by this name.
///
/// # Safety
/// `buffer` points to `length` bytes that may be written.
// SAFETY: the name is the C library's, and so are the signature and what it promises.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, flags: c_uint) -> isize {
    let mut state = STATE.load(Ordering::SeqCst);
    if state == 0 {
        // SAFETY: the caller's promise is handed on to the system.
        let got = unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) };
        return isize::try_from(got).unwrap_or(-1);
    }
    if length == 0 {
        return 0;
    }
    // SAFETY: the caller promises so many bytes.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    for chunk in bytes.chunks_mut(8) {
        let number;
        (state, number) = next(state);
        chunk.copy_from_slice(&number.to_le_bytes()[..chunk.len()]);
    }
    STATE.store(state, Ordering::SeqCst);
    isize::try_from(length).unwrap_or(isize::MAX)
}
