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
use parking_lot::{ArcRwLockReadGuard, ArcRwLockWriteGuard, RawRwLock, RwLock};
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

struct Slot {
    generation: usize,
    name: &'static str,
    /// An `Arc<RwLock<Guarded<T>>>` of the T that `name` stands for.
    object: Option<Box<dyn Any + Send + Sync>>,
}

struct Table {
    slots: Vec<Slot>,
    vacant: Vec<usize>,
}

static TABLE: RwLock<Table> = RwLock::new(Table { slots: Vec::new(), vacant: Vec::new() });

/// A fork copies the table as it is at that moment, and only the thread that forks. Were another thread inside of the table
/// then, the child would wait for it forever: so the forking thread waits for the table, and both processes let go of it.
fn hold_table_in_forks() {
    #[cfg(unix)]
    {
        use parking_lot::lock_api::RawRwLock as _;
        use std::sync::Once;

        unsafe extern "C" {
            fn pthread_atfork(
                prepare: unsafe extern "C" fn(),
                parent: unsafe extern "C" fn(),
                child: unsafe extern "C" fn(),
            ) -> i32;
        }
        unsafe extern "C" fn lock() {
            // SAFETY: the raw lock is only locked, and `unlock` follows in both processes.
            unsafe { TABLE.raw() }.lock_exclusive();
        }
        unsafe extern "C" fn unlock() {
            // SAFETY: `lock` ran on this thread, before the fork.
            unsafe { TABLE.raw().unlock_exclusive() }
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
    let mut table = TABLE.write();
    let slot = match table.vacant.pop() {
        Some(slot) => slot,
        None => {
            let slot = table.slots.len();
            ensure!(slot < SLOT_MASK, Memory, "there are {slot} handles already");
            reserve(&mut table.slots, 1)?;
            // Room to return every slot to `vacant`, so that a free never allocates.
            let (all, vacant) = (table.slots.len() + 1, table.vacant.len());
            reserve(&mut table.vacant, all - vacant)?;
            table.slots.push(Slot { generation: 0, name: H::NAME, object: None });
            slot
        }
    };
    let entry = &mut table.slots[slot];
    entry.name = H::NAME;
    entry.object = Some(object);
    Ok((MARK | entry.generation << SLOT_BITS | slot) as *mut H)
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
    let object = {
        let mut table = TABLE.write();
        let slot = table.find::<H>(handle.addr(), "the handle")?;
        let entry = &mut table.slots[slot];
        let object = entry.object.take();
        if entry.generation < LAST_GENERATION {
            entry.generation += 1;
            table.vacant.push(slot);
        }
        object
    };
    drop(object); // after the table is unlocked: dropping a large object takes time
    Ok(())
}

/// Finds the object of a handle and hands it to `borrow`, which keeps what it needs: the table is locked no longer than that.
fn lookup<H: Handle, R>(
    handle: *const H,
    argument: &str,
    borrow: impl FnOnce(&Arc<RwLock<Guarded<H::Object>>>) -> R,
) -> Result<R> {
    let table = TABLE.read();
    let slot = table.find::<H>(handle.addr(), argument)?;
    let object = table.slots[slot].object.as_ref();
    object
        .and_then(|object| object.downcast_ref())
        .map(borrow)
        .ok_or_else(|| error!(Internal, "{argument}: the handle table holds another type than {}", H::NAME))
}

impl Table {
    /// The slot that the id names, when it is alive and of the expected type.
    fn find<H: Handle>(&self, id: usize, argument: &str) -> Result<usize> {
        ensure!(id != 0, Argument, "{argument} is NULL");
        let slot = id & SLOT_MASK;
        let generation = (id & !MARK) >> SLOT_BITS;
        let entry = self.slots.get(slot).filter(|entry| id & MARK != 0 && generation <= entry.generation);
        let entry = entry.ok_or_else(|| error!(Argument, "{argument} is not a handle of this library: {id:#x}"))?;
        ensure!(
            generation == entry.generation && entry.object.is_some(),
            Argument,
            "{argument} was freed already: {id:#x}"
        );
        ensure!(entry.name == H::NAME, Argument, "{argument} is a {}, expected a {}", entry.name, H::NAME);
        Ok(slot)
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
