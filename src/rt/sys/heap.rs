//! The heap: made for a process that lives for some milliseconds and allocates some thousand small
//! things.
//!
//! Blocks are cut from one piece after the other, so that what belongs together lies together and few
//! pages are touched: the price of a short process's memory is the page fault, not the search. What is
//! freed is taken again by later blocks of its size; nothing goes back to the kernel but large blocks,
//! which have a mapping each.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};

/// The first piece is part of the program's own zeroed memory: most commands need no other.
const FIRST: usize = 256 << 10;
/// Bytes of a further piece.
const PIECE: usize = 256 << 10;
/// From here on a block has its own mapping.
const LARGE: usize = 128 << 10;
/// The smallest distance of two blocks: room for the list of free ones.
const GRAIN: usize = 16;
/// Up to this many bytes a block has the next multiple of [`GRAIN`], above it the next power of two: so
/// that what one of a size has left fits the next one of that size.
const FINE: usize = 1024;
/// The sizes that there are: 16, 32, … 1024, and 2048, 4096, … [`LARGE`].
const CLASSES: usize = FINE / GRAIN + (LARGE / FINE).ilog2() as usize;

#[cfg_attr(not(test), global_allocator)]
#[cfg_attr(test, allow(dead_code))]
static HEAP: Heap = Heap {
    busy: AtomicBool::new(false),
    state: UnsafeCell::new(State { next: 0, end: 0, free: [null_mut(); CLASSES] }),
};

#[repr(align(4096))]
struct First(UnsafeCell<[u8; FIRST]>);

// SAFETY: handed out by the heap alone, behind its lock.
unsafe impl Sync for First {}

static PIECE_ONE: First = First(UnsafeCell::new([0; FIRST]));

struct Heap {
    /// There is a second thread for the moment in which a filter that notifies is loaded.
    busy: AtomicBool,
    state: UnsafeCell<State>,
}

// SAFETY: the state is touched with the lock held.
unsafe impl Sync for Heap {}

struct State {
    /// Free bytes of the current piece.
    next: usize,
    end: usize,
    /// By class, each block holding the address of the next one.
    free: [*mut usize; CLASSES],
}

impl Heap {
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        while self.busy.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            std::hint::spin_loop();
        }
        // SAFETY: the lock is held.
        let done = work(unsafe { &mut *self.state.get() });
        self.busy.store(false, Ordering::Release);
        done
    }
}

/// The bytes that a block takes.
fn room(layout: &Layout) -> usize {
    let size = layout.size().max(1);
    if size <= FINE { size.next_multiple_of(GRAIN) } else { size.next_power_of_two() }
}

/// The list that blocks of this many bytes are in.
fn class(room: usize) -> usize {
    if room <= FINE { room / GRAIN - 1 } else { FINE / GRAIN - 1 + (room / FINE).ilog2() as usize }
}

/// Whether a block has its own mapping.
fn is_large(layout: &Layout) -> bool {
    layout.size() >= LARGE || layout.align() > 4096
}

impl State {
    #[inline(never)]
    fn take(&mut self, room: usize, align: usize) -> *mut u8 {
        let first = &mut self.free[class(room)];
        if !first.is_null() && *first as usize & (align - 1) == 0 {
            let block = *first;
            // SAFETY: a free block holds the address of the next one.
            *first = unsafe { *block } as *mut usize;
            return block.cast();
        }
        // An alignment is a power of two (`Layout`): a mask does what a division would.
        let align = align.max(GRAIN);
        let start = (self.next + align - 1) & !(align - 1);
        if start + room > self.end {
            return self.more(room, align);
        }
        self.next = start + room;
        start as *mut u8
    }

    /// The rest of the current piece is given up: it is less than a block.
    fn more(&mut self, room: usize, align: usize) -> *mut u8 {
        let (piece, size) =
            if self.end == 0 { (PIECE_ONE.0.get() as usize, FIRST) } else { (map(PIECE) as usize, PIECE) };
        if piece == 0 {
            return null_mut();
        }
        (self.next, self.end) = (piece, piece + size);
        self.take(room, align)
    }

    #[inline(never)]
    fn give(&mut self, block: *mut u8, room: usize) {
        if block as usize + room == self.next {
            self.next = block as usize;
            return;
        }
        let first = &mut self.free[class(room)];
        // Every block is aligned for one.
        #[allow(clippy::cast_ptr_alignment)]
        let block = block.cast::<usize>();
        // SAFETY: the block is the heap's again, and large enough for an address.
        unsafe { *block = *first as usize };
        *first = block;
    }
}

/// A new mapping, null without memory.
fn map(size: usize) -> *mut u8 {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping of nobody else's.
    let address = unsafe { libc::mmap(null_mut(), size, protection, flags, -1, 0) };
    if address == libc::MAP_FAILED { null_mut() } else { address.cast() }
}

// SAFETY: blocks are aligned, as large as asked for, and given to one owner at a time.
unsafe impl GlobalAlloc for Heap {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_large(&layout) {
            // Nobody here aligns to more than a page.
            return if layout.align() > 4096 { null_mut() } else { map(layout.size()) };
        }
        self.with(|state| state.take(room(&layout), layout.align()))
    }

    #[inline(never)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if is_large(&layout) {
            // SAFETY: it is a mapping of its own, of that size.
            unsafe { libc::munmap(block.cast(), layout.size()) };
            return;
        }
        self.with(|state| state.give(block, room(&layout)));
    }

    #[inline(never)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller says.
        let block = unsafe { self.alloc(layout) };
        // A mapping of its own is zero already.
        if !block.is_null() && !is_large(&layout) {
            // SAFETY: it is as large as that.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    #[inline(never)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's size with the block's alignment is a valid layout.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        if !is_large(&layout) && !is_large(&wanted) {
            let (has, needs) = (room(&layout), room(&wanted));
            // The last block of the piece grows and shrinks where it is. Any other one that shrank there
            // would be free in another list than it is needed from again.
            let fits = || {
                self.with(|state| {
                    let end = block as usize + needs;
                    let fits = block as usize + has == state.next && end <= state.end;
                    state.next = if fits { end } else { state.next };
                    fits
                })
            };
            if needs == has || fits() {
                return block;
            }
        }
        // SAFETY: both blocks are as large as what is copied, and they are two.
        unsafe {
            let moved = self.alloc(wanted);
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(block, layout.size().min(size));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of a test's own: its pieces are all mapped.
    fn heap() -> Heap {
        Heap {
            busy: AtomicBool::new(false),
            state: UnsafeCell::new(State { next: 1, end: 1, free: [null_mut(); CLASSES] }),
        }
    }

    /// A block, and the byte that it is full of.
    struct Block(*mut u8, Layout, u8);

    impl Block {
        fn new(heap: &Heap, random: u64) -> Block {
            // Mostly small ones, and now and then one that gets its own mapping.
            let size = match random % 100 {
                0 => LARGE + (random >> 8) as usize % LARGE,
                1..10 => (random >> 8) as usize % LARGE,
                _ => (random >> 8) as usize % 600,
            };
            let layout = Layout::from_size_align(size.max(1), 1 << ((random >> 40) % 8)).unwrap();
            // SAFETY: its size is not zero.
            let address = unsafe { heap.alloc_zeroed(layout) };
            let block = Block(address, layout, (random >> 48) as u8);
            block.check(0, layout.size());
            block.fill();
            block
        }

        fn fill(&self) {
            // SAFETY: it is ours.
            unsafe { self.0.write_bytes(self.2, self.1.size()) };
        }

        fn check(&self, byte: u8, length: usize) {
            assert_eq!(self.0 as usize % self.1.align(), 0);
            // SAFETY: it is ours, and has been written.
            let bytes = unsafe { std::slice::from_raw_parts(self.0, length) };
            assert!(bytes.iter().all(|known| *known == byte), "a block was written by another");
        }

        fn resize(&mut self, heap: &Heap, random: u64) {
            let size = (random >> 8) as usize % (2 * self.1.size()) + 1;
            // SAFETY: it came from there with this layout.
            self.0 = unsafe { heap.realloc(self.0, self.1, size) };
            let kept = self.1.size().min(size);
            self.1 = Layout::from_size_align(size, self.1.align()).unwrap();
            self.check(self.2, kept);
            self.fill();
        }
    }

    #[test]
    fn blocks_are_aligned_and_apart() {
        let heap = heap();
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut blocks: Vec<Block> = Vec::new();
        for _ in 0..100_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mixed = random ^ (random >> 29);
            let chosen = mixed as usize % blocks.len().max(1);
            match mixed % 5 {
                0 | 1 if blocks.len() < 300 => blocks.push(Block::new(&heap, mixed)),
                2 if !blocks.is_empty() => blocks[chosen].resize(&heap, mixed),
                _ if !blocks.is_empty() => {
                    let block = blocks.swap_remove(chosen);
                    block.check(block.2, block.1.size());
                    // SAFETY: it came from there with this layout.
                    unsafe { heap.dealloc(block.0, block.1) };
                }
                _ => {}
            }
        }
        for block in blocks {
            block.check(block.2, block.1.size());
        }
    }

    #[test]
    fn what_is_freed_is_taken_again() {
        let heap = heap();
        let layout = Layout::from_size_align(100, 8).unwrap();
        let turn = || {
            // SAFETY: its size is not zero, and it is given back as it came.
            unsafe {
                let blocks: Vec<*mut u8> = (0..50).map(|_| heap.alloc(layout)).collect();
                let highest = blocks.iter().copied().max();
                for block in blocks {
                    // As a vector does that grows and is then made a slice.
                    let large = heap.realloc(block, layout, 3000);
                    let small = heap.realloc(large, Layout::from_size_align_unchecked(3000, 8), 40);
                    heap.dealloc(small, Layout::from_size_align_unchecked(40, 8));
                }
                highest
            }
        };
        let highest = turn();
        assert!((0..10_000).all(|_| turn() <= highest), "a command that goes on for days would grow");
    }
}
