//! Another Rust library in the same process, with a standard library, threads and panics of its own.

use std::panic::{catch_unwind, set_hook};

/// Four threads of which one panics; the sum of what the others return.
#[unsafe(no_mangle)]
pub extern "C" fn other_work(n: u64) -> u64 {
    set_hook(Box::new(|_| ()));
    let threads: Vec<_> = (0..4)
        .map(|i| {
            std::thread::spawn(move || {
                catch_unwind(|| if i == 3 { panic!("on purpose") } else { (0..n).sum::<u64>() + i }).unwrap_or(1000)
            })
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum()
}
