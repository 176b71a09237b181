//! What is made from the table's declaration: the struct itself, the list of its operations, a table whose entries ask the
//! dispatcher which row runs the call, one whose entries bring tensors from a device, and one whose entries keep what a call
//! wrote. So a new kernel is declared in `table.rs`, and nowhere else in this folder.

/// Declares [`Kernels`](super::table::Kernels), [`Operation`](super::table::Operation),
/// [`DISPATCHED`](super::table::DISPATCHED), `ON_HOST` and [`RECORDED`](super::table::RECORDED). Every entry is a function of a
/// `&Launch` and named arguments that returns a `Result`.
macro_rules! operations {
    (
        $(#[$about:meta])*
        pub struct Kernels {
            $(
                $(#[$contract:meta])*
                pub $name:ident: fn(&Launch $(, $argument:ident: $type:ty)* $(,)?) -> $result:ty,
            )*
        }
    ) => {
        $(#[$about])*
        pub struct Kernels {
            $(
                $(#[$contract])*
                pub $name: fn(&Launch $(, $argument: $type)*) -> $result,
            )*
        }

        /// The operations: one for each entry of [`Kernels`], under its name and in its order.
        #[allow(non_camel_case_types)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Operation {
            $($name,)*
        }

        impl Operation {
            pub const ALL: &'static [Operation] = &[$(Operation::$name,)*];

            pub const fn name(self) -> &'static str {
                match self {
                    $(Operation::$name => stringify!($name),)*
                }
            }

            /// The name with a NUL at its end, for C.
            pub const fn c_name(self) -> &'static std::ffi::CStr {
                let name = match self {
                    $(Operation::$name => concat!(stringify!($name), "\0"),)*
                };
                match std::ffi::CStr::from_bytes_with_nul(name.as_bytes()) {
                    Ok(name) => name,
                    Err(_) => panic!("an identifier holds no NUL"),
                }
            }
        }

        /// The table of a context: each entry asks the launch's dispatcher which row takes the call, and hands it on. A launch
        /// without a dispatcher runs as it is, on the vector kernels.
        pub const DISPATCHED: Kernels = Kernels { $($name: dispatched::$name,)* };

        /// The table of a benchmark that compares: each entry makes the call on the table that is being looked at, and keeps
        /// what it wrote and returned.
        pub const RECORDED: Kernels = Kernels { $($name: recorded::$name,)* };

        mod recorded {
            use super::*;
            // An argument that is no view has no shape, and one that is not mutable is not written.
            #[allow(unused_imports)]
            use crate::backend::benchmark::recording::{self, NotWritten, Returned, Written};
            #[allow(unused_imports)]
            use crate::backend::dispatch::shape::{Argument, NoShape};

            $(
                #[allow(clippy::too_many_arguments)]
                pub fn $name(launch: &Launch $(, $argument: $type)*) -> $result {
                    let kernels = recording::begin(Operation::$name, &[$(Argument(&$argument).dims()),*]);
                    let returned = (kernels.$name)(launch $(, $argument)*)?;
                    $(recording::keep(Written(&$argument).copy())?;)*
                    recording::keep(returned.tensor())?;
                    Ok(returned)
                }
            )*
        }

        mod dispatched {
            use super::*;
            // An argument that is no view has no shape: see `shape.rs`.
            #[allow(unused_imports)]
            use crate::backend::dispatch::shape::{Argument, NoShape};

            $(
                #[allow(clippy::too_many_arguments)]
                pub fn $name(launch: &Launch $(, $argument: $type)*) -> $result {
                    let Some(dispatcher) = launch.executor.dispatcher() else {
                        return (crate::backend::simd::KERNELS.$name)(launch $(, $argument)*);
                    };
                    let bytes = 0 $(+ Argument(&$argument).bytes())*;
                    let on_device = false $(|| Argument(&$argument).on_device())*;
                    let shapes: &[&[usize]] = &[$(Argument(&$argument).dims()),*];
                    let mut call = dispatcher.begin(Operation::$name, shapes, bytes, on_device);
                    loop {
                        let result = (call.kernels().$name)(call.launch() $(, $argument)*);
                        // A call that a GPU could not do may be made again, on the CPU.
                        if call.end(result.as_ref().err()) {
                            return result;
                        }
                    }
                }
            )*
        }

        /// The table of operations that a GPU leaves to the host after all: each entry brings its tensors to the host, makes the
        /// call on the vector row, and takes back what it wrote.
        #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
        pub const ON_HOST: Kernels = Kernels { $($name: on_host::$name,)* };

        #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
        mod on_host {
            use super::*;
            // What is no view stays where it is: see `cuda/host.rs`.
            #[allow(unused_imports)]
            use crate::backend::cuda::host::{Lent, Plain, Stays, Traveller, Visit};

            $(
                #[allow(clippy::too_many_arguments)]
                pub fn $name(launch: &Launch $(, $argument: $type)*) -> $result {
                    let mut visit = Visit::new(launch);
                    // SAFETY: nothing that is brought outlives the visit.
                    $(let mut $argument = unsafe { Traveller($argument).bring(&mut visit) }?;)*
                    let result = (crate::backend::simd::KERNELS.$name)(launch $(, Lent(&mut $argument).lend())*)?;
                    visit.end()?;
                    Ok(result)
                }
            )*
        }

        /// For tests, the `cuda` row of a caller whose tensors live on the device: each entry brings them there first.
        #[cfg(all(test, target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
        pub const ON_DEVICE: Kernels = Kernels { $($name: on_device::$name,)* };

        #[cfg(all(test, target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
        mod on_device {
            use super::*;
            use crate::backend::cuda::device_views::Abroad;
            #[allow(unused_imports)]
            use crate::backend::cuda::host::{Lent, Plain, Stays, Traveller};

            $(
                #[allow(clippy::too_many_arguments)]
                pub fn $name(launch: &Launch $(, $argument: $type)*) -> $result {
                    let mut abroad = Abroad::new(launch);
                    // SAFETY: nothing that is brought outlives `abroad`.
                    $(let mut $argument = unsafe { Traveller($argument).bring(&mut abroad) }?;)*
                    let result = (crate::backend::cuda::KERNELS.$name)(launch $(, Lent(&mut $argument).lend())*)?;
                    abroad.end()?;
                    Ok(result)
                }
            )*
        }
    };
}

pub(super) use operations;
