//! Why a call runs where it runs, in a sentence or two.

use super::crossover::{Caller, Speed};
use super::dispatcher::{Dispatcher, Least, amount};
use super::{Backend, Context};
use crate::backend::cuda;
use crate::backend::pool::Pool;
use crate::backend::table::Operation;
use crate::backend::tolerance;
use crate::tensor::error::{Error, Result, error};
use crate::tensor::sort_few;

impl Context {
    /// What would run a call of `size` in the operation's unit, and why; None for the choice as such. Measures a hand-off to
    /// the pool and asks for the driver, where that has not happened yet.
    pub fn explain(&self, operation: Operation, size: Option<u64>) -> String {
        let subject = subject(operation, size);
        match self.dispatcher.on_gpu(operation, size) {
            Some(why) => format!("{subject} runs on {}: {why}.", self.gpu_in_words()),
            None => {
                let cpu = self.dispatcher.explain(operation, size);
                format!("{subject} runs on {cpu}. {}.", self.explain_cuda(Some(operation), size))
            }
        }
    }

    /// What the context chose when it was made.
    pub fn explain_choice(&self) -> String {
        if self.backend() == Backend::Cuda {
            return format!("operations run on {}: {}.", self.gpu_in_words(), self.why);
        }
        let dispatcher = &self.dispatcher;
        let place = match &dispatcher.pooled {
            None => format!("{}: {}", dispatcher.on_caller(), self.why),
            Some((_, pool)) => {
                let from = match dispatcher.least {
                    Least::Measured => format!(
                        "calls too small to be worth a hand-off, {:.1} us as measured, run on the calling thread",
                        dispatcher.handoffs.get(pool, Caller::Outside) / 1e3
                    ),
                    Least::Size(0) => "calls of any size, as min_size_for_parallel is 0".into(),
                    Least::Size(least) => {
                        format!("calls below min_size_for_parallel, {least}, run on the calling thread")
                    }
                };
                format!("{}: {}; {from}", dispatcher.on_pool(pool), self.why)
            }
        };
        format!("operations run on {place}. {}.", self.explain_cuda(None, None))
    }

    /// What a GPU has to do with calls that run on the CPU: "cuda is not used: no driver: ...".
    pub fn explain_cuda(&self, operation: Option<Operation>, size: Option<u64>) -> String {
        let unused = |reason: &str| format!("cuda is not used: {reason}");
        let Some(offload) = &self.dispatcher.offload else {
            return match self.asked.backend {
                Some(backend) => unused(&format!("the context was made for {}", backend.name())),
                None => unused("prefer_cuda is 0"),
            };
        };
        if let (Some(size), Least::Size(least)) = (size, offload.least)
            && size < least
        {
            return unused(&format!("min_size_for_cuda is {least}"));
        }
        if let Err(error) = cuda::device(offload.ordinal) {
            return unused(&error.message);
        }
        if let Some(reason) = offload.lost() {
            return unused(&format!("{} failed: {reason}", self.gpu_in_words()));
        }
        if operation.is_some_and(|operation| offload.least == Least::Measured && !tolerance::is_exact(operation)) {
            return unused("its last bits may be others, and min_size_for_cuda is -1");
        }
        let from = match offload.least {
            Least::Size(least) => format!("from min_size_for_cuda, {least}, on"),
            Least::Measured => "where copies and all are measured to be faster there, with the same bits".into(),
        };
        let times = match (operation, size) {
            (Some(operation), Some(size)) if offload.least == Least::Measured => {
                match offload.times(operation, size, size_of::<f32>() as u64 * size) {
                    Some((Some(here), there)) => {
                        format!(": {:.1} us there against {:.1} here", there / 1e3, here / 1e3)
                    }
                    _ => ": this one is not measured yet".into(),
                }
            }
            _ => String::new(),
        };
        format!("{} takes calls {from}{times}", self.gpu_in_words())
    }

    /// "cuda (device 0: NVIDIA H100 80GB HBM3, compute capability 9.0, 79.6 GiB)".
    fn gpu_in_words(&self) -> String {
        self.dispatcher.gpu_in_words(self.asked.device)
    }
}

/// "add of 100 elements".
fn subject(operation: Operation, size: Option<u64>) -> String {
    let name = operation.name();
    size.map_or_else(|| name.into(), |size| format!("{name} of {}", amount(size, operation.unit())))
}

impl Dispatcher {
    fn on_caller(&self) -> String {
        match self.row {
            Backend::Scalar => "scalar, on the calling thread".into(),
            row => format!("{} ({}), on the calling thread", row.name(), self.level.name()),
        }
    }

    fn on_pool(&self, pool: &Pool) -> String {
        format!("parallel ({}, {} threads)", self.level.name(), pool.threads())
    }

    fn gpu_in_words(&self, ordinal: usize) -> String {
        let Ok(device) = cuda::device(ordinal) else { return format!("cuda (device {ordinal})") };
        let ((major, minor), memory) = (device.compute, device.memory as f64 / f64::from(1 << 30));
        format!("cuda (device {ordinal}: {}, compute capability {major}.{minor}, {memory:.1} GiB)", device.name)
    }

    /// Why a call runs on the GPU, if it does. What is measured speaks of tensors as large as the call.
    fn on_gpu(&self, operation: Operation, size: Option<u64>) -> Option<String> {
        let offload = self.offload.as_ref()?;
        if offload.lost().is_some() || cuda::device(offload.ordinal).is_err() {
            return None;
        }
        match (offload.least, size) {
            _ if offload.insists => Some("the context asked for it".into()),
            (Least::Size(0), _) => Some("min_size_for_cuda is 0".into()),
            (Least::Size(least), Some(size)) if size >= least => {
                Some(format!("not below min_size_for_cuda, {}", amount(least, operation.unit())))
            }
            (Least::Measured, Some(size)) if tolerance::is_exact(operation) => {
                let (here, there) = offload.times(operation, size, size_of::<f32>() as u64 * size)?;
                let here = here.filter(|&here| there < here)?;
                Some(format!("{:.1} us there against {:.1} us here, as measured", there / 1e3, here / 1e3))
            }
            _ => None,
        }
    }

    /// Where on the CPU, and why there.
    fn explain(&self, operation: Operation, size: Option<u64>) -> String {
        let unit = operation.unit();
        let Some((_, pool)) = &self.pooled else {
            return self.on_caller();
        };
        let (least, why) = match self.least {
            Least::Size(0) => return format!("{}: min_size_for_parallel is 0", self.on_pool(pool)),
            Least::Size(least) => (least, format!("min_size_for_parallel, {}", amount(least, unit))),
            Least::Measured => self.crossover_in_words(operation, pool),
        };
        match size {
            None => format!("{} from {why}; below that on {}", self.on_pool(pool), self.on_caller()),
            Some(size) if size >= least => format!("{}: not below {why}", self.on_pool(pool)),
            Some(_) => format!("{}: below {why}", self.on_caller()),
        }
    }

    /// The crossover of a call from outside the pool, and what it was measured from.
    fn crossover_in_words(&self, operation: Operation, pool: &Pool) -> (u64, String) {
        let unit = operation.unit();
        let least = self.crossover(operation, pool, Caller::Outside);
        let inside = pool.enter(|| self.crossover(operation, pool, Caller::Inside));
        let Speed { nanoseconds, samples } = self.speed(operation);
        let origin = match samples {
            0 => "assumed until calls were timed".into(),
            1 => "from 1 timed call".into(),
            _ => format!("from {samples} timed calls"),
        };
        let handoff = self.handoffs.get(pool, Caller::Outside) / 1e3;
        let words = format!(
            "the crossover of {} ({inside} inside a training run, where the threads are awake), measured: {handoff:.1} us for a \
             hand-off to {} threads, {nanoseconds:.3} ns {} on one, {origin}",
            amount(least, unit),
            pool.threads(),
            unit.one(),
        );
        (least, words)
    }

    /// For the log: the first call of an operation on a row. Says what is known, and measures nothing.
    pub fn explain_call(&self, operation: Operation, size: u64, row: Backend) -> String {
        let (name, unit) = (operation.name(), operation.unit());
        if let (Backend::Cuda, Some(offload)) = (row, &self.offload) {
            let why = match offload.least {
                _ if offload.insists => String::new(),
                Least::Size(least) => format!(", min_size_for_cuda is {least}"),
                Least::Measured => ", faster there as measured".into(),
            };
            return format!("{name}: {} on {}{why}", amount(size, unit), self.gpu_in_words(offload.ordinal));
        }
        let place = match &self.pooled {
            Some((_, pool)) if row == Backend::Parallel => self.on_pool(pool),
            _ => self.on_caller(),
        };
        let why = match (&self.pooled, self.least) {
            (None, _) => String::new(),
            (Some(_), Least::Size(least)) => format!(", min_size_for_parallel is {least}"),
            (Some(_), Least::Measured) if size <= unit.tiny() => ", too small for a hand-off".into(),
            (Some((_, pool)), Least::Measured) => {
                let Speed { samples, .. } = self.speed(operation);
                let least = self.crossover(operation, pool, Caller::here());
                format!(", the crossover is {} ({samples} timed calls)", amount(least, unit))
            }
        };
        format!("{name}: {} on {place}{why}", amount(size, unit))
    }
}

impl Operation {
    /// The operation of this name; the error lists names like it.
    pub fn named(name: &str) -> Result<Operation> {
        Operation::ALL.iter().copied().find(|operation| operation.name() == name).ok_or_else(|| unknown(name))
    }
}

fn unknown(name: &str) -> Error {
    let mut near: Vec<(usize, &str)> = Operation::ALL
        .iter()
        .map(|operation| operation.name())
        .map(|known| (if !name.is_empty() && known.contains(name) { 0 } else { distance(name, known) }, known))
        .filter(|&(distance, known)| distance <= known.len() / 2)
        .collect();
    sort_few(&mut near, |a, b| a < b);
    near.truncate(4);
    let near: Vec<&str> = near.into_iter().map(|(_, known)| known).collect();
    // A name from outside is shown only as far as it is a name.
    let shown: String = name.chars().take(64).collect();
    match near.as_slice() {
        [] => {
            error!(Argument, "operation is '{shown}', which does not exist; setun_operation_name lists those that do")
        }
        near => error!(Argument, "operation is '{shown}', which does not exist; near it are {}", near.join(", ")),
    }
}

/// Letters to change, insert or remove (Levenshtein), of a name no longer than the longest operation's twice over.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_levenshteins() {
        for (a, b, expected) in
            [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("add", "add", 0), ("ab", "ba", 2)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn an_unknown_name_brings_those_like_it() {
        let message = |name| Operation::named(name).unwrap_err().message;
        assert!(message("matmull").contains("near it are matmul"), "{}", message("matmull"));
        assert!(message("ternary").contains("matmul_ternary, "), "{}", message("ternary"));
        assert!(message("").contains("setun_operation_name"), "{}", message(""));
        assert!(message(&"x".repeat(1 << 20)).len() < 200);
        for &operation in Operation::ALL {
            assert_eq!(Operation::named(operation.name()).unwrap(), operation);
            assert_eq!(operation.c_name().to_str().unwrap(), operation.name());
        }
    }
}
