//! The handle table. A handle that C holds is an id, never an address: it is looked up here and never dereferenced, so that
//! NULL, freed, foreign and wrong-type handles are told apart without touching memory that may be gone.
//!
//! ```text
//! 64-bit id:  1 | generation, 31 bits | slot, 32 bits
//! ```
//!
//! The top bit is set, which no user-space address has. A slot's generation grows at every free, so an old id never names a
//! new object; a slot whose generations are used up is retired.
//!
//! Objects are reference-counted: a call that is running keeps what it borrowed alive, whatever is freed meanwhile.

use super::arguments::check_pointer;
use crate::tensor::error::{ensure, error};
use crate::tensor::{Result, reserve};
use once_cell::sync::OnceCell;
use parking_lot::{ArcRwLockReadGuard, ArcRwLockWriteGuard, Mutex, RawRwLock, RwLock};
use std::any::Any;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A C handle type and the Rust object that its handles name.
pub trait Handle: 'static {
    type Object: Send + Sync + 'static;
    const NAME: &'static str;
}

const SLOT_BITS: u32 = usize::BITS / 2;
const SLOT_MASK: usize = (1 << SLOT_BITS) - 1;
const MARK: usize = 1 << (usize::BITS - 1);
const LAST_GENERATION: usize = (MARK >> SLOT_BITS) - 1;

/// One cache line, so that lookups of different handles do not wait for each other.
#[repr(align(64))]
struct Slot(RwLock<Entry>);

struct Entry {
    generation: usize,
    /// Of the C type; "" until the slot is first used.
    name: &'static str,
    /// An `Arc<RwLock<Guarded<T>>>` of the T that `name` stands for.
    object: Option<Box<dyn Any + Send + Sync>>,
}

/// The slots, in pieces of 64, 128, 256 ...: a piece is made when it is needed and never moves, so that a lookup locks nothing
/// but its slot.
static PIECES: [OnceCell<Box<[Slot]>>; 26] = [const { OnceCell::new() }; 26];
const FIRST_PIECE: usize = 64;

struct Growth {
    /// Slots that were ever used.
    count: usize,
    vacant: Vec<usize>,
}

/// Locked before a slot is, where both are.
static GROWTH: Mutex<Growth> = Mutex::new(Growth { count: 0, vacant: Vec::new() });

/// Piece and place of slot `index`: piece p holds the slots from 64 * (2^p - 1) on.
fn place(index: usize) -> (usize, usize) {
    let at = index + FIRST_PIECE;
    let piece = (at / FIRST_PIECE).ilog2();
    (piece as usize, at - (FIRST_PIECE << piece))
}

fn slot(index: usize) -> Option<&'static Slot> {
    let (piece, at) = place(index);
    PIECES.get(piece)?.get()?.get(at)
}

/// Takes a lock of the table. They are held for some nanoseconds, or for the length of a fork, so a thread that has to wait
/// stays awake: one that sleeps would stand in the queue that parking_lot keeps, which the fork copies as it is at that moment,
/// locked or with threads that the child does not have.
fn patiently<T>(mut take: impl FnMut() -> Option<T>) -> T {
    let mut attempts = 0u32;
    loop {
        if let Some(taken) = take() {
            return taken;
        }
        attempts = attempts.wrapping_add(1);
        if attempts.is_multiple_of(64) { std::thread::yield_now() } else { std::hint::spin_loop() }
    }
}

/// A fork copies the table as it is at that moment, and only the thread that forks. Were another thread inside of the table
/// then, the child would wait for it forever: so the forking thread waits for the table, and both processes let go of it.
fn hold_table_in_forks() {
    #[cfg(unix)]
    {
        use parking_lot::lock_api::{RawMutex as _, RawRwLock as _};
        use std::sync::Once;

        unsafe extern "C" {
            fn pthread_atfork(
                prepare: unsafe extern "C" fn(),
                parent: unsafe extern "C" fn(),
                child: unsafe extern "C" fn(),
            ) -> i32;
        }
        /// The slots in use; the caller holds GROWTH.
        unsafe fn slots() -> impl Iterator<Item = &'static Slot> {
            // SAFETY: passed on to the caller.
            let count = unsafe { (*GROWTH.data_ptr()).count };
            (0..count).filter_map(slot)
        }
        unsafe extern "C" fn lock() {
            // SAFETY: the raw locks are only locked, GROWTH first, and `unlock` follows in both processes.
            unsafe {
                patiently(|| GROWTH.raw().try_lock().then_some(()));
                slots().for_each(|slot| patiently(|| slot.0.raw().try_lock_exclusive().then_some(())));
            }
        }
        unsafe extern "C" fn unlock() {
            // SAFETY: `lock` ran on this thread, before the fork.
            unsafe {
                slots().for_each(|slot| slot.0.raw().unlock_exclusive());
                GROWTH.raw().unlock();
            }
        }
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            // SAFETY: three functions without arguments, which stay: the library is never unloaded (build.rs, -z nodelete).
            // Without memory for the registration, forks are as safe as those of other libraries.
            let _ = unsafe { pthread_atfork(lock, unlock, unlock) };
        });
    }
}

/// What a slot holds: the object behind the lock that makes `const` handles shared and others exclusive.
struct Guarded<T> {
    /// Set when a panic passed through a call that had borrowed the object: its state can no longer be trusted.
    poisoned: AtomicBool,
    object: T,
}

/// A new handle for `object`.
pub fn insert<H: Handle>(object: H::Object) -> Result<*mut H> {
    let object: Box<dyn Any + Send + Sync> =
        Box::new(Arc::new(RwLock::new(Guarded { poisoned: AtomicBool::new(false), object })));
    hold_table_in_forks();
    let mut growth = patiently(|| GROWTH.try_lock());
    let index = match growth.vacant.pop() {
        Some(index) => index,
        None => growth.grow()?,
    };
    let slot = slot(index).ok_or_else(|| error!(Internal, "the handle table has no slot {index}"))?;
    let mut entry = patiently(|| slot.0.try_write());
    entry.name = H::NAME;
    entry.object = Some(object);
    Ok((MARK | entry.generation << SLOT_BITS | index) as *mut H)
}

impl Growth {
    /// The index of a slot that was never used.
    fn grow(&mut self) -> Result<usize> {
        let index = self.count;
        ensure!(index < SLOT_MASK, Memory, "there are {index} handles already");
        // Room to return every slot to `vacant`, so that a free never allocates.
        let vacant = self.vacant.len();
        reserve(&mut self.vacant, index + 1 - vacant)?;
        let (piece, _) = place(index);
        PIECES[piece].get_or_try_init(|| {
            let mut slots = Vec::new();
            reserve(&mut slots, FIRST_PIECE << piece)?;
            slots.resize_with(FIRST_PIECE << piece, || {
                Slot(RwLock::new(Entry { generation: 0, name: "", object: None }))
            });
            Ok(slots.into_boxed_slice())
        })?;
        self.count += 1;
        Ok(index)
    }
}

/// A new handle for `object`, written to `out`.
///
/// # Safety
/// `out` is NULL or holds one writable pointer.
pub unsafe fn give<H: Handle>(out: *mut *mut H, object: H::Object) -> Result<()> {
    check_pointer(out, "out")?;
    let handle = insert(object)?;
    // SAFETY: not NULL and aligned; the rest is the caller's contract.
    unsafe { out.write(handle) };
    Ok(())
}

/// Borrows the object of a `const` handle: any number of threads may do so at once.
pub fn shared<H: Handle>(handle: *const H, argument: &str) -> Result<Shared<H::Object>> {
    let guard = lookup::<H, _>(handle, argument, RwLock::try_read_arc)?.ok_or_else(|| busy::<H>(argument))?;
    check_poison::<H>(&guard, argument)?;
    Ok(Shared { guard })
}

/// Borrows the object of a non-`const` handle: one caller at a time.
pub fn exclusive<H: Handle>(handle: *mut H, argument: &str) -> Result<Exclusive<H::Object>> {
    let guard = lookup::<H, _>(handle, argument, RwLock::try_write_arc)?.ok_or_else(|| busy::<H>(argument))?;
    check_poison::<H>(&guard, argument)?;
    Ok(Exclusive { guard })
}

/// Ends a handle; NULL is fine. The object lives on until the last call that uses it returns.
pub fn free<H: Handle>(handle: *mut H) -> Result<()> {
    if handle.is_null() {
        return Ok(());
    }
    let (index, slot) = named(handle.addr(), "the handle")?;
    let (object, used_up) = {
        let mut entry = patiently(|| slot.0.try_write());
        entry.check::<H>(handle.addr(), "the handle")?;
        let used_up = entry.generation == LAST_GENERATION;
        entry.generation += usize::from(!used_up);
        (entry.object.take(), used_up)
    };
    if !used_up {
        patiently(|| GROWTH.try_lock()).vacant.push(index);
    }
    drop(object); // after the table is unlocked: dropping a large object takes time
    Ok(())
}

/// Finds the object of a handle and hands it to `borrow`, which keeps what it needs: the slot is locked no longer than that.
fn lookup<H: Handle, R>(
    handle: *const H,
    argument: &str,
    borrow: impl FnOnce(&Arc<RwLock<Guarded<H::Object>>>) -> R,
) -> Result<R> {
    let (_, slot) = named(handle.addr(), argument)?;
    let entry = patiently(|| slot.0.try_read());
    entry.check::<H>(handle.addr(), argument)?;
    let object = entry.object.as_ref();
    object
        .and_then(|object| object.downcast_ref())
        .map(borrow)
        .ok_or_else(|| error!(Internal, "{argument}: the handle table holds another type than {}", H::NAME))
}

/// The slot that an id names.
fn named(id: usize, argument: &str) -> Result<(usize, &'static Slot)> {
    ensure!(id != 0, Argument, "{argument} is NULL");
    let index = id & SLOT_MASK;
    let slot = slot(index).filter(|_| id & MARK != 0);
    slot.map(|slot| (index, slot)).ok_or_else(|| foreign(id, argument))
}

fn foreign(id: usize, argument: &str) -> crate::tensor::Error {
    error!(Argument, "{argument} is not a handle of this library: {id:#x}")
}

impl Entry {
    /// That the id, which names this slot, is alive and of the expected type.
    fn check<H: Handle>(&self, id: usize, argument: &str) -> Result<()> {
        let generation = (id & !MARK) >> SLOT_BITS;
        if self.name.is_empty() || generation > self.generation {
            return Err(foreign(id, argument));
        }
        ensure!(
            generation == self.generation && self.object.is_some(),
            Argument,
            "{argument} was freed already: {id:#x}"
        );
        ensure!(self.name == H::NAME, Argument, "{argument} is a {}, expected a {}", self.name, H::NAME);
        Ok(())
    }
}

fn busy<H: Handle>(argument: &str) -> crate::tensor::Error {
    error!(State, "{argument}: the {} is in use by another call", H::NAME)
}

fn check_poison<H: Handle>(guarded: &Guarded<H::Object>, argument: &str) -> Result<()> {
    ensure!(
        !guarded.poisoned.load(Ordering::Acquire),
        State,
        "{argument}: an internal error interrupted an earlier call on this {}; free it",
        H::NAME
    );
    Ok(())
}

/// The object of a `const` handle, borrowed.
pub struct Shared<T> {
    guard: ArcRwLockReadGuard<RawRwLock, Guarded<T>>,
}

/// The object of a non-`const` handle, borrowed by this caller alone.
pub struct Exclusive<T> {
    guard: ArcRwLockWriteGuard<RawRwLock, Guarded<T>>,
}

impl<T> Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.guard.object
    }
}

impl<T> Deref for Exclusive<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.guard.object
    }
}

impl<T> DerefMut for Exclusive<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard.object
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        poison_in_panic(&self.guard);
    }
}

impl<T> Drop for Exclusive<T> {
    fn drop(&mut self) {
        poison_in_panic(&self.guard);
    }
}

fn poison_in_panic<T>(guarded: &Guarded<T>) {
    if std::thread::panicking() {
        guarded.poisoned.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffi::guard::guard;
    use crate::tensor::ErrorKind;

    struct Number;
    impl Handle for Number {
        type Object = u64;
        const NAME: &'static str = "setun_number";
    }
    struct Word;
    impl Handle for Word {
        type Object = String;
        const NAME: &'static str = "setun_word";
    }

    fn kind_and_text<T>(result: Result<T>) -> (ErrorKind, String) {
        result.map(|_| ()).map_err(|e| (e.kind, e.message)).expect_err("the handle is bad")
    }

    #[test]
    fn bad_handles_are_named_errors() {
        let number = insert::<Number>(7).unwrap();
        assert_eq!(*shared(number, "n").unwrap(), 7);
        let elsewhere = Box::new(5u64);
        let cases = [
            (std::ptr::null(), "n is NULL"),
            ((&raw const *elsewhere).cast::<Number>(), "n is not a handle of this library"),
            ((number.addr() + SLOT_MASK / 2) as *const Number, "n is not a handle of this library"),
        ];
        for (handle, expected) in cases {
            let (kind, text) = kind_and_text(shared(handle, "n"));
            assert_eq!(kind, ErrorKind::Argument);
            assert!(text.starts_with(expected), "{text}");
        }
        let (_, text) = kind_and_text(shared(number.cast::<Word>(), "word"));
        assert_eq!(text, "word is a setun_number, expected a setun_word");
        free(number).unwrap();
        let (_, text) = kind_and_text(shared(number, "n"));
        assert!(text.starts_with("n was freed already"), "{text}");
        assert_eq!(kind_and_text(free(number)).0, ErrorKind::Argument);
        free::<Number>(std::ptr::null_mut()).unwrap();
    }

    #[test]
    fn every_slot_has_its_place() {
        assert_eq!([0, 63, 64, 191, 192].map(place), [(0, 0), (0, 63), (1, 0), (1, 127), (2, 0)]);
        assert_eq!(place(SLOT_MASK).0, PIECES.len());
        assert!(slot(SLOT_MASK).is_none() && slot(SLOT_MASK - 1000).is_none());
    }

    #[test]
    fn an_old_id_never_names_a_new_object() {
        let old = insert::<Number>(1).unwrap();
        free(old).unwrap();
        let new: Vec<_> = (0..100).map(|i| insert::<Number>(i).unwrap()).collect();
        assert!(shared(old, "n").is_err());
        for (i, handle) in new.into_iter().enumerate() {
            assert_eq!(*shared(handle, "n").unwrap(), i as u64);
            free(handle).unwrap();
        }
    }

    #[test]
    fn shared_by_many_exclusive_by_one() {
        let number = insert::<Number>(1).unwrap();
        let first = shared(number, "n").unwrap();
        let second = shared(number, "n").unwrap();
        assert_eq!(kind_and_text(exclusive(number, "n")).0, ErrorKind::State);
        drop((first, second));
        let mut writer = exclusive(number, "n").unwrap();
        *writer += 1;
        assert_eq!(kind_and_text(shared(number, "n")).0, ErrorKind::State);
        assert_eq!(kind_and_text(exclusive(number, "n")).0, ErrorKind::State);
        // Freed while in use: the borrow stays good, the handle is gone.
        free(number).unwrap();
        assert_eq!(*writer, 2);
        drop(writer);
        assert_eq!(kind_and_text(shared(number, "n")).0, ErrorKind::Argument);
    }

    #[test]
    fn a_panic_poisons_what_it_had_borrowed() {
        let number = insert::<Number>(1).unwrap();
        guard("test", || {
            let _borrowed = exclusive(number, "n")?;
            panic!("half done");
        });
        let (kind, text) = kind_and_text(shared(number, "n"));
        assert_eq!(kind, ErrorKind::State);
        assert!(text.contains("internal error"), "{text}");
        free(number).unwrap();
    }

    #[test]
    fn many_threads_create_look_up_and_free() {
        let threads: Vec<_> = (0..8u64)
            .map(|thread| {
                std::thread::spawn(move || {
                    for i in 0..1000 {
                        let handle = insert::<Number>(thread * 1000 + i).unwrap();
                        assert_eq!(*shared(handle, "n").unwrap(), thread * 1000 + i);
                        free(handle).unwrap();
                        assert!(shared(handle, "n").is_err());
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
    }
}
