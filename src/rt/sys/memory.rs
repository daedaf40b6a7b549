//! memcpy(3) and memmove(3) for short blocks, in the place of musl's.
//!
//! musl copies by `rep movs` from the first byte on, which takes the processor longer to begin than
//! a short block takes to copy. A command copies some thousand blocks, nearly all shorter than a cache
//! line: here these are a few loads and stores that overlap (integration/bench/NOTES.md).

use std::arch::asm;
use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_storeu_si128};

/// Up to here a block is copied by loads and stores, above it by `rep movs`.
const SHORT: usize = 128;

/// Copies a block of up to [`SHORT`] bytes. All is read before anything is written, so that the two may
/// overlap.
#[inline(always)]
unsafe fn copy_short(to: *mut u8, from: *const u8, length: usize) {
    // Two values, the first and the last of the block, which overlap where it is shorter than both.
    macro_rules! ends {
        ($kind:ty) => {{
            let back = length - size_of::<$kind>();
            let first = from.cast::<$kind>().read_unaligned();
            let last = from.add(back).cast::<$kind>().read_unaligned();
            to.cast::<$kind>().write_unaligned(first);
            to.add(back).cast::<$kind>().write_unaligned(last);
        }};
    }
    let load = |at: usize| -> __m128i {
        // SAFETY: the caller's block is at least 16 bytes longer than `at`.
        unsafe { _mm_loadu_si128(from.add(at).cast()) }
    };
    let store = |at: usize, value: __m128i| {
        // SAFETY: as for the load.
        unsafe { _mm_storeu_si128(to.add(at).cast(), value) }
    };
    // SAFETY: no value lies outside of a block of its arm's length.
    unsafe {
        match length {
            0 => {}
            1 => to.write(from.read()),
            2..4 => ends!(u16),
            4..8 => ends!(u32),
            8..16 => ends!(u64),
            16..=32 => {
                let (first, last) = (load(0), load(length - 16));
                store(0, first);
                store(length - 16, last);
            }
            33..=64 => {
                let first = (load(0), load(16));
                let last = (load(length - 32), load(length - 16));
                store(0, first.0);
                store(16, first.1);
                store(length - 32, last.0);
                store(length - 16, last.1);
            }
            _ => {
                let first = (load(0), load(16), load(32), load(48));
                let last = (load(length - 64), load(length - 48), load(length - 32), load(length - 16));
                store(0, first.0);
                store(16, first.1);
                store(32, first.2);
                store(48, first.3);
                store(length - 64, last.0);
                store(length - 48, last.1);
                store(length - 32, last.2);
                store(length - 16, last.3);
            }
        }
    }
}

/// # Safety
/// As the C library's.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    // SAFETY: the caller's.
    unsafe {
        if length <= SHORT {
            copy_short(to, from, length);
        } else {
            asm!("rep movsb", inout("rdi") to => _, inout("rsi") from => _, inout("rcx") length => _,
                options(nostack, preserves_flags));
        }
    }
    to
}

/// # Safety
/// As the C library's.
#[cfg_attr(not(test), unsafe(no_mangle))]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    // SAFETY: the caller's. What lies behind the source is overwritten after it is read if the copy
    // goes backwards.
    unsafe {
        if length <= SHORT {
            copy_short(to, from, length);
        } else if (to as usize).wrapping_sub(from as usize) >= length {
            memcpy(to, from, length);
        } else {
            asm!("std", "rep movsb", "cld", inout("rdi") to.add(length - 1) => _,
                inout("rsi") from.add(length - 1) => _, inout("rcx") length => _, options(nostack));
        }
    }
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every length around the limits, every distance of source and target, against the slow way.
    #[test]
    fn blocks_are_copied_as_one_byte_after_the_other() {
        let random: Vec<u8> = (0..1000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for length in (0..300).chain([511, 512, 600]) {
            for (from, to) in
                [(0, 350), (350, 0), (100, 101), (101, 100), (100, 116), (116, 100), (7, 7), (3, 240), (240, 3)]
            {
                let mut ours = random.clone();
                let expected: Vec<u8> = {
                    let mut it = random.clone();
                    let block = random[from..from + length].to_vec();
                    it.splice(to..to + length, block);
                    it
                };
                let start = ours.as_mut_ptr();
                // SAFETY: both blocks lie within the vector.
                unsafe { assert_eq!(memmove(start.add(to), start.add(from), length), start.add(to)) };
                assert_eq!(ours, expected, "memmove of {length} from {from} to {to}");
                if from.abs_diff(to) >= length {
                    let mut ours = random.clone();
                    let start = ours.as_mut_ptr();
                    // SAFETY: as before, and the blocks do not overlap.
                    unsafe { memcpy(start.add(to), start.add(from), length) };
                    assert_eq!(ours, expected, "memcpy of {length} from {from} to {to}");
                }
            }
        }
    }
}
