//! What is made from the table's declaration: the struct itself, the list of its operations, a table whose entries ask the
//! dispatcher which row runs the call, and one whose entries keep what a call wrote. So a new kernel is declared in `table.rs`, and nowhere else in this folder.

/// Declares [`Kernels`](super::table::Kernels), [`Operation`](super::table::Operation),
/// [`DISPATCHED`](super::table::DISPATCHED) and [`RECORDED`](super::table::RECORDED). Every entry is a function of a `&Launch` and named arguments that returns a
/// `Result`.
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
                    let call = dispatcher.begin(Operation::$name, &[$(Argument(&$argument).dims()),*], bytes);
                    let result = (call.kernels().$name)(call.launch() $(, $argument)*);
                    call.end(result.is_ok());
                    result
                }
            )*
        }
    };
}

pub(super) use operations;
